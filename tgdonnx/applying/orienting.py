"""Images that a model takes without an axis of samples, or of channels: which axes theirs are, and how they are handled.

The first convolution, pool or norm per channel that an input leads to says it: these have samples, channels and space in this
order. From the input to there, axes are only put in, taken out and moved. Elsewhere an image is handled as ``NCHW``, with as
many axes of space as it has; on the way into the model the axes that it lacks are taken out, and on the way out put in again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.applying.node_view import NotLocal, ReceptiveView
from tgdonnx.data.layouts import SPACE
from tgdonnx.graphs.operators import (
    CONVOLUTIONS,
    ELEMENTWISE,
    GLOBAL_POOLS,
    POOLS,
    is_standard,
    opset_of,
)
from tgdonnx.layers import Network

Array = NDArray[Any]

_ORDERED = CONVOLUTIONS | POOLS | GLOBAL_POOLS | {"BatchNormalization", "InstanceNormalization", "GroupNormalization"}
_KEEPING = ELEMENTWISE | {"Dropout", "Pad"}

_Places = tuple[Optional[int], ...]  # per axis the axis of the input that it is; None for one that was put in


@dataclass(frozen=True)
class Orientation:
    """The axes of an image in the model, and as it is handled.

    Attributes:
        model: a letter per axis in the model, such as ``HW``.
        handled: ``NCHW``, with as many axes of space.
    """

    model: str
    handled: str

    def shape(self, sizes: Sequence[Optional[int]]) -> tuple[Optional[int], ...]:
        """Returns the sizes of an image as it is handled, by those in the model."""
        known = dict(zip(self.model, sizes))
        return tuple(known.get(letter, 1) for letter in self.handled)

    def to_model(self, image: Array) -> Array:
        """Returns an image as the model takes it."""
        return taken_to(image, self.handled, self.model)

    def place(self, letter: str) -> int:
        """Returns the axis of a letter as the image is handled."""
        return self.handled.index(letter)


def taken_to(array: Array, source: str, target: str) -> Array:
    """Returns an array with its axes in another order; axes that lack are put in, those that are not wanted have size 1."""
    kept = [letter for letter in source if letter in target]
    reduced = array.reshape([size for letter, size in zip(source, array.shape) if letter in target])
    moved = reduced.transpose([kept.index(letter) for letter in target if letter in kept])
    lacking = [place for place, letter in enumerate(target) if letter not in kept]
    return np.expand_dims(moved, tuple(lacking)) if lacking else moved


def orientation_of(network: Network, image: ir.Value) -> Optional[Orientation]:
    """Returns the axes of an input that lacks those of samples or channels; None if it has both, or nothing says."""
    rank = len(image.shape) if image.shape is not None else 0
    if not 1 <= rank <= 4:
        return None
    known: dict[ir.Value, _Places] = {image: tuple(range(rank))}
    for node in network.graph:
        places = [known[value] for value in node.inputs if value is not None and value in known]
        if not places:
            continue
        if not is_standard(node):
            return None
        if node.op_type in _ORDERED:
            return _oriented(places[0], rank)
        moved = _moved(node, places, network)
        if moved is None:
            return None
        known[node.outputs[0]] = moved
    return None


def _oriented(places: _Places, rank: int) -> Optional[Orientation]:
    space = SPACE[-(len(places) - 2) :] if 3 <= len(places) <= 5 else ""
    letters = {place: letter for place, letter in zip(places, f"NC{space}") if place is not None}
    if not space or sorted(letters) != list(range(rank)) or not set(space) <= set(letters.values()):
        return None
    model = "".join(letters[place] for place in range(rank))
    return Orientation(model, f"NC{space}") if {"N", "C"} - set(model) else None


def _moved(node: ir.Node, places: list[_Places], network: Network) -> Optional[_Places]:
    """Returns which axes a node gives; None if it does more than move them."""
    first = places[0]
    if node.op_type in _KEEPING:
        return first if len({*places}) == 1 else None
    view = ReceptiveView(node, opset_of(network.graph), network, {}, set())
    try:
        if node.op_type == "Transpose":
            order = view.integers("perm")
            return first[::-1] if order is None else tuple(first[axis] for axis in order)
        if node.op_type == "Unsqueeze":
            given = view.stored_integers(1, "axes") or []
            rank, axes = len(first) + len(given), list(first)
            for axis in sorted(axis % rank for axis in given):
                axes.insert(axis, None)
            return tuple(axes)
        if node.op_type == "Squeeze":
            gone = {axis % len(first) for axis in view.stored_integers(1, "axes") or []}
            return tuple(place for axis, place in enumerate(first) if axis not in gone)
    except NotLocal:
        return None
    return _reshaped(first, node.inputs[0], node.outputs[0], network) if node.op_type == "Reshape" else None


def _reshaped(places: _Places, before: Optional[ir.Value], after: ir.Value, network: Network) -> Optional[_Places]:
    """Returns which axes a Reshape gives that only puts in or takes out axes of size 1."""
    shapes = network.sizes.shapes
    if before is None or before not in shapes or after not in shapes:
        return None
    kept = [place for place, size in zip(places, shapes[before]) if size != 1 or place is not None]
    sizes = [size for place, size in zip(places, shapes[before]) if size != 1 or place is not None]
    found: list[Optional[int]] = []
    for size in shapes[after]:
        if sizes and size == sizes[0]:
            sizes.pop(0)
            found.append(kept.pop(0))
        elif size == 1:
            found.append(None)
        else:
            return None
    return tuple(found) if not kept else None
