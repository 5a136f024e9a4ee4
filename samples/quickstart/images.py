"""Images for the quick start: the new task, which the vendor never saw, and the vendor's own.

- **New task**: photographs and micrographs with Poisson-Gaussian noise, as a camera gives in low light. The pictures
  ship inside scikit-image. Each comes as one noisy exposure, whose noise never changes, and the clean picture.
- **Old task**: drawings after JPEG compression, the vendor's training task. The drawings are made here, with Pillow
  (shapes with outlines, shading, text), and one is scikit-image's logo.

A picture belongs to one split only: training, validation or test never share one. All seeds are fixed. Pixels are the
luma Y of YCbCr, float32 in [0, 1], rounded to 8 bits in what the network is given, as the vendor's program does.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from vendor import MARGIN

HeldOut = Literal["validation", "test"]
Split = Literal["train", "validation", "test"]

PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "brick", "cat", "coins", "gravel", "immunohistochemistry"),
    "validation": ("coffee", "grass", "moon"),
    "test": ("camera", "cell", "clock", "hubble_deep_field", "rocket"),
}
"""Functions of :mod:`skimage.data` whose pictures need no download."""

PEAK = 60.0
"""Photons counted in a white pixel."""

READ_NOISE = 0.03
"""Standard deviation of the Gaussian noise; white is 1."""

JPEG_QUALITY = (65, 75, 85)
"""Within the 65 to 90 that the vendor trained this network on; the drawings take turns."""

_SIDE = 256
_DRAWINGS: dict[HeldOut, int] = {"validation": 4, "test": 6}


@dataclass(frozen=True)
class Picture:
    """One picture, spoilt and clean: both ``[H, W]`` float32 in [0, 1]."""

    name: str
    noisy: NDArray[np.float32]
    clean: NDArray[np.float32]


@dataclass(frozen=True)
class Patches:
    """Training data: ``image`` float32 ``[N, 1, S + 14, S + 14]`` and ``target`` ``[N, 1, S, S]``, the clean centre."""

    image: NDArray[np.float32]
    target: NDArray[np.float32]


def photographs(split: Split) -> list[Picture]:
    """Return the new task: training pictures whole, of the others the central 256 x 256 pixels, to save time."""
    pictures = []
    for name in PHOTOGRAPHS[split]:
        clean = _luma(_shipped(name))
        if split != "train":
            clean = _central(clean)
        # The seed hangs on the name, so adding a picture leaves the others as they were.
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        pictures.append(Picture(name, add_noise(clean, rng), clean))
    return pictures


def drawings(split: HeldOut) -> list[Picture]:
    """Return the vendor's own task. It is never trained on here, so there is no training split."""
    images = {
        f"drawing {i}": _draw(np.random.default_rng((list(_DRAWINGS).index(split), i))) for i in range(_DRAWINGS[split])
    }
    if split == "test":
        logo = _shipped("logo")
        images["logo"] = Image.alpha_composite(Image.new("RGBA", logo.size, "white"), logo).convert("RGB")
    pictures = []
    for i, (name, image) in enumerate(images.items()):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=JPEG_QUALITY[i % len(JPEG_QUALITY)])
        pictures.append(Picture(name, _central(_luma(Image.open(stream))), _central(_luma(image))))
    return pictures


def training_patches(count: int, size: int, *, seed: int = 0) -> Patches:
    """Cut patches with ``size`` target pixels a side out of the training photographs, turned and mirrored at random."""
    rng = np.random.default_rng(seed)
    pictures = photographs("train")
    side = size + 2 * MARGIN
    image = np.empty((count, 1, side, side), np.float32)
    target = np.empty((count, 1, size, size), np.float32)
    inner = slice(MARGIN, MARGIN + size)
    for i in range(count):
        picture = pictures[i % len(pictures)]
        height, width = picture.clean.shape
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        window = np.s_[top : top + side, left : left + side]
        turns, mirror = int(rng.integers(4)), slice(None, None, -1 if rng.integers(2) else 1)
        image[i, 0] = np.rot90(picture.noisy[window], turns)[:, mirror]
        target[i, 0] = np.rot90(picture.clean[window][inner, inner], turns)[:, mirror]
    return Patches(image, target)


def add_noise(clean: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Poisson noise of the light, Gaussian noise of the sensor, then 8 bits."""
    counted = rng.poisson(clean * PEAK) / PEAK + rng.normal(0.0, READ_NOISE, clean.shape)
    return (np.round(np.clip(counted, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


def _shipped(name: str) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)())


def _luma(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("YCbCr"))[..., 0].astype(np.float32) / 255.0


def _central(image: NDArray[np.float32]) -> NDArray[np.float32]:
    top, left = (image.shape[0] - _SIDE) // 2, (image.shape[1] - _SIDE) // 2
    return image[top : top + _SIDE, left : left + _SIDE]


def _draw(rng: np.random.Generator) -> Image.Image:
    """Make a drawing in flat colours with dark outlines on a shaded ground."""
    # Three times too large, then reduced: smooth edges.
    scale = 3
    side = _SIDE * scale

    def colour() -> tuple[int, ...]:
        return tuple(int(v) for v in rng.integers(40, 256, 3))

    ramp = np.linspace(0.0, 1.0, side)[:, None, None]
    shade = np.array(colour()) * (1.0 - ramp) + np.array(colour()) * ramp
    image = Image.fromarray(np.broadcast_to(shade, (side, side, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    ink = (20, 20, 30)
    for kind in rng.permutation(["ellipse", "polygon", "curve"] * 5):
        centre = rng.uniform(0.0, side, 2)
        if kind == "ellipse":
            half = rng.uniform(0.04, 0.2, 2) * side
            box = [*(centre - half), *(centre + half)]
            pen.ellipse(box, fill=colour(), outline=ink, width=int(rng.integers(1, 4)) * scale)
        elif kind == "polygon":
            angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, int(rng.integers(3, 7))))
            radius = rng.uniform(0.06, 0.25) * side
            corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            pen.polygon(list(map(tuple, corners)), fill=colour(), outline=ink, width=int(rng.integers(1, 4)) * scale)
        else:
            t = np.linspace(0.0, 1.0, 60)[:, None]
            a, b, c = (rng.uniform(0.0, side, 2) for _ in range(3))
            points = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
            pen.line(list(map(tuple, points)), fill=ink, width=int(rng.integers(1, 4)) * scale, joint="curve")
    for word in rng.permutation(["targeted", "gradient", "descent", "0123456789"])[:3]:
        font = ImageFont.load_default(size=int(rng.integers(12, 28)) * scale)
        x, y = rng.uniform(0.0, 0.7, 2) * side
        pen.text((x, y), str(word), fill=ink if rng.integers(2) else (250, 250, 250), font=font)
    return image.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
