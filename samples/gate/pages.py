"""Pages of text, turned by quarters, and what a worse camera makes of them.

Pictures are grey, float32 in [0, 1].
"""

from __future__ import annotations

import numpy as np
from network import Array
from PIL import Image, ImageDraw
from writing import SPLITS, WORDS, Split, font_of
from writing import spoil as taken

SIDE = 224
BLUR, NOISE = 1.5, 0.15  # standard deviations: of the blur in pixels, of the noise by white


def pages(split: Split, count: int, *, seed: int) -> Array:
    """Returns pages, float32 of shape (count, side, side), each turned by a random number of quarters."""
    rng = np.random.default_rng([SPLITS.index(split), seed])
    return np.stack([np.rot90(_draw(rng, split), int(rng.integers(4))) for _ in range(count)])


def spoil(clean: Array, *, seed: int) -> Array:
    """Returns pictures as a worse camera takes them: out of focus, noisy, 8 bits."""
    return taken(clean, blur=BLUR, noise=NOISE, seed=seed)


def _draw(rng: np.random.Generator, split: Split) -> Array:
    paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
    size = int(rng.integers(10, 22))
    font = font_of(rng, split, size)
    image = Image.new("L", (SIDE, SIDE), paper)
    pen = ImageDraw.Draw(image)
    left, top = int(rng.integers(3, 24)), int(rng.integers(2, 20))
    while top < SIDE:
        # Some lines end early, as the last one of a paragraph does.
        count = int(rng.integers(1, 5)) if rng.random() < 0.2 else 12
        pen.text((left, top), " ".join(rng.choice(WORDS, count)), fill=ink, font=font)
        top += round(size * (2.4 if count < 12 else 1.35))
    return np.asarray(image, np.float32) / 255
