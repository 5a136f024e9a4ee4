"""Flips and rotations by right angles: exact, no value is interpolated.

All arrays of a sample that have axes of space are transformed together; others, such as class labels of whole pictures, stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgdonnx.data.layouts import SPACE
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.options import Augmentation
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec


@dataclass(frozen=True)
class Transform:
    """How a sample is transformed: first rotated, then mirrored.

    Attributes:
        quarters: quarter turns in the plane of H and W.
        mirrored: the axes of space that are mirrored.
    """

    quarters: int = 0
    mirrored: str = ""

    def apply(self, array: Array, axes: str) -> Array:
        """Returns an array transformed; ``axes`` is its layout."""
        if self.quarters and "H" in axes and "W" in axes:
            array = np.rot90(array, self.quarters, (axes.index("H"), axes.index("W")))
        flipped = tuple(axes.index(letter) for letter in self.mirrored if letter in axes)
        return np.flip(array, flipped) if flipped else array


def draw_transform(kinds: Sequence[Augmentation], axes: str, generator: np.random.Generator) -> Transform:
    """Draws a transform; ``axes`` are those of space."""
    quarters = int(generator.integers(4)) if "rotations" in kinds else 0
    mirrored = "".join(letter for letter in axes if generator.integers(2)) if "flips" in kinds else ""
    return Transform(quarters, mirrored)


def require_transformable(
    kinds: Sequence[Augmentation], inputs: Sequence[TensorSpec], samples: Sequence[tuple[str, tuple[int, ...]]]
) -> None:
    """Checks that samples can be transformed.

    Args:
        kinds: what was asked for.
        inputs: what a training step is fed.
        samples: axes and shape of each array of a sample or patch.

    Raises:
        DataError: no array has axes of space; rotations would change a shape.
    """
    if kinds and not any(letter in SPACE for axes, _ in samples for letter in axes):
        raise DataError("no array has axes of space to turn", remedy="leave out `augment`")
    if "rotations" not in kinds:
        return
    if not any("H" in axes for axes, _ in samples):
        raise DataError("there is no plane to rotate in, only a line; augment by flips alone")
    for spec, (axes, shape) in zip(inputs, samples):
        sizes = dict(zip(axes, shape))
        if sizes.get("H") != sizes.get("W"):
            raise DataError(
                f"rotations by right angles need squares, {spec.name!r} has H {sizes.get('H')} and W {sizes.get('W')}",
                remedy="use square patches (`patch`), or flips alone",
            )
