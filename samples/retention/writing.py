"""Lines and pages of text, drawn with what is known of them, and what a worse camera makes of both.

Text is drawn in the fonts that Matplotlib ships; training, validation and test have fonts of their own. Pictures are grey,
float32 in [0, 1], and say the same in all three colours of what the networks take.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Array = NDArray[np.float32]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

FONTS: dict[Split, tuple[str, ...]] = {
    "train": ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold", "STIXGeneral"),
    "validation": ("DejaVuSerif-Bold", "DejaVuSans-Oblique"),
    "test": ("DejaVuSansMono-Bold", "DejaVuSerif-Italic", "STIXGeneralBol", "STIXGeneralItalic"),
}
_TEXT = (
    "amount and answer before city clinical contract court date day delivery department early every filter first for from "
    "general goods hand invoice it kernel large letter line made many name network new no note number of old one order page "
    "paper part payment people place please report result right same second sheet small street study sum that the this time "
    "to total under value vendor was week when which with without work year you"
)
WORDS = _TEXT.split()

LINE = (48, 192)
PAGE = 160
SHRINK = 0.4
"""Of the boxes of text that the detector is trained on (DB, Liao et al., AAAI 2020)."""
LOOSE = 2
"""Pixels that a box lies outside of the ink, as those do that people draw."""


def font_of(rng: np.random.Generator, split: Split, size: int) -> ImageFont.FreeTypeFont:
    """Returns a font of a split."""
    names = FONTS[split]
    directory = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ImageFont.truetype(str(directory / f"{names[int(rng.integers(len(names)))]}.ttf"), size)


def lines(split: Split, count: int, *, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Returns lines of text, (count, *LINE), and for each 0 if it stands upright, 1 if it is upside down."""
    rng = np.random.default_rng([SPLITS.index(split), seed, 1])
    upside_down = rng.integers(0, 2, count)
    drawn = [_line(rng, split) for _ in range(count)]
    return np.stack([each[::-1, ::-1] if turned else each for each, turned in zip(drawn, upside_down)]), upside_down


def page_boxes(split: Split, count: int, *, seed: int) -> tuple[Array, Array]:
    """Returns pages, (count, PAGE, PAGE), and what is known of them, (count, 2, PAGE, PAGE).

    First for each pixel 1 where it lies in a shrunk box of text, then the same for whole boxes.
    """
    rng = np.random.default_rng([SPLITS.index(split), seed, 2])
    drawn = [_page(rng, split) for _ in range(count)]
    return np.stack([page for page, _ in drawn]), np.stack([masks for _, masks in drawn])


def spoil(clean: Array, *, blur: float, noise: float, contrast: float = 1.0, seed: int) -> Array:
    """Returns pictures as a worse camera takes them: pale, out of focus, noisy, 8 bits.

    Args:
        clean: (count, height, width).
        blur: standard deviation in pixels.
        noise: standard deviation by white.
        contrast: how much is left of it.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    pale = 0.5 + contrast * (clean - 0.5)
    blurred = ndimage.gaussian_filter(pale, (0, blur, blur), mode="nearest")
    noisy = np.clip(blurred + rng.normal(0, noise, clean.shape), 0, 1)
    return (np.round(noisy * 255) / 255).astype(np.float32)


def _line(rng: np.random.Generator, split: Split) -> Array:
    height, width = LINE
    paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
    font = font_of(rng, split, int(rng.integers(22, 36)))
    image = Image.new("L", (width, height), paper)
    text = " ".join(rng.choice(WORDS, 4))
    ImageDraw.Draw(image).text(
        (int(rng.integers(2, 12)), int(rng.integers(20, 28))), text, fill=ink, font=font, anchor="lm"
    )
    return np.asarray(image, np.float32) / 255


def _page(rng: np.random.Generator, split: Split) -> tuple[Array, Array]:
    paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
    image = Image.new("L", (PAGE, PAGE), paper)
    cores, boxes = (Image.new("L", (PAGE, PAGE), 0) for _ in range(2))
    pen, core, box = (ImageDraw.Draw(each) for each in (image, cores, boxes))
    top = int(rng.integers(4, 16))
    while top < PAGE - 16:
        font = font_of(rng, split, int(rng.integers(11, 20)))
        text = " ".join(rng.choice(WORDS, int(rng.integers(1, 4))))
        at = (int(rng.integers(4, 40)), top)
        ink_box = pen.textbbox(at, text, font=font)
        if ink_box[2] < PAGE - 2 and ink_box[3] < PAGE - 2:
            pen.text(at, text, fill=ink, font=font)
            left, upper, right, lower = (ink_box[0] - LOOSE, ink_box[1] - LOOSE, ink_box[2] + LOOSE, ink_box[3] + LOOSE)
            wide, high = right - left, lower - upper
            margin = wide * high * (1 - SHRINK**2) / (2 * (wide + high))
            box.rectangle((left, upper, right, lower), fill=1)
            core.rectangle((left + margin, upper + margin, right - margin, lower - margin), fill=1)
        top = int(ink_box[3] + rng.integers(6, 22))
    return np.asarray(image, np.float32) / 255, np.stack([np.asarray(each, np.float32) for each in (cores, boxes)])
