"""Files for results: ``.npy``, ``.npz``, NIfTI, PNG and TIFF.

``.npy`` is written piece by piece; NIfTI keeps the header of its source.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.applying.forms import Form
from tgdonnx.applying.orienting import taken_to
from tgdonnx.applying.picturefiles import PICTURES, pages_of, picture_bytes, why_no_picture
from tgdonnx.data.lazy_arrays import Array, LazyArray
from tgdonnx.data.nifti import NIBABEL, NIFTI
from tgdonnx.files.model_file import replacing, write_bytes

ARRAYS = ".npz"
SUFFIXES = (".npy", ARRAYS, *NIFTI.suffixes, *PICTURES)

Fill = Callable[[Array], None]


@dataclass(frozen=True)
class Made:
    """A result that is to be computed and written.

    Attributes:
        output: the output of the model that it is of.
        stored: the image that it is made from.
        axes: of the result.
        shape: of the result.
        dtype: of the result.
        form: what it is.
    """

    output: str
    stored: LazyArray
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    form: Form


@dataclass(frozen=True)
class Range:
    """The values of a result, before they were rounded to what its file holds.

    Attributes:
        low: the least; None where it has none.
        high: the largest; None where it has none.
        clipped: how many of them the file cannot hold, so that the nearest that it can stands for them.
        error: by how much others may differ in the file.
    """

    low: Optional[float]
    high: Optional[float]
    clipped: int = 0
    error: float = 0.0

    @classmethod
    def of(cls, array: Array) -> Range:
        """Returns the range of an array that the file holds as it is."""
        return cls(float(array.min()), float(array.max())) if array.size else cls(None, None)


def suffix_of(path: Path) -> str:
    """Returns the suffix of a file that results can be written to; empty if it has none of these."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def why_not(suffix: str, made: Made, place: Path) -> str:
    """Returns why a file of a format cannot hold a result; nothing if it can.

    Raises:
        RuntimeMissingError: the library for the format is not installed.
    """
    if suffix in NIFTI.suffixes:
        NIBABEL.load(str(place))
        return _why_no_nifti(made)
    return why_no_picture(suffix, made.axes, made.shape, made.dtype, _pixels(made)) if suffix in PICTURES else ""


def paged(suffix: str, made: Made) -> str:
    """Returns what is said of a file of which the channels of a result are pages; nothing of others."""
    if suffix not in PICTURES[1:] or pages_of(made.axes, made.shape, made.dtype, _pixels(made)) != "C":
        return ""
    return f"the {dict(zip(made.axes, made.shape))['C']} channels of a result are the pages of its TIFF, {made.dtype}"


def write(path: Path, made: Made, fill: Fill) -> Range:
    """Computes a result and writes it, whole or not at all.

    Args:
        path: where.
        made: the result.
        fill: computes it into an array.

    Raises:
        DataError: it cannot be computed.
        OutputError: it cannot be written.
    """
    suffix = suffix_of(path)
    if suffix == ".npy":
        with replacing(path) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=made.dtype, shape=made.shape)
            fill(array)
            found = Range.of(array)
            array.flush()
            del array
        return found
    values = np.empty(made.shape, made.dtype)
    fill(values)
    if suffix in PICTURES:
        content, clipped = picture_bytes(suffix, values, made.axes, _pixels(made))
        write_bytes(path, content)
        rounded = values.dtype.kind == "f" and _pixels(made) is not None
        return replace(Range.of(values), clipped=clipped, error=0.5 if rounded else 0.0)
    content = _nifti_bytes(values, made)
    write_bytes(path, gzip.compress(content, mtime=0) if suffix.endswith(".gz") else content)
    return Range.of(values)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes results into one ``.npz`` archive, by name.

    Raises:
        OutputError: they cannot be written.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # names of outputs
    write_bytes(path, content.getvalue())


def _pixels(made: Made) -> Optional[np.dtype[Any]]:
    """Returns the whole numbers that pixels are rounded to: those of the picture; None where values are not in its units."""
    return made.stored.dtype if made.form == "image" and made.stored.dtype.kind == "u" else None


def nifti_file(source: LazyArray) -> Optional[Path]:
    """Returns the NIfTI file that an image is read from, if it is."""
    return next((path for path in source.files if path.name.lower().endswith(NIFTI.suffixes)), None)


def _why_no_nifti(made: Made) -> str:
    if nifti_file(made.stored) is None:
        return f"a NIfTI file says where the volume lies in space, which {made.stored.place} does not"
    space = tuple(size for letter, size in zip(made.axes, made.shape) if letter != "C")
    if space == made.stored.shape:
        return ""
    sizes = f"the result has the shape {list(made.shape)}, the volume {list(made.stored.shape)}"
    return f"{sizes}, so its header does not hold for it"


def _nifti_bytes(values: Array, made: Made) -> bytes:
    path = nifti_file(made.stored)
    nibabel: Any = NIBABEL.load(str(path))
    original = nibabel.load(path)
    header = original.header.copy()
    header.set_data_dtype(values.dtype)
    header["cal_min"] = header["cal_max"] = 0  # what was to be shown of the values, which are others now
    if "C" in made.axes:  # channels come last of all, as x comes first
        values = taken_to(values, made.axes, f"C{made.axes.replace('C', '')}")
    image = type(original)(values.T, original.affine, header)
    content: bytes = image.to_bytes()
    return content
