"""Pictures: PNG, TIFF, JPEG, BMP and WebP, one sample each, read whole with Pillow.

Grey pictures are ``HW``, colour pictures ``HWC``; a TIFF of several grey pictures is a stack, ``DHW``. Pillow converts some
kinds of pictures when it reads them (16 bits per colour to 8, palettes to indices, 2 bits to 8); those are refused, palettes
until a colour is asked for.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import ArrayFormat, Library
from tgdonnx.data.lazy_arrays import Array, LazyArray, Region
from tgdonnx.errors import DataError

PILLOW = Library("PIL.Image", "Pillow", "images")

# Pillow's modes whose arrays are what the file holds: dtype, and how many values a pixel has.
_MODES = {
    "1": ("bool", 1),
    "L": ("uint8", 1),
    "I;16": ("uint16", 1),
    "I;16L": ("uint16", 1),
    "I;16B": (">u2", 1),
    "I": ("int32", 1),
    "F": ("float32", 1),
    "RGB": ("uint8", 3),
    "RGBA": ("uint8", 4),
}
_SUFFIXES = {
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
}
"""By Pillow's names of formats. What may have lost detail says so by its suffix."""
OTHER_SUFFIXES = (".gif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".avif", ".heic")
"""Of pictures that are not read."""
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274  # tags of TIFF


def open_image(path: Path, kept: FileCache) -> LazyArray:
    """Opens a picture.

    Raises:
        DataError: it cannot be read, or not without a conversion.
        RuntimeMissingError: Pillow is not installed.
    """
    pillow = PILLOW.load(str(path))
    with kept.open(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks of Pillow on metadata
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        start = file.read(30)
        file.seek(0)
        try:
            with pillow.open(file) as image:
                _require_plain(image, path, start)
                palette = image.mode == "P"
                dtype, channels = ("uint8", 3) if palette else _MODES[image.mode]
                size, pages = (image.height, image.width), getattr(image, "n_frames", 1)
                for page in range(1, pages):
                    _require_alike(image, page, path)
        except DataError:
            raise
        except (pillow.DecompressionBombWarning, pillow.DecompressionBombError) as error:
            raise DataError(
                f"{path} is larger than Pillow opens ({error})", remedy="save it as .npy or HDF5"
            ) from error
        except Exception as error:  # Pillow's readers raise whatever they stumble over
            raise DataError(f"{path} cannot be read: {_reason(error, path)}") from error
    shape: tuple[int, ...] = size if channels == 1 else (*size, channels)
    layout = "HW" if channels == 1 else "HWC"
    if pages > 1:
        shape, layout = (pages, *size), "DHW"

    def load() -> Array:
        with kept.take(path) as file:
            try:
                with warnings.catch_warnings(), pillow.open(file) as picture:
                    warnings.simplefilter("ignore")
                    values = (
                        _pages(picture, pages)
                        if pages > 1
                        else np.array(picture.convert("RGB") if palette else picture)
                    )
                    orientation = picture.getexif().get(_ORIENTATION, 1)  # PNG may have it behind the pixels
            except Exception as error:
                raise DataError(f"{path} cannot be read: {_reason(error, path)}") from error
        _require_upright(orientation, path)
        if values.shape != shape:
            raise DataError(f"{path} cannot be read: expected {list(shape)}, found {list(values.shape)}")
        return values.astype(np.dtype(dtype).newbyteorder("="), copy=False)

    def read(region: Region) -> Array:
        return kept.get(path, load)[region]

    found = LazyArray(
        *(str(path), shape, np.dtype(dtype).newbyteorder("="), read, layout),
        files=(path,),
        keep=partial(kept.get_instead, path),
    )
    if not palette:
        return found

    def refuse(_: Region) -> Array:
        raise DataError(
            f"{path} has pixels of the kind 'P'",
            remedy="save it as grey, RGB or RGBA, or have its palette looked up (`colour`)",
        )

    return replace(found, read=refuse, in_colour=found)


def _require_plain(image: Any, path: Path, start: bytes) -> None:
    if getattr(image, "n_frames", 1) > 1 and (image.format != "TIFF" or _MODES.get(image.mode, ("", 0))[1] != 1):
        raise DataError(
            f"{path} holds {image.n_frames} pictures; expected one, or a TIFF of grey ones, or a volume as .npy or NIfTI"
        )
    bits: tuple[int, ...]
    if image.format == "PNG":
        bits = (struct.unpack(">B", start[24:25])[0],)
    elif image.format == "TIFF":
        bits = tuple(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
        _require_upright(image.tag_v2.get(_ORIENTATION, 1), path)
    elif path.suffix.lower() in _SUFFIXES.get(image.format, ()):
        bits = (_bits_of_bmp(start),) if image.format == "BMP" else (8,)
        _require_upright(image.getexif().get(_ORIENTATION, 1), path)
    else:
        raise DataError(
            f"{path} is a {image.format}; expected a PNG or TIFF, or a JPEG, BMP or WebP whose name says so",
            remedy="save it as PNG",
        )
    if image.mode == "P" and image.format in ("PNG", "BMP") and "transparency" not in image.info:
        return
    if image.mode not in _MODES:
        raise DataError(f"{path} has pixels of the kind {image.mode!r}", remedy="save it as grey, RGB or RGBA")
    most = 8 if image.mode in ("RGB", "RGBA") else 32
    if max(bits) > most or bits[0] not in (1, 8, 16, 32) or (max(bits) == 1) != (image.mode == "1"):
        raise DataError(
            f"{path} has {max(bits)} bits per value and the kind {image.mode}, which Pillow would convert",
            remedy="save it as .npy",
        )


def _require_alike(image: Any, page: int, path: Path) -> None:
    """Checks that a page of a TIFF is like the first one, at which the image is."""
    image.seek(0)
    first = (image.mode, image.size, tuple(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    image.seek(page)
    found = (image.mode, image.size, tuple(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    if found != first:
        said = [f"{width} x {height} of the kind {mode}" for mode, (width, height), _ in (first, found)]
        raise DataError(
            f"{path}: picture {page + 1} of the stack differs from the first ({said[0]}, {said[1]})",
            remedy="save pictures of one size and kind",
        )
    _require_upright(image.tag_v2.get(_ORIENTATION, 1), path)


def _pages(image: Any, count: int) -> Array:
    found = []
    for page in range(count):
        image.seek(page)
        found.append(np.array(image))
    image.seek(0)
    return np.stack(found)


def _bits_of_bmp(start: bytes) -> int:
    """Returns the bits of a value, of which a pixel of 24 bits has three, and one of 32 four."""
    (header,) = struct.unpack("<I", start[14:18])
    (pixel,) = struct.unpack("<H", start[24:26] if header == 12 else start[28:30])
    return 8 if pixel in (24, 32) else int(pixel)


def _require_upright(orientation: int, path: Path) -> None:
    if orientation != 1:  # Pillow's versions differ in whether and when they turn it
        raise DataError(
            f"{path} is stored turned (Orientation {orientation})", remedy="save it upright, without that tag"
        )


def _reason(error: Exception, path: Path) -> str:
    text = str(error).partition("\n")[0]
    if "cannot identify" in text:
        return "it is no picture, or damaged"
    return text.replace(str(path), "it") or type(error).__name__


IMAGES = ArrayFormat(
    title="picture",
    suffixes=tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes),
    streamed=(),
    axes=("HW", "HWC", "DHW"),
    library=PILLOW,
    open=open_image,
    holds_sample=True,
)
