"""Data matched to a model's inputs: every way it may not fit is told, and batches lose and repeat nothing."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import Array
from tgdonnx.artifacts import TensorSpec
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.finetuning import Dataset, open_dataset

X = TensorSpec("x", "float32", (None, 3, None, 5))
SIZE = TensorSpec("size", "int64", (None,))
TARGET = TensorSpec("target", "float32", (None, 1, None, 5))
INPUTS = (X, SIZE, TARGET)


def arrays(samples: int = 6, **changed: Optional[Array]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    good: dict[str, Optional[Array]] = {
        "target": rng.normal(size=(samples, 1, 4, 5)).astype(np.float32),
        "x": rng.normal(size=(samples, 3, 4, 5)).astype(np.float32),
        "size": np.arange(samples),
        **changed,
    }
    return {name: array for name, array in good.items() if array is not None}


def saved(tmp_path: Path, form: str, content: dict[str, Array]) -> Path:
    if form == "npy":
        directory = tmp_path / "data"
        directory.mkdir()
        for name, array in content.items():
            np.save(directory / f"{name}.npy", array)
        return directory
    path = tmp_path / "data.npz"
    (np.savez_compressed if form == "compressed" else np.savez)(path, **content)
    return path


@pytest.mark.parametrize("form", ["npz", "compressed", "npy"])
def test_arrays_of_a_file_come_in_the_order_of_the_models_inputs(form: str, tmp_path: Path) -> None:
    content = arrays()
    dataset = open_dataset(saved(tmp_path, form, content), INPUTS)
    assert len(dataset) == 6
    assert len(dataset.arrays) == 3
    for array, name in zip(dataset.arrays, ("x", "size", "target")):
        assert np.array_equal(array, content[name])
        assert array.dtype == content[name].dtype


def test_arrays_in_memory_are_taken_as_they_are_and_the_callers_mapping_is_left_alone() -> None:
    content = arrays()
    names = list(content)
    dataset = open_dataset(content, INPUTS)
    assert dataset.arrays[0] is content["x"]
    content["noisy"] = content.pop("x")
    open_dataset(content, INPUTS, renamed={"noisy": "x"})
    assert list(content) == ["target", "size", "noisy"]
    assert sorted(names) == ["size", "target", "x"]


def test_arrays_of_npy_files_stay_on_disk(tmp_path: Path) -> None:
    dataset = open_dataset(saved(tmp_path, "npy", arrays()), INPUTS)
    assert all(isinstance(array, np.memmap) for array in dataset.arrays)


def test_arrays_can_be_renamed_to_inputs() -> None:
    content = arrays()
    content["noisy"], content["clean"] = content.pop("x"), content.pop("target")
    dataset = open_dataset(content, INPUTS, renamed={"noisy": "x", "clean": "target"})
    assert dataset.arrays[0] is content["noisy"]
    assert dataset.arrays[2] is content["clean"]


def test_two_arrays_can_change_places() -> None:
    content = arrays(target=np.zeros((6, 3, 4, 5), np.float32))
    specs = (X, SIZE, TensorSpec("target", "float32", None))
    dataset = open_dataset(content, specs, renamed={"x": "target", "target": "x"})
    assert dataset.arrays[0] is content["target"]
    assert dataset.arrays[2] is content["x"]


BAD: dict[str, tuple[dict[str, Optional[Array]], str]] = {
    "an array is missing": ({"size": None}, "no array 'size'; expected x, size, target, found target, x"),
    "an array too many": ({"mask": np.zeros(6)}, "'mask' that the model does not take; expected x, size, target"),
    "another dtype": (
        {"x": np.zeros((6, 3, 4, 5))},
        r"'x' to be float32 \[\?, 3, \?, 5\], found float64 \[6, 3, 4, 5\]; convert it",
    ),
    "bytes for numbers": ({"x": np.zeros((6, 3, 4, 5), np.uint8)}, "found uint8"),
    "the other byte order": ({"x": np.zeros((6, 3, 4, 5), ">f4")}, "found >f4"),
    "text": ({"size": np.array(["a"] * 6)}, "'size' to be int64"),
    "a rank too low": ({"x": np.zeros((3, 4, 5), np.float32)}, r"\[\?, 3, \?, 5\], found float32 \[3, 4, 5\]"),
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
    spec = TensorSpec("x", "float32", (4, 2))
    assert len(open_dataset({"x": np.zeros((8, 2), np.float32)}, (spec,))) == 8


def test_an_open_rank_takes_any_shape() -> None:
    spec = TensorSpec("x", "float32", None)
    assert len(open_dataset({"x": np.zeros((2, 3, 4, 5, 6), np.float32)}, (spec,))) == 2


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
        open_dataset(arrays(), INPUTS, renamed=renamed)


def broken(name: str, tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    if name == "missing":
        return path
    if name == "empty file":
        path.write_bytes(b"")
    elif name == "no archive":
        path.write_bytes(b"PK\x03\x04 this is no zip")
    elif name == "cut off":
        np.savez(path, **arrays())
        path.write_bytes(path.read_bytes()[:-300])
    elif name == "damaged inside":
        np.savez_compressed(path, **arrays(samples=200))
        data = bytearray(path.read_bytes())
        data[2000:2040] = bytes(40)
        path.write_bytes(data)
    elif name == "a single array":
        with path.open("wb") as file:
            np.save(file, np.zeros((6, 3, 4, 5), np.float32))
    elif name == "pickled":
        np.savez(path, **{**arrays(), "size": np.array([{"a": 1}] * 6)})
    elif name == "another kind of file":
        path = tmp_path / "data.csv"
        path.write_text("1,2,3")
    elif name == "empty directory":
        path = tmp_path / "data"
        path.mkdir()
    else:
        path = saved(tmp_path, "npy", arrays())
        if name == "an array file cut off":
            (path / "x.npy").write_bytes((path / "x.npy").read_bytes()[:-4])
        elif name == "an array file without content":
            (path / "x.npy").write_bytes(b"")
        else:
            with (path / "x.npy").open("wb") as file:
                np.savez(file, x=arrays()["x"])
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("missing", "empty file", "no archive", "cut off", "damaged inside", "a single array", "pickled"),
        *("another kind of file", "empty directory", "an array file cut off", "an array file without content"),
        "an array file that is an archive",
    ],
)
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    path = broken(name, tmp_path)
    with pytest.raises(DataError) as caught:
        open_dataset(path, INPUTS)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    del caught
    gc.collect()  # a file that was left open is warned of here, and a warning is an error


# Batches.


def numbered(samples: int) -> Dataset:
    return Dataset((np.arange(samples), 10 * np.arange(samples).reshape(-1, 1)))


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 9), st.integers(0, 5))
def test_batches_hold_every_sample_once_and_keep_what_belongs_together(
    samples: int, size: int, seed: int, skipped: int
) -> None:
    order = np.random.default_rng([seed, 3]).permutation(samples)
    batches = list(numbered(samples).batches(size, epoch=3, seed=seed))
    later = list(numbered(samples).batches(size, epoch=3, seed=seed, start=skipped))
    assert [a.tolist() for batch in later for a in batch] == [a.tolist() for batch in batches[skipped:] for a in batch]
    assert [len(batch[0]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-samples // size)
    taken = np.concatenate([batch[0] for batch in batches])
    assert sorted(taken) == list(range(samples))
    for start, (first, second) in zip(range(0, samples, size), batches):
        assert sorted(first) == sorted(order[start : start + size])
        assert np.array_equal(second[:, 0], 10 * first)


def test_without_an_order_batches_follow_the_arrays() -> None:
    assert [batch[0].tolist() for batch in numbered(7).batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_batches_are_contiguous_arrays_of_their_own(form: str, tmp_path: Path) -> None:
    turned: dict[str, Any] = {"x": np.asfortranarray(arrays()["x"])}
    dataset = open_dataset(saved(tmp_path, form, {**arrays(), **turned}), INPUTS)
    order = np.random.default_rng([2, 1]).permutation(len(dataset))
    for batch in dataset.batches(4, epoch=1, seed=2):
        for array in batch:
            assert type(array) is np.ndarray
            assert array.flags.c_contiguous
        assert np.array_equal(batch[0], turned["x"][np.sort(order[:4])])
        order = order[4:]
