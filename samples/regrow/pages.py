"""Pages of text, turned by quarters, and what a worse camera makes of them.

Text is drawn in the fonts that Matplotlib ships; training, validation and test pages have fonts of their own. Pictures are
grey, float32 in [0, 1].
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from network import Array
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIDE = 224
BLUR, NOISE = 1.5, 0.15  # standard deviations: of the blur in pixels, of the noise by white
Split = Literal["train", "validation", "test"]

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


def pages(split: Split, count: int, *, seed: int) -> Array:
    """Returns pages, float32 of shape (count, side, side), each turned by a random number of quarters."""
    rng = np.random.default_rng([("train", "validation", "test").index(split), seed])
    return np.stack([np.rot90(_draw(rng, FONTS[split]), int(rng.integers(4))) for _ in range(count)])


def spoil(clean: Array, *, seed: int) -> Array:
    """Returns pictures as a worse camera takes them: out of focus, noisy, 8 bits."""
    rng = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(clean, (0, BLUR, BLUR), mode="nearest")
    noisy = np.clip(blurred + rng.normal(0, NOISE, clean.shape), 0, 1)
    return (np.round(noisy * 255) / 255).astype(np.float32)


def _draw(rng: np.random.Generator, fonts: tuple[str, ...]) -> Array:
    paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
    size = int(rng.integers(10, 22))
    directory = Path(matplotlib.get_data_path(), "fonts", "ttf")
    font = ImageFont.truetype(str(directory / f"{fonts[int(rng.integers(len(fonts)))]}.ttf"), size)
    image = Image.new("L", (SIDE, SIDE), paper)
    pen = ImageDraw.Draw(image)
    left, top = int(rng.integers(3, 24)), int(rng.integers(2, 20))
    while top < SIDE:
        # Some lines end early, as the last one of a paragraph does.
        count = int(rng.integers(1, 5)) if rng.random() < 0.2 else 12
        pen.text((left, top), " ".join(rng.choice(WORDS, count)), fill=ink, font=font)
        top += round(size * (2.4 if count < 12 else 1.35))
    return np.asarray(image, np.float32) / 255
