"""Operators that put elements elsewhere, repeat them or join them: the gradient goes the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.demand import WHOLE
from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import known_size, reshape_like, shape_of, sum_to, zeros_like


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(step: Step) -> Mapping[int, Gradient]:
    return {0: reshape_like(step.build, step.dy, step.x)}


@rule("Transpose")
def _transpose(step: Step) -> Mapping[int, Gradient]:
    rank = step.rank(step.x)
    perm = list(step.node.attributes["perm"].as_ints()) if "perm" in step.node.attributes else [*range(rank)][::-1]
    return {0: step.build("Transpose", step.dy, perm=[perm.index(axis) for axis in range(rank)])}


@rule("Expand")
def _expand(step: Step) -> Mapping[int, Gradient]:
    return {0: sum_to(step.build, step.dy, step.y, step.x)}


@rule("Tile")
def _tile(step: Step) -> Mapping[int, Gradient]:
    """Every axis in two, copies and places; the copies are summed."""
    build, rank = step.build, step.rank(step.x)
    if not rank:
        return {0: step.dy}
    both = build(
        "Concat", *(build("Unsqueeze", v, build.ints(1)) for v in (step.input(1), shape_of(build, step.x))), axis=1
    )
    apart = build("Reshape", step.dy, build("Reshape", both, build.ints(-1)))
    return {0: build.sum(apart, list(range(0, 2 * rank, 2)), keepdims=False)}


@rule("Concat")
def _concat(step: Step) -> Mapping[int, Gradient]:
    """Parts of the output that were demanded are those of the inputs, in order; of a whole output, a stretch."""
    build, inputs = step.build, [step.input(place) for place in range(len(step.node.inputs))]
    if step.demanded != WHOLE:
        parts = step.gradients[0]
        assert parts is not None
        left, found = list(parts), dict[int, Gradient]()
        for place in range(len(inputs)):
            if step.wants(place):
                count = len(step.demand(place))
                found[place], left = left[:count], left[count:]
        return found
    axis = step.axis(step.y, 0)
    sizes = [known_size(value, axis) for value in inputs]
    if all(size is not None for size in sizes):
        lengths = build.ints(*(size or 0 for size in sizes))
    else:
        lengths = build("Concat", *(build("Shape", value, start=axis, end=axis + 1) for value in inputs), axis=0)
    pieces = build.several("Split", [step.dy, lengths], {"axis": axis}, len(inputs))
    return {place: pieces[place] for place in range(len(inputs)) if step.wants(place)}


@rule("Split", every_output=True)
def _split(step: Step) -> Mapping[int, Gradient]:
    pieces = [
        step.gradient(place) if step.gradients[place] is not None else zeros_like(step.build, value)
        for place, value in enumerate(step.node.outputs)
    ]
    return {0: step.build("Concat", *pieces, axis=step.axis(step.x, 0))}


@rule("DepthToSpace")
def _depth_to_space(step: Step) -> Mapping[int, Gradient]:
    block = step.node.attributes["blocksize"].as_int()
    if step.node.attributes.get_string("mode", "DCR") == "DCR":
        return {0: step.build("SpaceToDepth", step.dy, blocksize=block)}
    # CRD: what SpaceToDepth gives is ordered by block first; channels come first here.
    deep = step.build("SpaceToDepth", step.dy, blocksize=block)
    channels = step.sizes(step.x)[1]
    if channels is None:
        raise step.refusal("has an open number of channels", "declare the shapes of the inputs of the model")
    order = np.arange(channels).reshape(block * block, channels // block**2).T.reshape(-1)
    return {0: step.build("Gather", deep, step.build.ints(*order), axis=1)}


@rule("SpaceToDepth")
def _space_to_depth(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("DepthToSpace", step.dy, blocksize=step.node.attributes["blocksize"].as_int(), mode="DCR")}


@rule("Gather")
def _gather(step: Step) -> Mapping[int, Gradient]:
    """Of fixed places the gradient is gathered back where that is possible, else added up."""
    if step.demanded != WHOLE:
        parts = step.gradients[0]
        assert parts is not None
        return {0: parts}
    axis, indices = step.axis(step.x, 0), step.known(1)
    size = known_size(step.x, axis)
    inverse = None if indices is None or size is None else _inverse(indices, size)
    if inverse is not None:
        return {0: step.build("Gather", step.dy, step.build.ints(*inverse), axis=axis)}
    return {0: _scattered(step, axis)}


def _inverse(indices: np.ndarray, size: int) -> Optional[np.ndarray]:
    """Returns the inverse of a permutation of the axis; None if it is none."""
    places = np.where(indices < 0, indices + size, indices)
    if places.shape != (size,) or len(np.unique(places)) != size:
        return None
    return np.argsort(places)


def _scattered(step: Step, axis: int) -> ir.Value:
    """Adds up gradients at the places that they were taken from."""
    build, rank, places = step.build, step.rank(step.x), step.input(1)
    place_rank = step.rank(places)
    flat = build("Reshape", places, build.ints(-1))
    # dY has the axes of the places in the place of one axis; make them one.
    before, behind = build("Shape", step.x, start=0, end=axis), build("Shape", step.x, start=axis + 1, end=rank)
    shape = build("Concat", before, build.ints(-1), behind, axis=0)
    gradient = step.dy if place_rank == 1 else build("Reshape", step.dy, shape)
    column = build("Reshape", flat, build.ints(*[1] * axis, -1, *[1] * (rank - axis - 1)))
    spread = build("Expand", column, build("Shape", gradient))
    return build("ScatterElements", zeros_like(build, step.x), spread, gradient, axis=axis, reduction="add")
