"""Tensors and the DataLoader of PyTorch as data, which tgdonnx takes without importing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for, options_for
from tgdonnx.data.array_likes import as_array
from tgdonnx.errors import DataError

pytestmark = pytest.mark.torch
MODEL = models.chain(1)
DATA = data_for(MODEL)


class Named(torch.utils.data.Dataset[Any]):
    """Samples by name, with what nobody needs beside them."""

    def __len__(self) -> int:
        return len(DATA["x"])

    def __getitem__(self, place: int) -> dict[str, Any]:
        arrays = {name: torch.from_numpy(array[place]) for name, array in DATA.items()}
        return {**arrays, "path": f"{place}.png"}


def finetune(data: Any, folder: Path) -> bytes:
    folder.mkdir()
    report = tgdonnx.finetune(MODEL, data, folder / "tuned.onnx", tgdonnx.Phi(PHI), options_for())
    assert report.verify.ok
    return (folder / "tuned.onnx").read_bytes()


def test_tensors_and_loaders_give_the_model_that_the_same_arrays_give(tmp_path: Path) -> None:
    expected = finetune(DATA, tmp_path / "arrays")
    tensors = {name: torch.from_numpy(array) for name, array in DATA.items()}
    assert finetune(tensors, tmp_path / "tensors") == expected
    assert finetune(DataLoader(TensorDataset(*tensors.values()), batch_size=4), tmp_path / "loader") == expected
    assert finetune(DataLoader(Named(), batch_size=5), tmp_path / "named") == expected


def test_a_dataset_without_a_loader_is_refused() -> None:
    with pytest.raises(DataError, match="got Named; put what makes batches around it"):
        tgdonnx.examine(MODEL, Named())


def test_tensors_that_numpy_cannot_hold_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"x: Tensor gives no array of numpy: .*requires grad"):
        as_array(torch.zeros(2, requires_grad=True), "x")
    with pytest.raises(DataError, match=r"x: Tensor gives no array of numpy: .*BFloat16"):
        as_array(torch.zeros(2, dtype=torch.bfloat16), "x")
    assert np.array_equal(as_array(torch.arange(3), "x"), np.arange(3))
