"""Reductions: every element gets its share of the gradient of the number that it went into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import expand_like

_CHANGED = 18  # the opset from which the axes of all reductions are an input; of ReduceSum they always were


def _reduces_all(step: Step) -> bool:
    """Whether the node names no axes, and reduces all."""
    named = "axes" in step.node.attributes or step.optional(1) is not None
    return not named and not step.node.attributes.get_int("noop_with_empty_axes", 0)


def _named_axes(step: Step) -> Optional[list[int]]:
    """Returns the axes as the node names them, none if it names none; None if they are known only while running."""
    if "axes" in step.node.attributes:
        return list(step.node.attributes["axes"].as_ints())
    if step.optional(1) is None:
        return []
    known = step.known(1)
    return None if known is None else [int(axis) for axis in known.reshape(-1)]


def _axes(step: Step) -> Optional[list[int]]:
    """Returns the axes, counted from the front; None if they are known only while running."""
    rank, named = step.rank(step.x), _named_axes(step)
    if named is None:
        return None
    if not named:
        return [] if step.node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(axis % rank for axis in named)


def _kept(step: Step, value: ir.Value) -> ir.Value:
    """Returns an output, or its gradient, with the reduced axes as axes of size 1; the rank need not be known."""
    if step.node.attributes.get_int("keepdims", 1) or _reduces_all(step):
        return value  # a single number broadcasts as it is
    named = _named_axes(step)
    if named is None:
        return step.build("Unsqueeze", value, step.input(1))
    return step.build("Unsqueeze", value, step.build.ints(*named)) if named else value


def _count(step: Step) -> ir.Value:
    """Returns how many elements went into one, as a scalar of the type of the input."""
    axes = None if step.x.shape is None else _axes(step)
    if axes is not None:
        sizes = [step.sizes(step.x)[axis] for axis in axes]
        if all(size is not None for size in sizes):
            return step.build.scalar(float(np.prod([size or 0 for size in sizes])), step.x)
    build = step.build
    x, y = (build.cast(build("Size", value), step.x) for value in (step.x, step.y))
    return build("Div", x, y)


def _spread(step: Step, gradient: ir.Value) -> ir.Value:
    return expand_like(step.build, gradient, step.x)


@rule("ReduceSum")
def _sum(step: Step) -> Mapping[int, Gradient]:
    return {0: _spread(step, _kept(step, step.dy))}


@rule("ReduceMean")
def _mean(step: Step) -> Mapping[int, Gradient]:
    return {0: _spread(step, step.build("Div", _kept(step, step.dy), _count(step)))}


@rule("GlobalAveragePool")
def _global_average_pool(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    sizes = step.sizes(step.x)[2:]
    if all(size is not None for size in sizes):
        count = build.scalar(float(np.prod([size or 0 for size in sizes])), step.x)
    else:
        count = build.cast(build("ReduceProd", build("Shape", step.x, start=2), keepdims=0), step.x)
    return {0: _spread(step, build("Div", step.dy, count))}


@rule("ReduceMax", "ReduceMin", "GlobalMaxPool")
def _extreme(step: Step) -> Mapping[int, Gradient]:
    """In equal shares to all elements that are the extreme, as torch.amax does."""
    build = step.build
    if step.node.op_type == "GlobalMaxPool":
        y, dy, axes = step.y, step.dy, list(range(2, step.rank(step.x)))
    else:
        found = _axes(step)
        if found is None:
            raise step.refusal("reduces axes that are known only while it runs", "export the model with constant axes")
        y, dy, axes = _kept(step, step.y), _kept(step, step.dy), found
    chosen = build.cast(build("Equal", step.x, y), step.x)
    return {0: build("Mul", chosen, build("Div", dy, build.sum(chosen, axes, keepdims=True)))}


@rule("ReduceSumSquare")
def _sum_square(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    return {0: build("Mul", build("Mul", build.scalar(2, step.x), step.x), _kept(step, step.dy))}


@rule("ReduceL1")
def _l1(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Mul", step.build("Sign", step.x), _kept(step, step.dy))}


@rule("ReduceL2")
def _l2(step: Step) -> Mapping[int, Gradient]:
    """dY x / y; 0 where all is 0."""
    build, y = step.build, _kept(step, step.y)
    nothing = build.cast(build("Equal", y, build.scalar(0, y)), y)
    return {0: build("Mul", step.x, build("Div", _kept(step, step.dy), build("Add", y, nothing)))}


@rule("ReduceLogSum")
def _log_sum(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    return {0: _spread(step, build("Div", _kept(step, step.dy), build("Exp", _kept(step, step.y))))}


@rule("ReduceLogSumExp")
def _log_sum_exp(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    return {0: build("Mul", build("Exp", build("Sub", step.x, _kept(step, step.y))), _kept(step, step.dy))}


@rule("ReduceProd")
def _prod(step: Step) -> Mapping[int, Gradient]:
    """dY times the product of all other elements, without a division: zeros have a gradient too.

    The reduced axes become one, at the end; what comes before an element is multiplied up from the front by a triangle of
    copies: other[i, j] = x[j] if j != i else 1, and the product runs over j.
    """
    build, axes = step.build, _axes(step)
    if axes is None:
        raise step.refusal("reduces axes that are known only while it runs", "export the model with constant axes")
    if not axes:
        return {0: step.dy}
    rank = step.rank(step.x)
    perm = [axis for axis in range(rank) if axis not in axes] + axes
    moved = build("Transpose", step.x, perm=perm)
    sizes = build("Shape", moved)
    kept = rank - len(axes)
    flat = build("Concat", build("Slice", sizes, build.ints(0), build.ints(kept)), build.ints(-1), axis=0)
    row = build("Reshape", moved, flat)
    count = build("Shape", row, start=kept)
    square = build("Concat", count, count, axis=0)
    one = build.scalar(1, step.x)
    diagonal = build("EyeLike", build("Expand", one, square))
    copies = build("Mul", build("Unsqueeze", row, build.ints(-2)), build("Sub", one, diagonal))
    others = _product(step, build("Add", copies, diagonal), axis=-1)
    by_row = build("Reshape", others, sizes)
    inverse = [perm.index(axis) for axis in range(rank)]
    return {0: build("Mul", build("Transpose", by_row, perm=inverse), _kept(step, step.dy))}


def _product(step: Step, value: ir.Value, axis: int) -> ir.Value:
    if step.build.opset >= _CHANGED:
        return step.build("ReduceProd", value, step.build.ints(axis), keepdims=0)
    return step.build("ReduceProd", value, axes=[axis], keepdims=0)


@rule("CumSum")
def _cum_sum(step: Step) -> Mapping[int, Gradient]:
    """An element goes into its own sum and those behind: the sum of their gradients, from the other end."""
    attributes = step.node.attributes
    exclusive, reverse = attributes.get_int("exclusive", 0), attributes.get_int("reverse", 0)
    return {0: step.build("CumSum", step.dy, step.input(1), exclusive=exclusive, reverse=1 - reverse)}
