"""NIfTI volumes, read with nibabel.

A file stores its axes as x, y, z, with x the fastest; as an array of numpy that is ``(z, y, x)``: ``DHW``. Nothing is turned
to another orientation. Where the header scales the stored numbers, the scaled ones are given, in float32.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import ArrayFormat, Library
from tgdonnx.data.lazy_arrays import UNKNOWN, Array, LazyArray, Region, whole
from tgdonnx.errors import DataError

NIBABEL = Library("nibabel", "nibabel", "nifti")
LARGEST_COMPRESSED = 2**30


def open_nifti(path: Path, kept: FileCache) -> LazyArray:
    """Opens a NIfTI file. ``.nii`` is read piece by piece, ``.nii.gz`` whole.

    Raises:
        DataError: it cannot be read; compressed and larger than `LARGEST_COMPRESSED`.
        RuntimeMissingError: nibabel is not installed.
    """
    nibabel = NIBABEL.load(str(path))
    try:
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")  # remarks of nibabel on unusual headers
            image: Any = nibabel.load(path)
            # Of scale and offset the header of a loaded image keeps none.
            proxy = image.dataobj
            slope, intercept, offset = float(proxy.slope), float(proxy.inter), int(proxy.offset)
            stored_dtype = np.dtype(proxy.dtype)
            affine = np.asarray(image.affine)
            if not np.isfinite(affine).all():
                raise ValueError("its affine is not finite; set sform or qform, or convert it again")
            axes = nibabel.aff2axcodes(affine)
    except Exception as error:  # nibabel raises whatever it stumbles over
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error
    if stored_dtype.kind not in "biuf":
        raise DataError(f"{path} holds {stored_dtype} values; expected numbers")
    compressed = path.name.endswith(".gz")
    shape = tuple(int(size) for size in image.shape)[::-1]
    scaled = (slope, intercept) != (1, 0)
    dtype = np.dtype(np.float32) if scaled else stored_dtype.newbyteorder("=")
    length = int(stored_dtype.itemsize) * math.prod(shape)
    if not compressed and path.stat().st_size < offset + length:
        raise DataError(
            f"{path} cannot be read: it is cut off, {path.stat().st_size} of {offset + length} bytes are there"
        )
    if compressed and offset + length > LARGEST_COMPRESSED:
        raise DataError(
            f"{path} holds {(offset + length) / 2**30:.1f} GiB compressed, which cannot be read piece by piece; "
            "gunzip it to .nii"
        )

    def load(region: Region) -> Array:
        try:
            with np.errstate(all="ignore"):  # what is not finite is looked for afterwards
                values: Array = np.asarray(image.dataobj[region[::-1]])
                turned: Array = values.T.astype(dtype, copy=False)
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(f"{path} cannot be read: {_reason(error)}") from error
        return turned

    known = None not in axes  # an affine that maps everything to one place says nothing
    orientation = "".join(str(axis) for axis in axes) if known else None
    remarks = [f"NIfTI: axes are taken as z, y, x ({orientation[::-1] if orientation else 'orientation unknown'})"]
    if scaled:
        remarks.append(f"NIfTI: stored {stored_dtype} values x {slope:g} + {intercept:g}, in float32")

    def read(region: Region) -> Array:
        if compressed:
            return kept.get(path, lambda: load(whole(shape)))[region]
        return load(region)

    layout = {2: "HW", 3: "DHW"}.get(len(shape), UNKNOWN)
    return LazyArray(str(path), shape, dtype, read, layout, orientation, (path,), tuple(remarks))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps nibabel's log, which has a handler of its own, from standing before what we say."""
    logger = logging.getLogger("nibabel.global")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


NIFTI = ArrayFormat(
    title="NIfTI",
    suffixes=(".nii", ".nii.gz"),
    streamed=(".nii",),
    axes=("HW", "DHW"),
    library=NIBABEL,
    open=open_nifti,
    holds_sample=False,
)
