"""Data matched to a model's inputs: every way it may not fit is told."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from tests.data.arrays_of_a_model import INPUTS, SIZE, X, arrays, saved
from tests.data.datasets import everything, spec
from tests.support.models import Array
from tgdonnx.data import DataOptions, open_dataset
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.graphs.tensor_specs import TensorSpec


def test_arrays_can_be_renamed_to_inputs() -> None:
    content = arrays()
    content["noisy"], content["clean"] = content.pop("x"), content.pop("target")
    x, _, target = everything(open_dataset(content, INPUTS, DataOptions(map={"noisy": "x", "clean": "target"})))
    assert np.array_equal(x, content["noisy"])
    assert np.array_equal(target, content["clean"])


def test_two_arrays_can_change_places() -> None:
    content = arrays(target=np.zeros((6, 3, 4, 5), np.float32))
    specs = (X, SIZE, TensorSpec("target", "float32", None, role="target"))
    x, _, target = everything(open_dataset(content, specs, DataOptions(map={"x": "target", "target": "x"})))
    assert np.array_equal(x, content["target"])
    assert np.array_equal(target, content["x"])


BAD: dict[str, tuple[dict[str, Optional[Array]], str]] = {
    "an array is missing": ({"size": None}, "no array 'size'; expected x, size, target, found target, x"),
    "another dtype": (
        {"x": np.zeros((6, 3, 4, 5))},
        r"'x' to be float32 \[\?, 3, \?, 5\], found float64 \[6, 3, 4, 5\]; convert it",
    ),
    "bytes for numbers": ({"x": np.zeros((6, 3, 4, 5), np.uint8)}, "found uint8"),
    "the other byte order": ({"x": np.zeros((6, 3, 4, 5), ">f4")}, "found >f4"),
    "text": ({"size": np.array(["a"] * 6)}, "'size' to be int64|size.npy holds <U1 values, not numbers"),
    "a rank too low": ({"x": np.zeros((4, 5), np.float32)}, r"\[\?, 3, \?, 5\], found float32 \[4, 5\]"),
    "one sample for six": (
        {"x": np.zeros((3, 4, 5), np.float32)},
        "number of samples: {'x': 1, 'size': 6, 'target': 6}",
    ),
    "a rank too high": ({"x": np.zeros((6, 3, 4, 5, 1), np.float32)}, r"found float32 \[6, 3, 4, 5, 1\]"),
    "channels last": ({"x": np.zeros((6, 4, 5, 3), np.float32)}, r"found float32 \[6, 4, 5, 3\]"),
    "no axis for samples": ({"size": np.array(3)}, "'size'"),
    "other numbers of samples": (
        {"size": np.arange(5)},
        "differ in the number of samples: {'x': 6, 'size': 5, 'target': 6}",
    ),
    "NaN": (
        {"x": np.where(np.arange(360).reshape(6, 3, 4, 5) == 217, np.nan, 0).astype(np.float32)},
        r"x\[3, 1, 3, 2\] is nan",
    ),
    "infinity": ({"target": np.full((6, 1, 4, 5), -np.inf, np.float32)}, r"target\[0, 0, 0, 0\] is -inf"),
}


@pytest.mark.parametrize("form", ["memory", "npz", "npy"])
@pytest.mark.parametrize("case", BAD)
def test_data_that_does_not_fit_is_told(case: str, form: str, tmp_path: Path) -> None:
    changed, message = BAD[case]
    content = arrays(**changed)
    source = content if form == "memory" else saved(tmp_path, form, content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(source, INPUTS)
    text = str(caught.value)
    assert text.startswith("the data" if form == "memory" else str(source)) or str(source) in text or "the data" in text
    assert len(text.splitlines()) == 1
    assert isinstance(caught.value, (TgdonnxError, ValueError))


def test_no_sample_at_all_is_told() -> None:
    with pytest.raises(DataError, match="holds no sample"):
        open_dataset(arrays(samples=0), INPUTS)


def test_a_number_that_is_not_finite_is_found_wherever_it_is() -> None:
    x = np.zeros((200, 1), np.float32)
    x[131] = np.nan
    with pytest.raises(DataError, match=r"x\[131, 0\] is nan"):
        open_dataset({"x": x}, (TensorSpec("x", "float32", None),))


def test_a_batch_size_that_the_model_fixes_is_no_number_of_samples() -> None:
    x_spec = TensorSpec("x", "float32", (4, 2))
    assert len(open_dataset({"x": np.zeros((8, 2), np.float32)}, (x_spec,))) == 8


def test_an_open_rank_takes_any_shape() -> None:
    x_spec = TensorSpec("x", "float32", None)
    assert len(open_dataset({"x": np.zeros((2, 3, 4, 5, 6), np.float32)}, (x_spec,))) == 2


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"noisy": "x"}, "no array 'noisy' to map to 'x'; it has size, target, x"),
        ({"size": "x"}, "two arrays for the input 'x'"),
        ({"x": "image"}, "no array 'x'; expected x, size, target, found image, size, target"),
    ],
)
def test_a_name_that_cannot_be_mapped_is_told(renamed: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(arrays(), INPUTS, DataOptions(map=renamed))


def test_arrays_that_nothing_takes_are_left_out_and_named() -> None:
    x = np.zeros((2, 1), np.float32)
    more = {f"more{number}": np.zeros(number) for number in range(7)}
    dataset = open_dataset({"x": x, "target": x, **more}, (spec("x", 1), spec("target", 1)))
    named = ", ".join(f"'more{number}'" for number in range(5))
    assert dataset.remarks == (f"left out: {named} and 2 more; what is taken is x, target",)
    assert [array.shape for array in next(dataset.batches(2))] == [(2, 1), (2, 1)]
