"""Files that belong together, files that lack a counterpart, and libraries that are not there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError, RuntimeMissingError

RNG = np.random.default_rng(0)
IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


def picture(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def save_hdf5(path: Path, **arrays: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
    return path


# HDF5.


def test_an_hdf5_file_has_a_dataset_per_array_in_groups_too(tmp_path: Path) -> None:
    x, target = picture(7, 1, 4, 5), picture(7, 1, 4, 5)
    path = save_hdf5(tmp_path / "data.h5", **{"scan/noisy": x, "target": target})
    found = everything(opened(path, IMAGES, map={"scan/noisy": "x"}))
    assert np.array_equal(found[0], x)
    assert np.array_equal(found[1], target)


def test_hdf5_files_in_a_directory_are_a_case_each(tmp_path: Path) -> None:
    pictures = {name: picture(2, 1, 4, 5) for name in ("b", "a")}
    for name, values in pictures.items():
        save_hdf5(tmp_path / f"{name}.hdf5", x=values, target=values)
    assert np.array_equal(everything(opened(tmp_path, IMAGES))[0], np.concatenate([pictures["a"], pictures["b"]]))


def test_compressed_chunks_of_a_volume_are_read_in_patches(tmp_path: Path) -> None:
    volume = picture(6, 20, 30)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name in ("x", "target"):
            file.create_dataset(name, data=volume, chunks=(1, 8, 8), compression="gzip")
    dataset = opened(tmp_path / "data.h5", IMAGES, layout="DHW", patch=(7, 5), patches_per_epoch=30)
    for x, target in dataset.batches(4, epoch=1):
        assert np.array_equal(x, target)
        for patch in x[:, 0]:
            places = np.argwhere(volume == patch[0, 0])
            assert any(np.array_equal(volume[d, h : h + 7, w : w + 5], patch) for d, h, w in places)


HDF5_REFUSED: dict[str, tuple[Any, str]] = {
    "missing": (lambda _: None, r"data.h5 cannot be read: .*[Nn]o such file"),
    "no HDF5": (lambda p: p.write_text("hello"), "data.h5 cannot be read"),
    "empty": (lambda p: p.write_bytes(b""), "data.h5 cannot be read"),
    "cut off": (
        lambda p: save_hdf5(p, x=picture(6, 1, 40, 50), target=picture(6, 1, 40, 50)).write_bytes(
            p.read_bytes()[:-40000]
        ),
        "data.h5 cannot be read",
    ),
    "no dataset": (lambda p: save_hdf5(p), "data.h5 has no array 'x'; expected x, target, found none"),
    "a missing array": (lambda p: save_hdf5(p, x=picture(2, 1, 4, 5)), "has no array 'target'"),
    "text": (lambda p: save_hdf5(p, x="hello", target=picture(2, 1, 4, 5)), "found text .*, not numbers"),
    "another dtype": (
        lambda p: save_hdf5(p, x=picture(2, 1, 4, 5).astype(np.float64), target=picture(2, 1, 4, 5)),
        r"expected 'x' to be float32 .* found float64 \[2, 1, 4, 5\]",
    ),
    "another rank": (
        lambda p: save_hdf5(p, x=picture(2, 2, 1, 4, 5), target=picture(2, 4, 5)),
        r"expected 'x' to be float32 \[\?, 1, \?, \?\], found float32 \[2, 2, 1, 4, 5\]",
    ),
    "channels last": (
        lambda p: save_hdf5(p, x=picture(2, 4, 5, 1), target=picture(2, 1, 4, 5)),
        "it would fit as `layouts={'x': 'NHWC'}`",
    ),
    "no sample": (lambda p: save_hdf5(p, x=picture(0, 1, 4, 5), target=picture(0, 1, 4, 5)), "holds no sample"),
    "NaN": (
        lambda p: save_hdf5(p, x=np.full((2, 1, 4, 5), np.nan, np.float32), target=picture(2, 1, 4, 5)),
        r"data.h5: x\[0, 0, 0, 0\] is nan",
    ),
}


@pytest.mark.parametrize("case", HDF5_REFUSED)
def test_an_hdf5_file_that_does_not_fit_is_told(case: str, tmp_path: Path) -> None:
    make, message = HDF5_REFUSED[case]
    make(tmp_path / "data.h5")
    with pytest.raises(DataError, match=message) as caught:
        opened(tmp_path / "data.h5", IMAGES)
    assert len(str(caught.value).splitlines()) == 1


# Directories.


def folders(tmp_path: Path, *names: str) -> list[Path]:
    made = [tmp_path / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


def test_arrays_in_directories_have_a_file_per_case(tmp_path: Path) -> None:
    x, target = folders(tmp_path, "x", "target")
    volumes = {name: picture(3, 4, 5) for name in ("b", "a")}
    for name, volume in volumes.items():
        np.save(x / f"{name}.npy", volume)
        np.save(target / f"{name}.npy", volume)
    found = everything(opened(tmp_path, IMAGES, layout="DHW"))
    assert np.array_equal(found[0][:, 0], np.concatenate([volumes["a"], volumes["b"]]))


@pytest.mark.parametrize("lacking", ["x", "target"])
def test_a_file_without_a_counterpart_is_named(lacking: str, tmp_path: Path) -> None:
    for folder in folders(tmp_path, "x", "target"):
        for name in ("a", "b", "c"):
            if folder.name != lacking or name == "a":
                np.save(folder / f"{name}.npy", picture(4, 5))
    other = "target" if lacking == "x" else "x"
    with pytest.raises(
        DataError, match=r"nothing named 'b' to go with .*b.npy \(2 files without a counterpart\)"
    ) as caught:
        opened(tmp_path, IMAGES, layout="HW")
    assert f"{tmp_path / lacking} has nothing" in str(caught.value)
    assert str(tmp_path / other / "b.npy") in str(caught.value)


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    for folder in folders(tmp_path, "x", "target"):
        np.save(folder / "a.npy", picture(4, 5))
    (tmp_path / "x" / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a.npy and a.png go by the same name; keep one of them"):
        opened(tmp_path, IMAGES, layout="HW")


def test_a_directory_too_many_is_left_out_and_named(tmp_path: Path) -> None:
    for folder in folders(tmp_path, "x", "target", "mask"):
        for name in ("a", "b"):
            np.save(folder / f"{name}.npy", picture(4, 5))
    dataset = opened(tmp_path, IMAGES, layout="HW")
    assert "left out: 'mask'; what is taken is x, target" in dataset.remarks
    assert len(dataset) == 2


def test_pictures_beside_each_other_are_told_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds a.png itself; expected one directory per array in it, named like"):
        opened(tmp_path, IMAGES)


def test_one_directory_too_deep_is_told(tmp_path: Path) -> None:
    for name in ("x", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=rf"; did you mean {re.escape(str(tmp_path))}, in which target has a\.png, too\?$"
    ):
        opened(tmp_path / "x", IMAGES)


def test_a_name_with_a_typo_is_told_the_one_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "folders").mkdir()
    with pytest.raises(DataError, match=r"folder does not exist; did you mean 'folders'\?$"):
        opened(tmp_path / "folder", IMAGES)


@pytest.mark.parametrize("name", ["data.csv", "nowhere", "nowhere.npz"])
def test_what_is_no_data_or_not_there_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(DataError, match=f"{name}"):
        opened(tmp_path / name, IMAGES)


def test_directories_without_data_are_told(tmp_path: Path) -> None:
    folders(tmp_path, "x", "target")
    with pytest.raises(DataError, match=r"holds no data; expected an .npz or HDF5 file"):
        opened(tmp_path, IMAGES)


def test_a_file_that_cannot_be_read_among_others_is_named(tmp_path: Path) -> None:
    for folder in folders(tmp_path, "x", "target"):
        for name in ("a", "b"):
            np.save(folder / f"{name}.npy", picture(4, 5))
    (tmp_path / "x" / "b.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match=r"x/b.npy cannot be read"):
        opened(tmp_path, IMAGES, layout="HW")
    (tmp_path / "x" / "b.npy").unlink()
    (tmp_path / "x" / "b.npy").symlink_to(tmp_path / "gone.npy")
    with pytest.raises(DataError, match=r"x/b.npy cannot be read: No such file"):
        opened(tmp_path, IMAGES, layout="HW")


@pytest.mark.parametrize(
    ("module", "file", "package", "extra"),
    [
        ("h5py", "data.h5", "h5py", "hdf5"),
        ("PIL.Image", "x/a.png", "Pillow", "images"),
        ("nibabel", "x/a.nii.gz", "nibabel", "nifti"),
        ("pydicom", "x/a.dcm", "pydicom", "dicom"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(
    module: str, file: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeMissingError, match=rf"with {package}, .* pip install 'tgdonnx\[{extra}\]'"):
        opened(path if file == "data.h5" else tmp_path, IMAGES)
