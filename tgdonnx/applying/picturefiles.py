"""Results as PNG and TIFF, written with Pillow.

Values in the units of a picture are rounded to its type, and what that cannot hold becomes the nearest that it can; how many,
is told. Classes are whole numbers already. Other numbers go into TIFF, float32, as they are.

A TIFF has pages where a picture does not hold all: the slices of a stack, and channels that are no colours.
"""

from __future__ import annotations

import io
from typing import Any, Optional

import numpy as np

from tgdonnx.applying.orienting import taken_to
from tgdonnx.data.images import PILLOW
from tgdonnx.data.lazy_arrays import Array

PICTURES = (".png", ".tif", ".tiff")
_COLOURS = (1, 3, 4)


def why_no_picture(
    suffix: str, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], pixels: Optional[np.dtype[Any]]
) -> str:
    """Returns why a result can be no picture; nothing if it can.

    Args:
        suffix: of the file.
        axes: of the result.
        shape: of the result.
        dtype: of the result.
        pixels: the whole numbers that it is rounded to; None where its values are not in those of a picture.

    Raises:
        RuntimeMissingError: Pillow is not installed.
    """
    PILLOW.load(f"a result {suffix}")
    sizes, kind = dict(zip(axes, shape)), _kind(dtype, pixels)
    pages = pages_of(axes, shape, dtype, pixels)
    letters = "NCHW" if suffix == ".png" else "NCDHW"
    if not {"H", "W"} <= set(axes) or set(axes) - set(letters) or sizes.get("N", 1) != 1:
        return f"the result has the axes {axes} {list(shape)}, and a picture is one of H, W and perhaps colours"
    if "D" in axes and sizes.get("C", 1) > 1:
        return f"the result has the axes {axes} {list(shape)}, and a TIFF has pages for either slices or channels"
    if suffix == ".png" and kind.kind == "f":
        return "values are no pixels: they are not in the units of a picture of whole numbers"
    if suffix == ".png" and pages:
        return f"the result has {sizes['C']} channels of {kind}, and a picture has colours of 8 bits: 1, 3 or 4"
    if kind not in (np.dtype(np.float32), np.dtype(np.uint8), np.dtype(np.uint16)):
        return f"pixels of {kind} are not written"
    return ""


def pages_of(axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], pixels: Optional[np.dtype[Any]]) -> str:
    """Returns the axis of a result that the pages of a TIFF are: D, C, or none where it is one picture."""
    if "D" in axes:
        return "D"
    channels = dict(zip(axes, shape)).get("C", 1)
    colours = channels in _COLOURS and _kind(dtype, pixels) == np.uint8
    return "" if channels == 1 or colours else "C"


def _kind(dtype: np.dtype[Any], pixels: Optional[np.dtype[Any]]) -> np.dtype[Any]:
    """Returns what pixels are."""
    return pixels if dtype.kind == "f" and pixels is not None else dtype


def picture_bytes(suffix: str, values: Array, axes: str, pixels: Optional[np.dtype[Any]]) -> tuple[bytes, int]:
    """Returns a file, and how many values were clipped.

    Args:
        suffix: of the file.
        values: the result, which `why_no_picture` says nothing against.
        axes: of the result.
        pixels: as of `why_no_picture`.
    """
    pages = pages_of(axes, values.shape, values.dtype, pixels)
    picture, clipped = taken_to(values, axes, f"{pages}HW" if pages else "HWC"), 0
    if picture.dtype.kind == "f" and pixels is not None:
        limits = np.iinfo(pixels)
        rounded = np.rint(picture)
        clipped = int(np.count_nonzero((rounded < limits.min) | (rounded > limits.max)))
        picture = np.clip(rounded, limits.min, limits.max).astype(pixels)
    pillow: Any = PILLOW.load(f"a result {suffix}")
    planes = list(picture) if pages else [picture[..., 0] if picture.shape[-1] == 1 else picture]
    first, *others = (pillow.fromarray(np.ascontiguousarray(plane)) for plane in planes)
    content = io.BytesIO()
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(content, "PNG" if suffix == ".png" else "TIFF", **more)
    return content.getvalue(), clipped
