"""From arrays that a program holds to a tuned model that is proved, and runs on them that go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.foreign_arrays import Capsule, Loader, Tensor, in_batches
from tests.support.models import Array
from tests.support.tuning import PHI, data_for, interrupt, options_for
from tgdonnx.errors import ArtifactsError, DataError

MODEL = models.chain(1)
DATA = data_for(MODEL)

WAYS: dict[str, Callable[[dict[str, Array]], Any]] = {
    "tensors": lambda arrays: {name: Tensor(array) for name, array in arrays.items()},
    "DLPack": lambda arrays: {name: Capsule(array) for name, array in arrays.items()},
    "list of batches": lambda arrays: in_batches(arrays, 4, 2),
    "generator": lambda arrays: (tuple(batch.values()) for batch in in_batches(arrays, 4, 2)),
}


def finetune(folder: Path, data: Any, **given: Any) -> bytes:
    folder.mkdir()
    report = tgdonnx.finetune(MODEL, data, folder / "tuned.onnx", tgdonnx.Phi(PHI), options_for(), **given)
    assert report.verify.ok
    assert tgdonnx.verify(MODEL, folder / "tuned.onnx").changed == report.verify.changed != ()
    return (folder / "tuned.onnx").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return finetune(tmp_path_factory.mktemp("expected") / "run", DATA)


@pytest.mark.parametrize("way", WAYS)
def test_the_tuned_model_is_bit_for_bit_that_of_the_same_arrays_of_numpy(
    way: str, tmp_path: Path, expected: bytes
) -> None:
    assert finetune(tmp_path / "run", WAYS[way](DATA)) == expected


def test_a_loader_that_shuffles_is_read_once_for_a_run_with_validation_and_a_blend(tmp_path: Path) -> None:
    loader, held_out, old = (Loader((DATA["x"] + shift, DATA["target"]), 2) for shift in (0, 1, 2))
    run_data = tgdonnx.RunData(loader, validation=held_out, retain=old)
    assert tgdonnx.examine(MODEL, run_data).fits
    finetune(tmp_path / "run", run_data, results=tgdonnx.Results(blend="auto"))
    assert [each.passes for each in (loader, held_out, old)] == [1, 1, 1]


def test_a_run_on_batches_goes_on_with_the_same_values_alone(tmp_path: Path) -> None:
    tgdonnx.mask(MODEL, tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "run")
    batches = in_batches(DATA, 4, 2)
    with pytest.raises(InterruptedError):
        tgdonnx.train(tmp_path / "run", iter(batches), options_for(), watch=tgdonnx.Watch(on_progress=interrupt))
    other = in_batches({**DATA, "x": DATA["x"] + np.float32(1e-3)}, 4, 2)
    for wrong in (other, Loader(tuple(DATA.values()), 2)):
        with pytest.raises(ArtifactsError, match="the run was started with other data"):
            tgdonnx.train(tmp_path / "run", wrong, options_for(), resume=True)
    assert tgdonnx.train(tmp_path / "run", iter(batches), options_for(), resume=True).steps == 4


def test_data_is_told_to_fit_in_the_names_that_it_goes_by() -> None:
    report = tgdonnx.examine(MODEL, [tuple(DATA.values())])
    assert report.fits
    assert not report.problems
    assert [(each.cases, each.place) for each in report.found] == [(1, "the data, batch 0")] * 2
    wrong = tgdonnx.examine(MODEL, [(DATA["x"],)])
    assert not wrong.fits
    assert "has no array 'target'" in wrong.problems[0].problem


def test_what_only_looks_takes_batches_and_tensors_too(tmp_path: Path) -> None:
    assert tgdonnx.sweep(MODEL, [tuple(DATA.values())], phis=(PHI,)) == tgdonnx.sweep(MODEL, DATA, phis=(PHI,))
    tgdonnx.apply(MODEL, Tensor(DATA["x"]), tmp_path / "tensor.npy")
    tgdonnx.apply(MODEL, DATA["x"], tmp_path / "array.npy")
    assert (tmp_path / "tensor.npy").read_bytes() == (tmp_path / "array.npy").read_bytes()


def test_a_comparison_in_memory_goes_on_with_the_same_values_alone(tmp_path: Path) -> None:
    data, held_out = in_batches(DATA, 4, 2), in_batches(DATA, 3, 3)[:1]
    options = replace(options_for(), epochs=1)
    for _ in range(2):
        tgdonnx.compare(MODEL, tgdonnx.RunData(iter(data), held_out), tmp_path / "all", ("last:1",), options)
    other = tgdonnx.RunData(in_batches({**DATA, "x": DATA["x"] + 1}, 4, 2), held_out)
    with pytest.raises(tgdonnx.errors.OutputError, match="holds a comparison with data = in memory, SHA-256 "):
        tgdonnx.compare(MODEL, other, tmp_path / "all", ("last:1", "first:1"), options)


def test_what_is_wrong_with_data_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="batch 1: 'x': Tensor gives no array of numpy: it lies on cuda:0"):
        tgdonnx.finetune(
            MODEL,
            [DATA, {**DATA, "x": Tensor(DATA["x"], "it lies on cuda:0")}],
            tmp_path / "tuned.onnx",
            tgdonnx.Phi(PHI),
        )
    assert list(tmp_path.iterdir()) == []
