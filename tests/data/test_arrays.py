"""Arrays of files, directories and in memory: in the order of the model, untouched, and what cannot be read is named."""

from __future__ import annotations

import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.arrays_of_a_model import INPUTS, arrays, saved
from tests.data.datasets import everything, spec
from tgdonnx.data import DataOptions, open_dataset, open_source
from tgdonnx.data.arrays import open_npy
from tgdonnx.data.lazy_arrays import BLOCK_BYTES, regions
from tgdonnx.errors import DataError


@pytest.mark.parametrize("form", ["npz", "compressed", "npy"])
def test_arrays_of_a_file_come_in_the_order_of_the_models_inputs(form: str, tmp_path: Path) -> None:
    content = arrays()
    dataset = open_dataset(saved(tmp_path, form, content), INPUTS)
    assert len(dataset) == 6
    found = everything(dataset)
    assert len(found) == 3
    for array, name in zip(found, ("x", "size", "target")):
        assert np.array_equal(array, content[name])
        assert array.dtype == content[name].dtype


def test_the_callers_mapping_and_arrays_are_left_alone() -> None:
    content = arrays()
    before = {name: array.copy() for name, array in content.items()}
    content["noisy"] = content.pop("x")
    dataset = open_dataset(content, INPUTS, DataOptions(map={"noisy": "x"}))
    for batch in dataset.batches(4):
        for array in batch:
            array[...] = 0
    assert list(content) == ["target", "size", "noisy"]
    for name, array in before.items():
        assert np.array_equal(content["noisy" if name == "x" else name], array)


def test_of_npy_files_no_array_stays_in_memory(tmp_path: Path) -> None:
    dataset = open_dataset(saved(tmp_path, "npy", arrays()), INPUTS)
    np.save(tmp_path / "data" / "x.npy", np.full((6, 3, 4, 5), 7, np.float32))
    assert (everything(dataset)[0] == 7).all(), "what is read is what lies in the file now"


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


# Archives and files of other kinds.


@pytest.mark.parametrize("order", ["C", "F"])
def test_regions_of_a_file_are_those_of_its_array_in_either_order(order: Any, tmp_path: Path) -> None:
    values = np.asarray(np.random.default_rng(0).normal(size=(5, 6, 7)), order=order)
    np.save(tmp_path / "a.npy", values)
    stored = open_npy(tmp_path / "a.npy")
    assert stored.shape == (5, 6, 7)
    for region in ((slice(0, 5), slice(0, 6), slice(0, 7)), (slice(2, 4), slice(1, 6), slice(3, 4))):
        assert np.array_equal(stored.read(region), values[region])
    assert stored.read((slice(2, 2), slice(0, 6), slice(0, 7))).shape == (0, 6, 7)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.sampled_from([1, 4, 2**18, 2**21]))
def test_regions_cover_an_array_once_in_pieces_that_fit_into_memory(sizes: list[int], itemsize: int) -> None:
    marks = np.zeros(sizes, np.int64)
    for region in regions(tuple(sizes), itemsize):
        assert marks[region].size * itemsize <= max(BLOCK_BYTES, itemsize)
        marks[region] += 1
    assert (marks == 1).all()


def test_a_directory_of_archives_is_a_case_per_archive_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, mark in (("b", 2), ("a", 1), ("c", 3)):
        np.savez(tmp_path / f"{name}.npz", **arrays(2, x=np.full((2, 3, 4, 5), mark, np.float32)))
    dataset = open_dataset(tmp_path, INPUTS)
    assert everything(dataset)[0][:, 0, 0, 0].tolist() == [1, 1, 2, 2, 3, 3]
    assert dataset.describe()["cases"] == 3


def test_what_is_no_data_is_left_alone_and_said(tmp_path: Path) -> None:
    path = saved(tmp_path, "npy", arrays())
    (path / "notes.txt").write_text("cold day")
    (path / ".DS_Store").write_bytes(b"x")
    (path / "old").mkdir()
    dataset = open_dataset(path, INPUTS)
    assert [remark for remark in dataset.remarks if "not read" in remark] == [
        f"{path}: not read, being no data: notes.txt, old"
    ]


def test_of_pictures_that_are_not_read_it_is_told_which_are_and_how_to_convert_them(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.GIF").touch()
    with pytest.raises(DataError, match=r"holds no data; .* read of .png, .*: save those of .gif as PNG; ImageMagick"):
        open_source(tmp_path)


def test_a_directory_with_several_kinds_of_files_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "npy", arrays())
    np.savez(path / "all.npz", **arrays())
    with pytest.raises(DataError, match=r"several kinds \(\.npy, \.npz\); expected one kind"):
        open_dataset(path, INPUTS)


def test_cases_of_other_sizes_go_one_by_one_or_are_cut_into_patches(tmp_path: Path) -> None:
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    for name, size in (("a", 8), ("b", 9)):
        np.savez(tmp_path / f"{name}.npz", **{s.name: np.zeros((1, 1, 8, size), np.float32) for s in specs})
    dataset = open_dataset(tmp_path, specs)
    with pytest.raises(
        DataError, match=r"'x' differs in size: .*a.npz .*\[1, 8, 8\], .*b.npz of \[1, 8, 9\]; .*`patch`.*`batch=1`"
    ) as caught:
        dataset.require_batch(2)
    assert caught.value.options == {"batch": 1, "accumulate": 8}
    assert [x.shape for x, _ in dataset.batches(1)] == [(1, 1, 8, 8), (1, 1, 8, 9)]
    assert [target.shape for _, target in dataset.first_of_each_size()] == [(1, 1, 8, 8), (1, 1, 8, 9)]
    assert len(open_dataset(tmp_path, specs, DataOptions(patch=(4, 4), patches_per_epoch=5))) == 5


def test_files_are_recorded_with_their_size_and_hash(tmp_path: Path) -> None:
    path = saved(tmp_path, "npz", arrays())
    record = open_dataset(path, INPUTS).describe()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (file,) = record["files"]
    assert (file["path"], file["bytes"], file["sha256"]) == (str(path), path.stat().st_size, digest)
    assert json.loads(json.dumps(record)) == record


# Batches.


# What a run keeps.
