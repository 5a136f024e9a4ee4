"""Volumes: NIfTI and DICOM give the values of the file, slices in the order of space, and conversions are said."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.data import nifti as nifti_module
from tgdonnx.errors import DataError

RNG = np.random.default_rng(0)
FLAT = (spec("x", 3, None, None), spec("target", 1, None, None))
DEEP = (spec("x", 1, None, None, None), spec("target", 1, None, None, None))


def save_nifti(path: Path, volume: Array, *, affine: Any = None, scale: tuple[float, float] | None = None) -> None:
    """Writes a volume (z, y, x)."""
    image = nibabel.Nifti1Image(volume.T, np.eye(4) if affine is None else affine)
    if scale is not None:
        image.header.set_slope_inter(*scale)
        image.header.set_data_dtype(volume.dtype)
        raw = nibabel.Nifti1Image(volume.T, image.affine).to_bytes()
        data = bytearray(raw)
        data[112:120] = np.array(scale, "<f4").tobytes()
        path.write_bytes(bytes(data))
        return
    nibabel.save(image, path)


def pair_of_niftis(tmp_path: Path, x: Array, target: Array, suffix: str = ".nii", **options: Any) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    save_nifti(data / f"x{suffix}", x, **options)
    save_nifti(data / f"target{suffix}", target)
    return data


# NIfTI.


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_volume_is_slices_along_z(suffix: str, tmp_path: Path) -> None:
    x, target = (RNG.normal(size=(4, 5, 6)).astype(np.float32) for _ in range(2))
    dataset = opened(pair_of_niftis(tmp_path, x, target, suffix), FLAT)
    found = everything(dataset)
    assert np.array_equal(found[0][:, 1], x)
    assert np.array_equal(found[0][1:, 0], x[:-1])
    assert np.array_equal(found[1][:, 0], target)
    assert any(remark.startswith("NIfTI: axes are taken as z, y, x") for remark in dataset.remarks)


def test_a_nifti_volume_is_one_sample_of_a_model_of_volumes(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    assert np.array_equal(everything(opened(pair_of_niftis(tmp_path, x, x), DEEP))[0], x[np.newaxis, np.newaxis])


def test_the_scale_in_a_niftis_header_is_applied_and_said(tmp_path: Path) -> None:
    stored = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    target = stored.astype(np.float32)
    dataset = opened(pair_of_niftis(tmp_path, stored, target, scale=(0.5, -7)), DEEP)
    np.testing.assert_allclose(everything(dataset)[0][0, 0], stored * 0.5 - 7, rtol=1e-6)
    assert "NIfTI: stored int16 values x 0.5 + -7, in float32" in dataset.remarks


def test_whole_numbers_without_a_scale_are_not_cast(tmp_path: Path) -> None:
    stored = RNG.integers(-1000, 1000, (4, 5, 6)).astype(np.int16)
    data = pair_of_niftis(tmp_path, stored, stored)
    with pytest.raises(DataError, match=r"x.nii: expected 'x' to be float32 .* found int16 \[4, 5, 6\]"):
        opened(data, DEEP)
    assert np.array_equal(everything(opened(data, DEEP, scale=1))[0][0, 0], stored.astype(np.float32))


def test_niftis_in_directories_are_matched_by_name(tmp_path: Path) -> None:
    volumes = {name: RNG.normal(size=(3, 5, 6)).astype(np.float32) for name in ("b", "a")}
    for kind in ("x", "target"):
        (tmp_path / kind).mkdir()
        for name, volume in volumes.items():
            save_nifti(tmp_path / kind / f"{name}.nii{'.gz' if kind == 'x' else ''}", volume)
    found = everything(opened(tmp_path, FLAT))
    assert np.array_equal(found[0][:, 1], np.concatenate([volumes["a"], volumes["b"]]))
    assert np.array_equal(found[1][:, 0], np.concatenate([volumes["a"], volumes["b"]]))


def test_volumes_that_lie_differently_in_space_are_refused(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    data = pair_of_niftis(tmp_path, x, x, affine=np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(DataError, match=r"lie differently in space \(x LAS; target RAS\)"):
        opened(data, DEEP)


def test_a_nifti_of_four_axes_needs_a_layout(tmp_path: Path) -> None:
    x = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
    data = pair_of_niftis(tmp_path, x, x)
    with pytest.raises(
        DataError, match=r"has the shape \[2, 4, 5, 6\]; say with `layout` what its axes are, such as NDHW"
    ):
        opened(data, DEEP)
    assert np.array_equal(everything(opened(data, DEEP, layout="NDHW"))[0][:, 0], x)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-8]), "it is cut off, 824 of 832 bytes are there"),
        (lambda p: p.write_bytes(b""), "cannot be read"),
        (lambda p: p.write_bytes(b"no volume" * 100), "cannot be read"),
    ],
)
def test_a_damaged_nifti_is_named(damage: Any, message: str, tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    data = pair_of_niftis(tmp_path, x, x)
    damage(data / "x.nii")
    with pytest.raises(DataError, match=message) as caught:
        opened(data, DEEP)
    assert "x.nii" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_compressed_nifti_that_is_cut_off_is_found_before_training(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 50, 60)).astype(np.float32)
    data = pair_of_niftis(tmp_path, x, x, ".nii.gz")
    content = (data / "x.nii.gz").read_bytes()
    (data / "x.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"x.nii.gz cannot be read"):
        opened(data, DEEP)
    (data / "x.nii.gz").write_bytes(gzip.compress(b"short"))
    with pytest.raises(DataError, match=r"x.nii.gz cannot be read"):
        opened(data, DEEP)


def test_a_compressed_nifti_too_large_to_unpack_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti_module, "LARGEST_COMPRESSED", 100)
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    data = pair_of_niftis(tmp_path, x, x, ".nii.gz")
    with pytest.raises(DataError, match=r"cannot be read piece by piece; gunzip it to .nii"):
        opened(data, DEEP)


def test_nan_in_a_nifti_is_told_with_its_place(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(np.float32)
    bad = x.copy()
    bad[2, 3, 4] = np.nan
    data = pair_of_niftis(tmp_path, bad, x)
    with pytest.raises(DataError, match=r"x.nii: x\[2, 3, 4\] is nan"):
        opened(data, DEEP)


# DICOM.


def save_dicom(path: Path, values: Array, position: float, **changed: Any) -> None:
    """Writes one slice; ``changed`` takes the place of elements, None removes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    elements = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "SeriesInstanceUID": "1.2.3",
        "Modality": "CT",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1 if values.dtype == np.int16 else 0,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [-10, -20, position],
        "RescaleSlope": 2,
        "RescaleIntercept": -1024,
        "PixelData": values.tobytes(),
        **changed,
    }
    for name, value in elements.items():
        if value is not None:
            setattr(data, name, value)
    if int(pydicom.__version__.partition(".")[0]) >= 3:
        data.save_as(path, enforce_file_format=True)
    else:  # the last that Python 3.9 has
        data.is_little_endian, data.is_implicit_VR = True, False
        data.save_as(path, write_like_original=False)


POSITIONS = (7.5, 2.5, 10.0, 5.0)


def save_series(directory: Path, volume: Array, **changed: Any) -> None:
    """Writes slices under names that have nothing to do with their places."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, position in enumerate(POSITIONS):
        save_dicom(directory / f"IM{number}.dcm", volume[sorted(POSITIONS).index(position)], position, **changed)


def study(tmp_path: Path, **changed: Any) -> tuple[Path, Array]:
    volume = RNG.integers(0, 3000, (4, 5, 6), np.int16)
    for name in ("x", "target"):
        save_series(tmp_path / "data" / name, volume, **(changed if name == "x" else {}))
    return tmp_path / "data", volume


def test_slices_of_a_series_are_sorted_by_position_and_rescaled(tmp_path: Path) -> None:
    data, volume = study(tmp_path)
    dataset = opened(data, FLAT)
    x, target = everything(dataset)
    assert np.array_equal(x[:, 1], volume * 2.0 - 1024)
    assert np.array_equal(x[1:, 0], (volume * 2.0 - 1024)[:-1])
    assert np.array_equal(target[:, 0], volume * 2.0 - 1024)
    said = [remark for remark in dataset.remarks if remark.startswith("DICOM")]
    assert said == [
        "DICOM: slices are sorted by position; values are the stored ones x RescaleSlope + RescaleIntercept, in float32"
    ]
    assert len(dataset.describe()["files"]) == 8


def test_positions_count_along_the_normal_of_the_slices(tmp_path: Path) -> None:
    volume = RNG.integers(0, 3000, (4, 5, 6), np.int16)
    for name in ("x", "target"):
        (tmp_path / name).mkdir()
        for number, place in enumerate((3, 1, 0, 2)):
            # Coronal slices: x to the right, z downward; their normal is +y.
            save_dicom(
                tmp_path / name / f"{number}.dcm",
                volume[place],
                0,
                ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
                ImagePositionPatient=[0, 4.0 * place, 99],
            )
    assert np.array_equal(everything(opened(tmp_path, DEEP))[0][0, 0], volume * 2.0 - 1024)


def test_every_slice_has_a_scale_of_its_own_and_files_need_no_suffix(tmp_path: Path) -> None:
    volume = RNG.integers(0, 3000, (3, 5, 6), np.uint16)
    for name in ("x", "target"):
        (tmp_path / name).mkdir()
        for number in range(3):
            save_dicom(
                tmp_path / name / f"IM{number}",
                volume[number],
                number,
                RescaleSlope=number + 0.5,
                RescaleIntercept=None,
            )
    expected = volume * (np.arange(3) + 0.5).reshape(3, 1, 1)
    np.testing.assert_allclose(everything(opened(tmp_path, DEEP))[0][0, 0], expected, rtol=1e-6)


def test_studies_in_directories_are_matched_by_name(tmp_path: Path) -> None:
    volumes = {name: RNG.integers(0, 3000, (4, 5, 6), np.int16) for name in ("p2", "p1")}
    for kind in ("x", "target"):
        for name, volume in volumes.items():
            save_series(tmp_path / kind / name, volume)
    found = everything(opened(tmp_path, DEEP))
    assert np.array_equal(found[0][:, 0], np.stack([volumes["p1"], volumes["p2"]]) * 2.0 - 1024)


def test_a_series_may_go_with_a_nifti(tmp_path: Path) -> None:
    volume = RNG.integers(0, 3000, (4, 5, 6), np.int16)
    save_series(tmp_path / "x" / "p1", volume)
    (tmp_path / "target").mkdir()
    np.save(tmp_path / "target" / "p1.npy", volume.astype(np.float32))
    found = everything(opened(tmp_path, DEEP, layouts={"target": "DHW"}))
    assert np.array_equal(found[0], found[1] * 2 - 1024)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient; expected single-frame slices of a volume"),
        ({"ImageOrientationPatient": None}, "has no ImageOrientationPatient"),
        ({"NumberOfFrames": 3}, "holds several frames or colours"),
        ({"SamplesPerPixel": 3}, "holds several frames or colours"),
        ({"ImagePositionPatient": [0, 0, 1]}, "lie at the same place; put every series, and every phase of it, into"),
        ({"PixelData": b"\0" * 20}, "cannot be decoded"),
    ],
)
def test_a_series_that_is_no_volume_is_told(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    data, _ = study(tmp_path, **changed)
    with pytest.raises(DataError, match=message) as caught:
        opened(data, DEEP)
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"SeriesInstanceUID": "1.2.9"}, "series"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "plane"),
        ({"Rows": 4, "PixelData": bytes(48)}, "shape"),
    ],
)
def test_slices_of_another_series_are_told(changed: dict[str, Any], what: str, tmp_path: Path) -> None:
    data, volume = study(tmp_path)
    save_dicom(data / "x" / "other.dcm", volume[0], 12.5, **changed)
    with pytest.raises(DataError, match=f"differ in their {what}; put every series into a directory of its own"):
        opened(data, DEEP)


def test_a_gap_between_slices_is_said(tmp_path: Path) -> None:
    data, _ = study(tmp_path)
    for name in ("x", "target"):
        (data / name / "IM3.dcm").unlink()
    dataset = opened(data, DEEP)
    assert f"{data / 'x'}: slices lie 2.5 to 5 mm apart; one may be missing" in dataset.remarks


def test_compressed_slices_are_told_with_a_remedy(tmp_path: Path) -> None:
    data, _ = study(tmp_path)
    path = data / "x" / "IM0.dcm"
    loaded = pydicom.dcmread(path)
    loaded.file_meta.TransferSyntaxUID = JPEG2000Lossless
    loaded.PixelData = pydicom.encaps.encapsulate([b"\0" * 40])
    loaded["PixelData"].is_undefined_length = True
    loaded.save_as(path)
    with pytest.raises(DataError, match=r"IM0.dcm cannot be decoded: .*decompress it \(dcmdjpeg, gdcmconv\)"):
        opened(data, DEEP)


@pytest.mark.parametrize("content", [b"", b"no dicom at all" * 30])
def test_a_file_that_is_no_dicom_is_named(content: bytes, tmp_path: Path) -> None:
    data, _ = study(tmp_path)
    (data / "x" / "IM9.dcm").write_bytes(content)
    with pytest.raises(DataError, match=r"IM9.dcm cannot be read as DICOM"):
        opened(data, DEEP)


def test_a_dicom_that_is_cut_off_is_named(tmp_path: Path) -> None:
    data, _ = study(tmp_path)
    path = data / "x" / "IM1.dcm"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"IM1.dcm cannot be (read as DICOM|decoded)"):
        opened(data, DEEP)
