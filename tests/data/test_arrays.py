"""Data matched to a model's inputs: every way it may not fit is told, and batches lose and repeat nothing."""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.datasets import everything, spec
from tests.support.models import Array
from tgdonnx.data import DataOptions, Dataset, open_dataset, open_like, open_source
from tgdonnx.data import content as content_module
from tgdonnx.data.arrays import open_npy
from tgdonnx.data.lazy_arrays import BLOCK_BYTES, regions
from tgdonnx.data.targets import TargetLimits
from tgdonnx.errors import DataError, MissingArrayError, TgdonnxError
from tgdonnx.graphs.tensor_specs import TensorSpec

X = TensorSpec("x", "float32", (None, 3, None, 5))
SIZE = TensorSpec("size", "int64", (None,))
TARGET = TensorSpec("target", "float32", (None, 1, None, 5), role="target")
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


def numbered(samples: int) -> Dataset:
    x = np.arange(samples, dtype=np.float32).reshape(-1, 1)
    return open_dataset({"x": x, "target": 10 * x}, (spec("x", 1), spec("target", 1)))


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 9), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_batches_hold_every_sample_once_and_keep_what_belongs_together(
    samples: int, size: int, seed: int, epoch: int
) -> None:
    batches = list(numbered(samples).batches(size, epoch=epoch, seed=seed))
    assert [len(batch[0]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-samples // size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    for start, (first, second) in zip(range(0, samples, size), batches):
        assert first[:, 0].tolist() == sorted(order[start : start + size])
        assert np.array_equal(second, 10 * first)


def test_evaluation_follows_the_arrays() -> None:
    assert [batch[0][:, 0].tolist() for batch in numbered(7).batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("epoch", [None, 2])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_start_skips_batches_without_changing_the_others(start: int, epoch: Optional[int]) -> None:
    whole = list(numbered(7).batches(3, epoch=epoch, seed=1))
    rest = list(numbered(7).batches(3, epoch=epoch, seed=1, start=start))
    assert len(rest) == 3 - start
    for expected, found in zip(whole[start:], rest):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_batches_are_contiguous_arrays_of_their_own(form: str, tmp_path: Path) -> None:
    turned: dict[str, Any] = {"x": np.asfortranarray(arrays()["x"])}
    dataset = open_dataset(saved(tmp_path, form, {**arrays(), **turned}), INPUTS)
    order = np.random.default_rng([0, 1]).permutation(6)
    for number, batch in enumerate(dataset.batches(4, epoch=1)):
        for array in batch:
            assert type(array) is np.ndarray
            assert array.flags.c_contiguous
        assert np.array_equal(batch[0], turned["x"][np.sort(order[4 * number : 4 * number + 4])])


def test_a_number_that_is_not_finite_in_data_too_large_to_look_through_is_told_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "EXAMINED_BYTES", 100)
    x = np.zeros((9, 1, 4), np.float32)
    x[7, 0, 2] = np.inf
    np.savez(tmp_path / "data.npz", x=x, target=np.zeros((9, 1, 4), np.float32))
    dataset = open_dataset(tmp_path / "data.npz", (spec("x", 1, None), spec("target", 1, None)))
    assert any("values are checked as they are read" in remark for remark in dataset.remarks)
    batches = dataset.batches(3)
    assert len(next(batches)[0]) == 3
    assert len(next(batches)[0]) == 3
    with pytest.raises(DataError, match=r"data.npz: x\[7, 0, 2\] is inf; remove or repair this sample"):
        next(batches)


@pytest.mark.parametrize("examined", [0, 2**20])
def test_targets_out_of_a_losss_range_are_told_whether_or_not_all_data_was_looked_at(
    examined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "EXAMINED_BYTES", examined)
    target = np.zeros((6, 1), np.float32)
    target[4] = 1.5
    dataset = open_dataset({"x": target, "target": target}, (spec("x", 1), spec("target", 1)))

    def train() -> None:
        dataset.require_target(TargetLimits("target", 0, 1, "bce"))
        list(dataset.batches(2))

    with pytest.raises(
        DataError,
        match=r"in 0 to 1, found (0 to )?1\.5 \(the data(, sample 4)?: target\[(4, )?0\] is 1\.5; 1 of [16] values? is outs",
    ):
        train()
    halved = DataOptions(scales={"target": 2})
    scaled = open_dataset({"x": target, "target": target}, (spec("x", 1), spec("target", 1)), halved)
    scaled.require_target(TargetLimits("target", 0, 1, "bce"))
    assert len(list(scaled.batches(2))) == 3


def test_arrays_that_nothing_takes_are_left_out_and_named() -> None:
    x = np.zeros((2, 1), np.float32)
    more = {f"more{number}": np.zeros(number) for number in range(7)}
    dataset = open_dataset({"x": x, "target": x, **more}, (spec("x", 1), spec("target", 1)))
    named = ", ".join(f"'more{number}'" for number in range(5))
    assert dataset.remarks == (f"left out: {named} and 2 more; what is taken is x, target",)
    assert [array.shape for array in next(dataset.batches(2))] == [(2, 1), (2, 1)]


# What a run keeps.


@dataclass(frozen=True)
class NewerOptions(DataOptions):
    """Those of a version to come."""

    newer: int = 0


def test_the_identity_of_data_is_that_of_its_contents_and_options_and_not_of_its_place(tmp_path: Path) -> None:
    found = {}
    for place, changed in (("a", {}), ("b", {}), ("c", {"size": np.arange(6)[::-1].copy()})):
        (tmp_path / place).mkdir()
        path = saved(tmp_path / place, "npy", arrays(**changed))
        found[place] = open_dataset(path, INPUTS).identity
    assert found["a"] == found["b"] != found["c"]
    path = tmp_path / "a" / "data"
    assert open_dataset(path, INPUTS, DataOptions(augment=("flips",))).identity != found["a"]
    assert open_dataset(path, INPUTS, NewerOptions()).identity == found["a"]
    assert open_dataset(path, INPUTS, NewerOptions(newer=1)).identity != found["a"]
    memory = [open_dataset(arrays(size=np.arange(6) + shift), INPUTS).identity for shift in (0, 0, 1)]
    assert memory[0] == memory[1] != memory[2]


def test_more_data_is_opened_as_other_data_is_and_may_lack_the_target() -> None:
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    x = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)
    options = DataOptions(
        map={"noisy": "x", "clean": "target"},
        scales={"x": "minmax", "target": 2.0},
        patch=(4, 4),
        augment=("flips",),
    )
    dataset = open_dataset({"noisy": x, "clean": x}, specs, options)
    assert dataset.scaling is not None
    with pytest.raises(MissingArrayError, match="no array 'clean' to map to 'target'") as caught:
        open_like(dataset, {"noisy": x[:1]})
    assert caught.value.array == "target"
    more = open_like(dataset, {"noisy": x[:1]}, specs[:1], purpose="training")
    assert more.options.augment == ("flips",)
    assert more.scaling == dataset.scaling
    other = open_like(dataset, {"noisy": x[:1] // 2}, specs[:1])
    assert other.options.augment == ()
    assert other.scaling == dataset.scaling
    tiles = everything(other)
    assert [array.shape for array in tiles] == [(4, 1, 4, 4)]
    np.testing.assert_allclose(tiles[0][0, 0], (x[0, 0, :4, :4] // 2) / 127.0, rtol=1e-6)
