"""Results as PNG and TIFF, written with Pillow.

Values in the units of a picture are rounded to its type, and what that cannot hold becomes the nearest that it can; how many,
is told. Classes are whole numbers already. Other numbers go into TIFF, one channel, float32, as they are.
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
    sizes = dict(zip(axes, shape))
    channels = sizes.get("C", 1)
    if not {"H", "W"} <= set(axes) or set(axes) - set("NCHW") or sizes.get("N", 1) != 1:
        return f"the result has the axes {axes} {list(shape)}, and a picture is one of H, W and perhaps colours"
    if channels not in _COLOURS:
        return f"the result has {channels} channels, and a picture has {', '.join(map(str, _COLOURS))}"
    kind = pixels if dtype.kind == "f" else dtype
    if kind is None or kind.kind == "f":
        if suffix == ".png":
            return "values are no pixels: they are not in the units of a picture of whole numbers"
        return "" if channels == 1 else f"the result has {channels} channels of float32, which TIFF is not written with"
    if kind.kind != "u" or kind.itemsize > (2 if channels == 1 else 1):
        return f"pixels of {channels} channels of {kind} are not written"
    return ""


def picture_bytes(suffix: str, values: Array, axes: str, pixels: Optional[np.dtype[Any]]) -> tuple[bytes, int]:
    """Returns a file, and how many values were clipped.

    Args:
        suffix: of the file.
        values: the result, which `why_no_picture` says nothing against.
        axes: of the result.
        pixels: as of `why_no_picture`.
    """
    picture, clipped = taken_to(values, axes, "HWC"), 0
    if picture.dtype.kind == "f" and pixels is not None:
        limits = np.iinfo(pixels)
        rounded = np.rint(picture)
        clipped = int(np.count_nonzero((rounded < limits.min) | (rounded > limits.max)))
        picture = np.clip(rounded, limits.min, limits.max).astype(pixels)
    if picture.shape[-1] == 1:
        picture = picture[..., 0]
    image: Any = PILLOW.load(f"a result {suffix}").fromarray(np.ascontiguousarray(picture))
    content = io.BytesIO()
    image.save(content, "PNG" if suffix == ".png" else "TIFF")
    return content.getvalue(), clipped
