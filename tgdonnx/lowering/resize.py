"""Resize, as a product with an interpolation matrix per axis, or as repeated pixels.

A dense matrix costs 2 * size operations per pixel where a few would do, but up to sizes of about 200 a MatMul does them
faster than elementwise operators do the few; so does its gradient. Picking the pixels with Gather would be the obvious
way; a training step with it takes ten to twenty times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, optional_input
from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute, entries, float32, int64
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.resampling import Axis, Sampling, weights

_MODES = ("nearest", "linear", "cubic")


class LowerResize(Lowering):
    """Replaces Resize nodes."""

    op_types = frozenset({"Resize"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the copies and the products."""
        a = Arithmetic(emit)
        return a.tidy(_lowered(a, node))


def _lowered(a: Arithmetic, node: ir.Node) -> ir.Value:
    x = first_input(node)
    if x.shape is None or len(x.shape) == 0:
        raise a.refusal("has an input whose rank is not known", "declare the shapes of the inputs of the model")
    sampling = _sampling(a, node)
    axes = [axis for axis in _axes(a, node, x) if not _is(axis.scale, 1)]
    _correct_shape(node, axes)
    unchanged = _unchanged(a, axes)
    if not axes or _is(unchanged, 1):
        return x
    factors = {axis.axis: _integer(axis.scale) for axis in axes} if sampling.repeats else {}
    factors = {axis: factor for axis, factor in factors.items() if factor > 1}
    dims = [a.size(x, axis) for axis in range(len(x.shape))]
    y = _repeat(a, x, factors, dims) if factors else x
    others = [axis for axis in axes if axis.axis not in factors]
    if others:
        y = _resample(a, y, sampling, others, dims, unchanged, attribute(node, "extrapolation_value", 0.0))
    return y


def _correct_shape(node: ir.Node, axes: Sequence[Axis]) -> None:
    """Sets the sizes of the output: ONNX infers scale * size in another precision than runtimes compute it."""
    y = node.outputs[0]
    if y.shape is not None:
        dims = list(y.shape)
        for axis in axes:
            if not isinstance(axis.new_size, ir.Value):
                dims[axis.axis] = int(axis.new_size)
        y.shape = ir.Shape(dims)


def _sampling(a: Arithmetic, node: ir.Node) -> Sampling:
    mode = str(attribute(node, "mode", "nearest"))
    if mode not in _MODES:
        raise a.refusal(f"has the mode {mode!r}", "expected nearest, linear or cubic")
    if attribute(node, "antialias", 0):
        raise a.refusal("smooths while it resizes (antialias), which has no lowering", "export it without antialias")
    return Sampling(
        mode,
        str(attribute(node, "coordinate_transformation_mode", "half_pixel")),
        str(attribute(node, "nearest_mode", "round_prefer_floor")),
        float(attribute(node, "cubic_coeff_a", -0.75)),
        bool(attribute(node, "exclude_outside", 0)),
    )


def _axes(a: Arithmetic, node: ir.Node, x: ir.Value) -> list[Axis]:
    """Returns all axes that the node may resize."""
    assert x.shape is not None
    rank = len(x.shape)
    chosen = [axis % rank for axis in attribute(node, "axes", range(rank))]
    roi, scales, sizes = (_given(node, place) for place in (1, 2, 3))
    begins: Sequence[Number] = [float32(0)] * len(chosen)
    ends: Sequence[Number] = [float32(1)] * len(chosen)
    if attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize" and roi is not None:
        region = entries(a, roi, 2 * len(chosen))
        begins, ends = region[: len(chosen)], region[len(chosen) :]
    before = [a.size(x, axis) for axis in chosen]
    floats = [a.cast(size, ir.DataType.FLOAT) for size in before]
    factors: list[Number]
    if scales is not None:
        factors = entries(a, scales, len(chosen))
        if len(factors) != len(chosen):
            raise a.refusal(f"has {len(factors)} scales for {len(chosen)} axes", "give one for each")
        after = [a.cast(a.compute("Mul", f, size), ir.DataType.INT64) for f, size in zip(factors, floats)]
    elif sizes is not None:
        after, policy = entries(a, sizes, len(chosen)), attribute(node, "keep_aspect_ratio_policy", "stretch")
        if policy == "stretch":  # then the node's output has these sizes, which may be known though they are computed
            after = [_known_dim(node.outputs[0], axis, size) for axis, size in zip(chosen, after)]
        factors = [a.divide(a.cast(new, ir.DataType.FLOAT), size) for new, size in zip(after, floats)]
        if policy != "stretch":
            common = factors[0]
            for factor in factors[1:]:
                common = a.compute("Min" if policy == "not_larger" else "Max", common, factor)
            factors = [common] * len(chosen)
            after = [_rounded(a, a.compute("Mul", common, size)) for size in floats]
    else:
        raise a.refusal("has neither scales nor sizes", "give one of them")
    return [Axis(*parts) for parts in zip(chosen, before, after, factors, zip(begins, ends))]


def _known_dim(x: ir.Value, axis: int, size: Number) -> Number:
    dim = x.shape[axis] if x.shape is not None else None
    return int64(dim) if isinstance(dim, int) else size


def _rounded(a: Arithmetic, x: Number) -> Number:
    """Returns a positive number rounded half up, as int64."""
    below = a.compute("Floor", x)
    up = a.cast(a.compute("Less", a.compute("Sub", x, below), float32(0.5)), ir.DataType.FLOAT)
    return a.cast(a.compute("Sub", a.compute("Add", below, float32(1)), up), ir.DataType.INT64)


def _unchanged(a: Arithmetic, axes: Sequence[Axis]) -> Number:
    """Returns 1 if no axis changes its size, though scales differ from 1, else 0, as float32."""
    result: Number = float32(1)
    for axis in axes:
        grows = not isinstance(axis.scale, ir.Value) and float(axis.scale) >= 2
        same = a.compute("Equal", axis.new_size, axis.size)
        if grows or (not isinstance(same, ir.Value) and not same):
            return float32(0)
        result = a.compute("Mul", result, a.cast(same, ir.DataType.FLOAT))
    return result


def _repeat(a: Arithmetic, x: ir.Value, factors: dict[int, int], dims: list[Number]) -> ir.Value:
    """Repeats each pixel, by copies side by side; changes ``dims`` to the new sizes."""
    rank = len(dims)
    y = a.unsqueeze(x, rank)
    for axis, factor in sorted(factors.items(), reverse=True):
        y = a.emit("Concat", *[y] * factor, axis=axis + 1)
        dims[axis] = a.compute("Mul", dims[axis], int64(factor))
    return a.reshape(y, dims)


def _resample(
    a: Arithmetic,
    x: ir.Value,
    sampling: Sampling,
    axes: Sequence[Axis],
    dims: list[Number],
    unchanged: Number,
    extrapolated: float,
) -> ir.Value:
    rank, inside_all = len(dims), None
    if rank < 3:  # MatMul has other gradients for matrices, and none for vectors
        x = a.reshape(x, [*[1] * (3 - rank), *dims])
    for axis in axes:
        found = weights(a, sampling, axis, unchanged)
        x = _multiply(a, x, found.matrix, axis.axis + max(0, 3 - rank), dims)
        dims[axis.axis] = axis.new_size
        if found.inside is not None and extrapolated:
            inside = a.reshape(found.inside, [-1, *[1] * (rank - 1 - axis.axis)])
            inside_all = inside if inside_all is None else a.emit("Mul", inside_all, inside)
    if rank < 3:
        x = a.reshape(x, dims)
    if inside_all is not None:
        outside = a.emit("Sub", float32(1), inside_all)
        x = a.emit("Add", x, a.emit("Mul", outside, float32(extrapolated)))
    return x


def _multiply(a: Arithmetic, x: ir.Value, matrix: Number, axis: int, dims: Sequence[Number]) -> ir.Value:
    """Multiplies ``x``, whose last axes have the sizes ``dims``, by a matrix along one axis."""
    rank = max(3, len(dims))
    if axis == rank - 1:
        matrix = a.emit("Transpose", matrix, perm=[1, 0]) if isinstance(matrix, ir.Value) else matrix.T.copy()
    if axis == rank - 1:
        return a.emit("MatMul", x, matrix)
    if axis == rank - 2:
        return a.emit("MatMul", matrix, x)
    if axis == 0:
        return a.reshape(a.emit("MatMul", matrix, a.reshape(x, [1, dims[0], -1])), [-1, *dims[1:]])
    flat = a.reshape(x, [*[0] * (axis + 1), -1])
    return a.reshape(a.emit("MatMul", matrix, flat), [*[0] * (axis + 1), *dims[axis + 1 :]])


def _given(node: ir.Node, place: int) -> Optional[ir.Value]:
    """Returns an input, or None where it is missing or empty, which means the same."""
    vector = optional_input(node, place)
    if vector is None:
        return None
    known = ir.convenience.get_const_tensor(vector)
    shape = known.shape if known is not None else vector.shape
    return None if shape is not None and list(shape) == [0] else vector


def _is(number: Number, expected: int) -> bool:
    return not isinstance(number, ir.Value) and float(number) == expected


def _integer(scale: Number) -> int:
    """Returns the scale where it is known and an integer, else 0."""
    return int(scale) if not isinstance(scale, ir.Value) and float(scale).is_integer() else 0
