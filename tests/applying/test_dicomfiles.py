"""Derived DICOM series, from files to files, read again by pydicom and by nibabel."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage

from tests.cli.commands import run, run_json
from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says of itself that it is experimental
    from nibabel.nicom.dicomwrappers import wrapper_from_file

Array = NDArray[Any]
RNG = np.random.default_rng(0)
SLICES, ROWS, COLUMNS = 5, 20, 18


@pytest.fixture
def model(tmp_path: Path) -> Path:
    text = """g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, v, c) r = Relu(a) s = Conv<pads = [1, 1, 1, 1]>(r, w, d) y = Add(x, s)
    }"""
    return save(text_model(text, v=(4, 1, 3, 3), c=(4,), w=(1, 4, 3, 3), d=(1,)), tmp_path / "denoiser.onnx")


def series(directory: Path, *, modality: str = "CT") -> Array:
    """A series of which neither the names nor the numbers are in order of place; returns its volume, from the lowest slice."""
    directory.mkdir()
    kind = CTImageStorage if modality == "CT" else PositronEmissionTomographyImageStorage
    volume = np.empty((SLICES, ROWS, COLUMNS), np.float32)
    for place in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, f"1.2.3.4.{place + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = Dataset()
        data.file_meta, data.Modality = meta, modality
        data.SOPClassUID, data.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
        data.PatientName, data.PatientID = "Test^Person", "4711"
        data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = "Thorax", 3, SLICES - place
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.ImageOrientationPatient, data.ImagePositionPatient = [0, 1, 0, -1, 0, 0], [-7.5, 11, 2.5 * place]
        data.PixelSpacing, data.SliceThickness = [0.8, 0.6], 2.5
        data.WindowCenter, data.WindowWidth, data.PixelPaddingValue = 40, 400, 0
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        slope, intercept = (1, -1024) if modality == "CT" else (0.5 + place, 0)
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        data.add_new((0x0009, 0x0010), "LO", "VENDOR")
        data.add_new((0x0009, 0x1001), "LO", "scale of stored values")
        pixels = RNG.integers(0, 4096, (ROWS, COLUMNS), np.uint16)
        data.PixelData = pixels.tobytes()
        data.save_as(directory / f"IM{(7 * place) % SLICES}.dcm", **WHOLE)
        volume[place] = pixels * np.float32(slope) + intercept
    return volume


WHOLE: dict[str, Any] = {"enforce_file_format": True} if pydicom.__version__ >= "3" else {"write_like_original": False}


def slices_of(directory: Path) -> list[Any]:
    found = [pydicom.dcmread(path) for path in sorted(directory.iterdir())]
    return sorted(found, key=lambda data: float(data.ImagePositionPatient[2]))


def values_of(data: Any) -> Array:
    result: Array = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    return result


def expected_of(model: Path, volume: Array, scale: float = 1000) -> Array:
    (found,) = open_session(str(model)).run(None, {"x": (volume[:, None] / scale).astype(np.float32)})
    result: Array = found[:, 0] * scale
    return result


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_a_series_becomes_a_derived_one_in_the_same_place(modality: str, model: Path, tmp_path: Path) -> None:
    volume = series(tmp_path / "in", modality=modality)
    report = run_json("apply", model, "--data", tmp_path / "in", "--scale", 1000, "-o", tmp_path / "out")
    expected = expected_of(model, volume)
    sources, made = slices_of(tmp_path / "in"), slices_of(tmp_path / "out")
    assert len(made) == SLICES
    error = report["results"][0]["error"]
    assert 0 < error < np.abs(expected).max() / 30000
    for place, (source, data) in enumerate(zip(sources, made)):
        np.testing.assert_allclose(values_of(data), expected[place], rtol=0, atol=error * 1.001 + 1e-2)
        kept = ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "ImagePositionPatient")
        for name in (*kept, "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "WindowCenter"):
            assert data[name].value == source[name].value
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        (reference,) = data.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert digest in data.DerivationDescription
        assert digest in data.ContributingEquipmentSequence[-1].ContributionDescription
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert "PixelPaddingValue" not in data
        assert not any(element.tag.is_private for element in data)
        assert float(data.RescaleIntercept) == 0
    uids = {data.SOPInstanceUID for data in made}
    assert len(uids) == SLICES
    assert not uids & {data.SOPInstanceUID for data in sources}
    assert len({data.SeriesInstanceUID for data in made}) == 1
    assert made[0].SeriesInstanceUID != sources[0].SeriesInstanceUID
    assert (made[0].SeriesNumber, made[0].SeriesDescription) == (1003, "Thorax denoiser.onnx")
    # In PET every slice has a slope of its own.
    assert len({str(data.RescaleSlope) for data in made}) == (1 if modality == "CT" else SLICES)


def test_nibabel_reads_the_series_where_that_lies_which_it_is_derived_from(model: Path, tmp_path: Path) -> None:
    volume = series(tmp_path / "in")
    assert run("apply", model, "--data", tmp_path / "in", "--scale", 1000, "-o", tmp_path / "out").exit_code == 0
    expected = expected_of(model, volume)
    before = {tuple(w.image_position): w for w in map(wrapper_from_file, sorted((tmp_path / "in").iterdir()))}
    after = {tuple(w.image_position): w for w in map(wrapper_from_file, sorted((tmp_path / "out").iterdir()))}
    assert before.keys() == after.keys()
    for place, (position, wrapper) in enumerate(sorted(after.items(), key=lambda item: item[0][2])):
        np.testing.assert_array_equal(wrapper.affine, before[position].affine)
        found = np.asarray(wrapper.get_data()).squeeze()
        np.testing.assert_allclose(found, expected[place], rtol=0, atol=0.1)


def test_tgdonnx_reads_what_it_wrote(model: Path, tmp_path: Path) -> None:
    volume = series(tmp_path / "in")
    run_json("apply", model, "--data", tmp_path / "in", "--scale", 1000, "-o", tmp_path / "out")
    run_json("apply", model, "--data", tmp_path / "out", "--scale", 1000, "-o", tmp_path / "again.npy")
    expected = expected_of(model, expected_of(model, volume))
    np.testing.assert_allclose(np.load(tmp_path / "again.npy"), expected, rtol=0, atol=1)


def test_labels_are_stored_as_they_are(tmp_path: Path) -> None:
    text = "g (float[N, 1, H, W] x) => (float[N, 4, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, v, c) }"
    path, volume = save(text_model(text, v=(4, 1, 3, 3), c=(4,)), tmp_path / "model.onnx"), series(tmp_path / "in")
    report = run_json("apply", path, "--data", tmp_path / "in", "--scale", 1000, "--argmax", "-o", tmp_path / "out")
    assert any("which is no DICOM segmentation (SEG)" in remark for remark in report["remarks"])
    (scores,) = open_session(str(path)).run(None, {"x": (volume[:, None] / 1000).astype(np.float32)})
    made = slices_of(tmp_path / "out")
    np.testing.assert_array_equal(np.stack([values_of(data) for data in made]), scores.argmax(1))
    assert "WindowCenter" not in made[0]
    assert run("apply", path, "--data", tmp_path / "in", "--scale", 1000, "-o", tmp_path / "all").exit_code == 2
    assert not (tmp_path / "all").exists()


def test_studies_of_a_directory_have_a_series_each(model: Path, tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    volumes = {name: series(tmp_path / "studies" / name) for name in ("a", "b")}
    run_json("apply", model, "--data", tmp_path / "studies", "--scale", 1000, "-o", tmp_path / "out")
    for name, volume in volumes.items():
        found = np.stack([values_of(data) for data in slices_of(tmp_path / "out" / name)])
        np.testing.assert_allclose(found, expected_of(model, volume), rtol=0, atol=0.1)


def test_no_series_is_mixed_with_another(model: Path, tmp_path: Path) -> None:
    series(tmp_path / "in")
    series(tmp_path / "out")
    arguments = ("apply", model, "--data", tmp_path / "in", "--scale", 1000, "-o", tmp_path / "out", "--overwrite")
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert "of another series" in refused.stderr
    np.save(tmp_path / "image.npy", np.zeros((1, 1, 9, 9), np.float32))
    refused = run("apply", model, "--data", tmp_path / "image.npy", "-o", tmp_path / "new")
    assert refused.exit_code == 2
    assert "only results of many files, or of a DICOM series, go into a directory" in refused.stderr
    assert not (tmp_path / "new").exists()
