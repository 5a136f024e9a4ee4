"""DICOM series, read with pydicom: one volume ``DHW`` of the single-frame files of one directory.

Slices are sorted by their position along the normal of their plane. Values are the stored ones times RescaleSlope plus
RescaleIntercept of their own file (in PET every slice has its own), in float32. Files are read one by one, when a slice is
asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import Library, SeriesFormat
from tgdonnx.data.lazy_arrays import Array, LazyArray, Region
from tgdonnx.errors import DataError
from tgdonnx.files.regular import open_regular

PYDICOM = Library("pydicom", "pydicom", "dicom")
_SUFFIXES = (".dcm", ".ima")
_SKEWED = 0.01  # how far the normal of a plane may be from length 1


@dataclass(frozen=True)
class _Slice:
    path: Path
    series: str
    shape: tuple[int, int]
    plane: tuple[float, ...]
    position: float
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, by its suffix or, without one, by its preamble."""
    if path.suffix.lower() in _SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def open_series(directory: Path, files: Sequence[Path], kept: FileCache) -> LazyArray:
    """Opens the files of a series as one volume.

    Args:
        directory: where they lie.
        files: at least one.
        kept: keeps slices that have been read.

    Raises:
        DataError: a file cannot be read or is of another series or size; positions are missing or the same.
        RuntimeMissingError: pydicom is not installed.
    """
    pydicom = PYDICOM.load(str(directory))
    slices = sorted((_open_slice(pydicom, path, kept) for path in files), key=lambda found: found.position)
    first = slices[0]
    for other in slices[1:]:
        for what in ("series", "shape", "plane"):
            if getattr(other, what) != getattr(first, what):
                raise DataError(
                    f"{other.path.name} and {first.path.name} in {directory} differ in their {what}",
                    remedy="put every series into a directory of its own",
                )
    steps = np.diff([found.position for found in slices])
    if len(steps) and steps.min() < 1e-3:
        twice = slices[int(steps.argmin())], slices[int(steps.argmin()) + 1]
        raise DataError(
            f"{twice[0].path.name} and {twice[1].path.name} in {directory} lie at the same place",
            remedy="put every series, and every phase of it, into a directory of its own",
        )
    remarks = [
        "DICOM: slices are sorted by position; values are the stored ones x RescaleSlope + RescaleIntercept, in float32"
    ]
    if len(steps) > 1 and steps.max() > 1.05 * steps.min():
        remarks.append(f"{directory}: slices lie {steps.min():.3g} to {steps.max():.3g} mm apart; one may be missing")

    def read(region: Region) -> Array:
        wanted = slices[region[0]]
        if not wanted:
            return np.empty((0, *(part.stop - part.start for part in region[1:])), np.float32)
        return np.stack([kept.get(s.path, lambda s=s: _read_slice(pydicom, s, kept))[region[1:]] for s in wanted])  # type: ignore[misc]

    orientation = ", ".join(f"{value:.2f}" for value in first.plane)
    paths = tuple(found.path for found in slices)
    shape = (len(slices), *first.shape)
    return LazyArray(str(directory), shape, np.dtype(np.float32), read, "DHW", orientation, paths, tuple(remarks))


def _open_slice(pydicom: Any, path: Path, kept: FileCache) -> _Slice:
    with kept.open(path) as file:
        data = _read(pydicom, path, file, headers_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values are parsed when they are asked for
            return _slice(path, data)
    except DataError:
        raise
    except Exception as error:  # pydicom raises whatever it stumbles over
        raise DataError(f"{path} has a damaged header: {_reason(error)}") from error


def _slice(path: Path, data: Any) -> _Slice:
    missing = [
        name for name in ("Rows", "Columns", "ImageOrientationPatient", "ImagePositionPatient") if name not in data
    ]
    if missing:
        raise DataError(f"{path} has no {' and no '.join(missing)}; expected single-frame slices of a volume")
    if int(data.get("NumberOfFrames", 1) or 1) > 1 or int(data.get("SamplesPerPixel", 1)) != 1:
        raise DataError(f"{path} holds several frames or colours; expected one grey slice per file")
    if "ModalityLUTSequence" in data:
        raise DataError(f"{path} maps its values by a table, which is not supported", remedy="save the volume as NIfTI")
    plane = _numbers(path, "ImageOrientationPatient", data.ImageOrientationPatient, 6)
    position = _numbers(path, "ImagePositionPatient", data.ImagePositionPatient, 3)
    (slope,) = _numbers(path, "RescaleSlope", [data.get("RescaleSlope", 1)], 1)
    (intercept,) = _numbers(path, "RescaleIntercept", [data.get("RescaleIntercept", 0)], 1)
    normal = np.cross(plane[:3], plane[3:])
    if abs(float(np.linalg.norm(normal)) - 1) > _SKEWED:
        raise DataError(
            f"{path} has the ImageOrientationPatient {list(plane)}, which are no two directions at right angles",
            remedy="save the volume as NIfTI",
        )
    along = float(np.asarray(position) @ normal)
    shape = (int(data.Rows), int(data.Columns))
    rounded = tuple(round(value, 4) for value in plane)
    return _Slice(path, str(data.get("SeriesInstanceUID", "")), shape, rounded, along, slope, intercept)


def _numbers(path: Path, name: str, values: Any, count: int) -> tuple[float, ...]:
    found = tuple(float(value) for value in (values if values is not None else ()))
    if len(found) != count or not np.isfinite(found).all():
        what = f"{count} finite numbers" if count > 1 else "a finite number"
        raise DataError(f"{path}: expected {name} to be {what}, found {list(found)}; repair or remove this slice")
    return found


def _read_slice(pydicom: Any, found: _Slice, kept: FileCache) -> Array:
    with kept.take(found.path) as file:
        data = _read(pydicom, found.path, file, headers_only=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored: Array = data.pixel_array
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise DataError(
            f"{found.path} cannot be decoded: {_reason(error)}; if it is compressed, decompress it (dcmdjpeg, gdcmconv)"
        ) from error
    if stored.shape != found.shape:
        raise DataError(f"{found.path} cannot be read: expected {list(found.shape)}, found {list(stored.shape)}")
    with np.errstate(over="ignore"):  # infinity is looked for afterwards
        values: Array = (stored * found.slope + found.intercept).astype(np.float32)
    return values


def _read(pydicom: Any, path: Path, file: IO[bytes], *, headers_only: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of pydicom on values that bend the standard
            return pydicom.dcmread(file, stop_before_pixels=headers_only)
    except Exception as error:  # pydicom raises whatever it stumbles over
        raise DataError(f"{path} cannot be read as DICOM: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


DICOM = SeriesFormat(
    title="DICOM",
    suffixes=_SUFFIXES,
    streamed=_SUFFIXES,
    axes=("DHW",),
    library=PYDICOM,
    open=open_series,
    recognises=is_dicom,
)
