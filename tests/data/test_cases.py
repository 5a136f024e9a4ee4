"""What samples are called, what a table says of them besides, and of which one every tile of an evaluation is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from tests.data.datasets import opened, spec
from tgdonnx.graphs.tensor_specs import TensorSpec

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


def images(samples: int, *size: int) -> dict[str, np.ndarray]:
    array = np.arange(samples * int(np.prod(size)), dtype=np.float32).reshape(samples, 1, *size)
    return {"x": array, "target": array}


def test_rows_of_a_table_have_what_its_other_columns_say(tmp_path: Path) -> None:
    inputs = (spec("x", 1, None, None), TensorSpec("target", "int64", (None,), 2, role="target"))
    for number in range(2):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text("x,target,site,age\n0.png,1,north,31\n1.png,0,south,4.5\n")
    cases = opened(tmp_path / "t.csv", inputs, scale=1).cases
    assert [case.name for case in cases] == ["row 1", "row 2"]
    folder = {"folder": tmp_path.name}
    assert [dict(case.columns) for case in cases] == [
        {**folder, "site": "north", "age": "31"},
        {**folder, "site": "south", "age": "4.5"},
    ]
    assert [case.path for case in cases] == [str(tmp_path / "0.png"), str(tmp_path / "1.png")]


def directory_of_npy(folder: Path, content: dict[str, np.ndarray]) -> Path:
    (folder / "d").mkdir()
    for name, array in content.items():
        np.save(folder / "d" / f"{name}.npy", array)
    return folder / "d"


def npz(folder: Path, content: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "d.npz", **content)
    return folder / "d.npz"


def hdf5(folder: Path, content: dict[str, np.ndarray]) -> Path:
    with h5py.File(folder / "d.h5", "w") as file:
        for name, array in content.items():
            file[name] = array if array.dtype.kind != "U" else array.astype(h5py.string_dtype())
    return folder / "d.h5"


@pytest.mark.parametrize("form", [directory_of_npy, npz, hdf5, lambda _, content: content])
def test_arrays_that_nothing_takes_say_what_samples_belong_to(form: Any, tmp_path: Path) -> None:
    more = {
        "scanner": np.array(["A", "ü", "A"]),
        "site": np.array([[3], [1], [3]], np.uint8),
        "dose": np.array([0.5, 2, 1]),
        "of_all": np.array([1, 2]),
    }
    cases = opened(form(tmp_path, {**images(3, 4, 5), **more}), IMAGES).cases
    assert [[case.columns[name] for name in ("scanner", "site", "dose")] for case in cases] == [
        ["A", "3", "0.5"],
        ["ü", "1", "2"],
        ["A", "3", "1"],
    ]
    assert "of_all" not in cases[0].columns


def test_pictures_in_folders_of_a_class_belong_to_their_folder(tmp_path: Path) -> None:
    inputs = (spec("x", 1, None, None), TensorSpec("target", "int64", (None,), 2, role="target"))
    for name in ("cat/1.png", "cat/north/2.png", "dog/south/deep/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / name)
    cases = opened(tmp_path, inputs, scale=1).cases
    assert [(case.name, case.columns) for case in cases] == [
        ("cat/1.png", {"folder": "cat"}),
        ("cat/north/2.png", {"folder": "north"}),
        ("dog/south/deep/1.png", {"folder": "deep"}),
    ]


def test_samples_of_files_go_by_the_file_and_their_place_in_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **images(1, 4, 5))
    np.savez(tmp_path / "b.npz", **images(2, 4, 5))
    assert [case.name for case in opened(tmp_path, IMAGES).cases] == ["a.npz", "b.npz, sample 1", "b.npz, sample 2"]
    assert [case.name for case in opened(images(2, 4, 5), IMAGES).cases] == ["sample 1", "sample 2"]


@pytest.mark.parametrize(("patch", "tiles"), [(None, 1), ((4, 3), 2), ((2, 3), 4)])
def test_every_tile_is_of_its_sample(patch: tuple[int, ...] | None, tiles: int) -> None:
    data = images(3, 4, 6)
    dataset = opened(data, IMAGES, patch=patch)
    places = dataset.case_places()
    assert places.tolist() == np.repeat(np.arange(3), tiles).tolist()
    cut = [batch[0][0] for batch in dataset.batches(1)]
    assert all(np.isin(tile, data["x"][place]).all() for place, tile in zip(places, cut))
