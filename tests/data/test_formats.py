"""The table of formats is what everything else says of them: messages, help, extras and the guide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import run
from tests.data import slices
from tgdonnx.data.format import ArrayFormat, Format, GroupFormat, SeriesFormat
from tgdonnx.data.formats import FORMATS, describe_arrays, describe_sources, format_of, suffix_of
from tgdonnx.data.sources import open_array, open_source
from tgdonnx.guides import text_of

BY_TITLE = {each.title: each for each in FORMATS}
VALUES = np.arange(24, dtype=np.uint8).reshape(4, 6)


def test_every_suffix_is_of_one_format() -> None:
    suffixes = [suffix for each in FORMATS for suffix in each.suffixes]
    assert len(set(suffixes)) == len(suffixes) > 8
    for each in FORMATS:
        assert set(each.streamed) <= set(each.suffixes)
        for suffix in each.suffixes:
            assert format_of(Path(f"a.b{suffix.upper()}")) is each
            assert suffix_of(Path(f"a.b{suffix.upper()}")) == suffix
    assert format_of(Path("a.csv")) is None
    assert format_of(Path("a.gz")) is None


def write(directory: Path, suffix: str) -> Path:
    """Writes the values as a file with a suffix, and returns what to open."""
    path = directory / f"one{suffix}"
    if suffix == ".npy":
        np.save(path, VALUES)
    elif suffix == ".npz":
        np.savez(path, x=VALUES)
    elif suffix in (".h5", ".hdf5"):
        with h5py.File(path, "w") as file:
            file["x"] = VALUES
    elif suffix in (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"):
        Image.fromarray(VALUES).save(path)
    elif suffix == ".webp":
        Image.fromarray(np.stack([VALUES] * 3, -1)).save(path, lossless=True)
    elif suffix in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(VALUES.T, np.eye(4)), path)  # type: ignore[no-untyped-call]
    else:
        slices.write(path, 0.0, RescaleSlope=1, RescaleIntercept=0)
        return directory
    return path


@pytest.mark.parametrize("suffix", [suffix for each in FORMATS for suffix in each.suffixes])
def test_a_file_of_every_suffix_is_read_and_says_the_axes_of_its_format(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path, suffix)
    found = BY_TITLE[next(each.title for each in FORMATS if suffix in each.suffixes)]
    if isinstance(found, GroupFormat):
        (group,) = open_source(path).groups
        array = group.arrays["x"]
    else:
        array = open_array(path)
    assert array.layout in (found.axes or (None,))
    values = array.read(tuple(slice(0, size) for size in array.shape))
    # JPEG does not keep values; what it made of them, Pillow says.
    kept = np.asarray(Image.open(path)) if suffix in (".jpg", ".jpeg") else VALUES
    if suffix == ".webp":  # which is of three colours always
        kept = np.stack([kept] * 3, -1)
    assert np.array_equal(values.reshape(kept.shape), kept)


def test_messages_and_help_name_every_format() -> None:
    assert describe_sources() == (
        "an .npz or HDF5 file, or a directory of .npy, .npz, HDF5 or NIfTI files, or of one directory per array, with "
        ".npy, NIfTI, picture or DICOM files in it"
    )
    assert describe_arrays() == "a .npy or NIfTI file, a picture, or a directory with a DICOM series"
    told = run("train", "--help").output
    assert "".join(describe_sources().split())[3:] in "".join(told.split())


def row(each: Format) -> list[str]:
    """What the guide says of a format."""
    holds = {GroupFormat: "several arrays", ArrayFormat: "one array", SeriesFormat: "a slice of an array"}[type(each)]
    if isinstance(each, ArrayFormat) and each.holds_sample:
        holds = "one sample"
    return [
        listed(each.suffixes),
        holds,
        ", ".join(each.axes) or "as the model takes them",
        listed(each.streamed) if len(each.suffixes) > len(each.streamed) > 0 else "yes" if each.streamed else "no",
        f"`{each.library.extra}`" if each.library is not None else "",
    ]


def listed(suffixes: Sequence[str]) -> str:
    return ", ".join(f"`{suffix}`" for suffix in suffixes)


def test_the_guide_has_a_row_for_every_format() -> None:
    lines = text_of("data").splitlines()
    start = lines.index("| files | a file holds | its axes | read in pieces | extra |")
    end = lines.index("", start)
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]
    assert found == [row(each) for each in FORMATS]
