"""Pictures made ready for a model, as classifiers are fed: of one kind of colour, resized, cut to the centre, in this order.

Pillow does the work, as torchvision has it do: a picture is converted (ITU-R 601-2 for grey), its shorter side is resized to N
or both to H and W (a larger picture is smoothed first, what is called antialiasing), and the centre is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Optional, get_args

import numpy as np

from tgdonnx.data.format import Library
from tgdonnx.data.layouts import model_layout
from tgdonnx.data.lazy_arrays import Array, LazyArray, Region, whole
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
RESAMPLES: tuple[Resample, ...] = get_args(Resample)
Colour = Literal["grey", "rgb"]
COLOURS: tuple[Colour, ...] = get_args(Colour)
CHANNELS: Mapping[Colour, int] = {"grey": 1, "rgb": 3}

_PILLOW = Library("PIL.Image", "Pillow", "images")


@dataclass(frozen=True)
class Pictures:
    """How pictures are made ready.

    Attributes:
        resize: height and width, or one number for the shorter side; None to leave them.
        resample: how Pillow interpolates.
        crop: height and width of the centre, or one number for both; None for all of it.
        colour: ``grey`` or ``rgb``; None to leave them.
    """

    resize: Optional[tuple[int, ...]] = None
    resample: Resample = "bilinear"
    crop: Optional[tuple[int, ...]] = None
    colour: Optional[Colour] = None

    def __post_init__(self) -> None:
        for name, sizes in (("resize", self.resize), ("crop", self.crop)):
            if sizes is not None and not (1 <= len(sizes) <= 2 and min(sizes) >= 1):
                raise DataError(f"expected {name} of one size or two, such as 224x224; got {'x'.join(map(str, sizes))}")
        if self.resample not in RESAMPLES:
            raise DataError(f"expected resample of {', '.join(RESAMPLES)}, got {self.resample!r}")
        if self.colour is not None and self.colour not in COLOURS:
            raise DataError(f"expected colour of {', '.join(COLOURS)}, got {self.colour!r}")

    @property
    def changes(self) -> bool:
        """Whether anything is asked for."""
        return self.resize is not None or self.crop is not None or self.colour is not None

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size that a picture is resized to."""
        if self.resize is None:
            return height, width
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        short = self.resize[0]
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short

    def corner(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns where the centre begins and ends: top, left, bottom, right."""
        if self.crop is None:
            return 0, 0, height, width
        tall, wide = self.crop[0], self.crop[-1]
        top, left = round((height - tall) / 2), round((width - wide) / 2)  # to even, as torchvision
        return top, left, top + tall, left + wide


def prepared(stored: LazyArray, spec: TensorSpec, pictures: Pictures) -> LazyArray:
    """Returns a picture made ready for an input; what is no image for the model stays as it is.

    Of targets, those become of the colour asked for with which outputs of as many channels are compared.

    Args:
        stored: the array.
        spec: what it is for.
        pictures: how.

    Raises:
        DataError: it is no picture, not of 8 bits, smaller than what is cut, or a target that would no longer fit.
    """
    if not pictures.changes or (spec.shape is not None and model_layout(spec, None) is None):
        return _as_it_is(stored)
    if spec.role != "input":
        if pictures.resize is not None or pictures.crop is not None:
            raise DataError(
                f"{stored.place}: targets that are images do not follow `resize` and `crop`",
                remedy="bring both to one size first, or train on patches (`patch`)",
            )
        if pictures.colour is None or spec.shape is None or spec.shape[1:2] != (CHANNELS[pictures.colour],):
            return _as_it_is(stored)
    stored = stored.in_colour if pictures.colour is not None and stored.in_colour is not None else _as_it_is(stored)
    if stored.layout not in ("HW", "HWC") or stored.dtype != np.uint8:
        raise DataError(
            f"{stored.place}: expected a picture of 8 bits to make ready for {spec.name!r}, found {stored.dtype} "
            f"{list(stored.shape)}",
            remedy="leave out `resize`, `crop` and `colour`, or give pictures of 8 bits",
        )
    height, width = pictures.resized(*stored.shape[:2])
    top, left, bottom, right = pictures.corner(height, width)
    if bottom - top > height or right - left > width:
        raise DataError(
            f"{stored.place} is {height}x{width}, smaller than the centre of {bottom - top}x{right - left}",
            remedy="make it larger first (`resize`)",
        )
    channels = {"grey": (), "rgb": (3,)}[pictures.colour] if pictures.colour is not None else stored.shape[2:]
    make = partial(_maker(stored, pictures), (height, width), (left, top, right, bottom))

    def read(region: Region) -> Array:
        # Small ones stay in memory from epoch to epoch, where what they are made of would not.
        made = make() if stored.keep is None else stored.keep((stored.place, pictures), make)
        return made[region]

    return replace(
        stored,
        shape=(bottom - top, right - left, *channels),
        read=read,
        keep=None,
        layout="HWC" if channels else "HW",
        remarks=(*stored.remarks, f"{spec.name}: {describe(pictures)}"),
    )


def _as_it_is(stored: LazyArray) -> LazyArray:
    """Returns an array that nobody asked to convert, which of a palette is an error."""
    if stored.in_colour is not None:
        stored.read(whole(stored.shape))  # says why not
    return stored


def _maker(stored: LazyArray, pictures: Pictures) -> Callable[[tuple[int, int], tuple[int, int, int, int]], Array]:
    image: Any = _PILLOW.load(stored.place)

    def make(size: tuple[int, int], box: tuple[int, int, int, int]) -> Array:
        picture = image.fromarray(stored.read(tuple(slice(0, n) for n in stored.shape)))
        if pictures.colour is not None:
            picture = picture.convert({"grey": "L", "rgb": "RGB"}[pictures.colour])
        if pictures.resize is not None:
            picture = picture.resize((size[1], size[0]), image.Resampling[pictures.resample.upper()])
        return np.asarray(picture.crop(box))

    return make


def describe(pictures: Pictures) -> str:
    """Returns what is done to pictures, in words."""
    said = []
    if pictures.colour is not None:
        said.append(f"to {pictures.colour}")
    if pictures.resize is not None:
        sizes = "x".join(map(str, pictures.resize))
        which = "" if len(pictures.resize) == 2 else "the shorter side "
        said.append(f"{which}resized to {sizes} ({pictures.resample})")
    if pictures.crop is not None:
        said.append(f"the centre of {pictures.crop[0]}x{pictures.crop[-1]}")
    return f"pictures {', '.join(said)}"
