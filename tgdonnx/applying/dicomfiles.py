"""Results as a derived DICOM series: the slices that they are made from, with other pixels and identities of their own.

Patient, study and place in space stay. Series and slices get new UIDs; every slice names the one that it is made from, and the
model with its SHA-256. Values are stored in 16 bits with a RescaleSlope, without intercept: one slope for the series, or in
PET, where every slice has its own, one for each. What speaks of stored values (padding, smallest and largest, private elements)
is left out.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.dicom import PYDICOM
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError

SERIES = ".dcm"
_OF_STORED_VALUES = (
    *("SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RealWorldValueMappingSequence", "IconImageSequence"),
    *("FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "DigitalSignaturesSequence", "MACParametersSequence"),
)
_OF_SHOWN_VALUES = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTSequence", "VOILUTFunction")
_LONGEST = {"LO": 64, "ST": 1024}


@dataclass(frozen=True)
class Derivation:
    """What a series is derived by.

    Attributes:
        model: the name of its file.
        sha256: of that.
        in_units: whether values are in the units of the series that it is made from.
    """

    model: str
    sha256: str
    in_units: bool


def slice_name(index: int) -> str:
    """Returns the name of the file of a slice, counted from 0."""
    return f"{index + 1:05}{SERIES}"


def write_series(directory: Path, values: Array, sources: Sequence[Path], derivation: Derivation) -> float:
    """Writes a volume as a derived series.

    Args:
        directory: where; it is there.
        values: (D, H, W), in the order of ``sources``.
        sources: the files of the slices that it is made from, in order of their position.
        derivation: what it is made by.

    Returns:
        By how much a stored value may differ from that of the volume.

    Raises:
        DataError: a file cannot be read, or values are not finite or too many whole numbers.
        RuntimeMissingError: pydicom is not installed.
    """
    pydicom: Any = PYDICOM.load(str(directory))
    series, now = pydicom.uid.generate_uid(), datetime.now()  # DICOM has local times
    common, largest = None, 0.0
    for index, (path, image) in enumerate(zip(sources, values)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of pydicom on values that bend the standard
            try:
                source = pydicom.dcmread(path, stop_before_pixels=True)
                if common is None and source.get("Modality") != "PT":
                    common = _Stored.of(values)
                stored = common or _Stored.of(image)
                made = _derived(pydicom, source, derivation, series, now)
                _put(pydicom, made, image, stored)
                made.InstanceNumber = index + 1
                _save(pydicom, made, directory / slice_name(index))
            except (DataError, OSError):
                raise
            except Exception as error:  # pydicom raises whatever it stumbles over
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise DataError(
                    f"no slice can be derived from {path}: {reason}", remedy="write the result as .npy"
                ) from error
        largest = max(largest, stored.error)
    return largest


@dataclass(frozen=True)
class _Stored:
    """How values are stored: in which whole numbers, of how much each is, as DICOM writes it, and what that loses at most."""

    dtype: np.dtype[Any]
    slope: str
    error: float

    @classmethod
    def of(cls, values: Array) -> _Stored:
        if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
            return cls(np.dtype(np.uint16), "1", 0.0)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"a DICOM series holds finite values; the result has {low:g} to {high:g}")
        dtype = np.dtype(np.int16 if low < 0 else np.uint16)
        step = max(abs(low), abs(high)) / np.iinfo(dtype).max or 1.0
        slope = f"{step * (1 + 1e-9):.9g}"  # 16 letters at most, and never less than it takes
        return cls(dtype, slope, float(slope) / 2)

    def numbers(self, values: Array) -> Array:
        return np.rint(values.astype(np.float64) / float(self.slope)).astype(self.dtype)


def _derived(pydicom: Any, source: Any, derivation: Derivation, series: str, now: datetime) -> Any:
    """Returns the elements of a slice without those of its pixels."""
    made = copy.deepcopy(source)
    made.remove_private_tags()
    for name in (*_OF_STORED_VALUES, *(() if derivation.in_units else _OF_SHOWN_VALUES), "PixelData"):
        if name in made:
            delattr(made, name)
    original, version = made.get("SeriesDescription", ""), metadata.version("tgdonnx")
    by = f"tgdonnx {version}, model {derivation.model}, SHA-256 {derivation.sha256}"
    made.SOPInstanceUID, made.SeriesInstanceUID = pydicom.uid.generate_uid(), series
    made.SeriesDescription = f"{original} {derivation.model}".strip()[-_LONGEST["LO"] :].strip()
    made.SeriesNumber = int(made.get("SeriesNumber") or 0) + 1000
    kinds = list(made.get("ImageType") or [])
    made.ImageType = ["DERIVED", "SECONDARY", *kinds[2:]]
    made.DerivationDescription = f"{by}; values in 16 bits"[: _LONGEST["ST"]]
    made.SourceImageSequence = [_reference(pydicom, source)]
    made.ContributingEquipmentSequence = [
        *(made.get("ContributingEquipmentSequence") or []),
        _equipment(pydicom, derivation, by, version),
    ]
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    return made


def _reference(pydicom: Any, source: Any) -> Any:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [_code(pydicom, "121322", "Source image for image processing operation")]
    return item


def _equipment(pydicom: Any, derivation: Derivation, by: str, version: str) -> Any:
    item = pydicom.Dataset()
    item.Manufacturer, item.ManufacturerModelName = "tgdonnx", derivation.model[: _LONGEST["LO"]]
    item.SoftwareVersions, item.ContributionDescription = version, by[: _LONGEST["ST"]]
    item.PurposeOfReferenceCodeSequence = [_code(pydicom, "109103", "Modifying Equipment")]
    return item


def _code(pydicom: Any, value: str, meaning: str) -> Any:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _put(pydicom: Any, made: Any, image: Array, stored: _Stored) -> None:
    made.Rows, made.Columns = image.shape
    made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 16, 16, 15
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.RescaleSlope, made.RescaleIntercept = stored.slope, "0"
    little = stored.dtype.newbyteorder("<")
    made.PixelData = stored.numbers(image).astype(little).tobytes()
    made["PixelData"].VR = "OW"
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta = meta


def _save(pydicom: Any, made: Any, path: Path) -> None:
    if int(pydicom.__version__.partition(".")[0]) >= 3:
        made.save_as(path, enforce_file_format=True)
        return
    made.is_little_endian, made.is_implicit_VR = True, False
    made.save_as(path, write_like_original=False)


def why_no_series(axes: str, shape: tuple[int, ...], source_shape: tuple[int, ...]) -> str:
    """Returns why a result can be no series of its source's slices; nothing if it can."""
    if axes == "DHW" and shape == source_shape:
        return ""
    return (
        f"the result has the axes {axes} {list(shape)}, the series DHW {list(source_shape)}; a derived series has one value "
        "where its source has one"
    )


def other_slices(directory: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields the DICOM files in a directory that are none of those names, and would be taken for slices of the same series."""
    if directory.is_dir():
        yield from (path for path in sorted(directory.glob(f"*{SERIES}")) if path.name not in names)
