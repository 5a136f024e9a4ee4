"""Products of matrices.

Of a weight with two axes, (K, N), the gradient is one product over all samples and places; where only some rows or columns
of the weight are wanted, only those of x and dY go into it.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from tgdonnx.gradients.demand import Part
from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import sum_to


@rule("MatMul")
def _mat_mul(step: Step) -> Mapping[int, Gradient]:
    build, a, b, dy = step.build, step.input(0), step.input(1), step.dy
    ranks = step.rank(a), step.rank(b)
    found: dict[int, Gradient] = {}
    if 1 in ranks:
        return _with_vector(step, ranks)
    if step.wants(0):
        found[0] = sum_to(build, build("MatMul", dy, _transposed(step, b)), _like(step, dy, a, -2, -1), a)
    if step.wants(1):
        if ranks[1] == 2:
            columns = build("Transpose", _rows(step, a), perm=[1, 0])
            found[1] = [_product(step, columns, _rows(step, dy), part) for part in step.demand(1)]
        else:
            found[1] = sum_to(build, build("MatMul", _transposed(step, a), dy), _like(step, dy, b, -2, -1), b)
    return found


def _product(step: Step, columns: ir.Value, rows: ir.Value, part: Part) -> ir.Value:
    """Returns a part of the product of (K, n) and (n, N)."""
    for axis in (0, 1):
        along = part.along(axis)
        if along is not None and axis == 0:
            columns = step.build.take(columns, along, 0)
        elif along is not None:
            rows = step.build.take(rows, along, 1)
    return step.build("MatMul", columns, rows)


def _rows(step: Step, value: ir.Value) -> ir.Value:
    """Returns a value with all axes but the last put into one."""
    source = step.y if value is step.dy else value
    if step.rank(source) == 2:
        return value
    size = step.sizes(source)[-1]
    if size is not None:
        return step.build("Reshape", value, step.build.ints(-1, size))
    last = step.build("Shape", source, start=-1)
    return step.build("Reshape", value, step.build("Concat", step.build.ints(-1), last, axis=0))


def _transposed(step: Step, value: ir.Value) -> ir.Value:
    rank = step.rank(value)
    return step.build("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


def _like(step: Step, dy: ir.Value, value: ir.Value, *last: int) -> ir.Value:
    """Returns a stand-in with the shape that a product has before what was repeated is summed: the batch axes of the output."""
    assert dy is not None
    stand_in = ir.Value(name="", type=value.type)
    if step.y.shape is not None and value.shape is not None:
        stand_in.shape = ir.Shape([*list(step.y.shape)[:-2], *(value.shape[axis] for axis in last)])
    return stand_in


def _with_vector(step: Step, ranks: tuple[int, int]) -> Mapping[int, Gradient]:
    """A vector is a matrix of one row (on the left) or of one column (on the right)."""
    build, a, b, dy = step.build, step.input(0), step.input(1), step.dy
    found: dict[int, Gradient] = {}
    if ranks == (1, 1):
        for place, other in ((0, b), (1, a)):
            if step.wants(place):
                found[place] = build("Mul", dy, other)
        return found
    if ranks[0] == 1:  # y[..., n] = sum_k a[k] b[..., k, n]
        if step.wants(0):
            product = build("Mul", b, build("Unsqueeze", dy, build.ints(-2)))
            found[0] = build.sum(product, [axis for axis in range(ranks[1]) if axis != ranks[1] - 2], keepdims=False)
        if step.wants(1):
            column = build("Unsqueeze", a, build.ints(-1))
            found[1] = build("Mul", column, build("Unsqueeze", dy, build.ints(-2)))
        return found
    if step.wants(0):  # y[..., m] = sum_k a[..., m, k] b[k]
        found[0] = build("Mul", build("Unsqueeze", dy, build.ints(-1)), b)
    if step.wants(1):
        product = build("Mul", a, build("Unsqueeze", dy, build.ints(-1)))
        found[1] = build.sum(product, list(range(ranks[0] - 1)), keepdims=False)
    return found


@rule("Gemm")
def _gemm(step: Step) -> Mapping[int, Gradient]:
    """Y = alpha A' B' + beta C, where A' and B' may be transposed."""
    build, attributes = step.build, step.node.attributes
    a, b, dy = step.input(0), step.input(1), step.dy
    turned_a, turned_b = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    found: dict[int, Gradient] = {}
    scaled = dy if alpha == 1 else build("Mul", dy, build.scalar(alpha, dy))
    if step.wants(0):
        if turned_a:
            found[0] = build("Gemm", b, scaled, transA=turned_b, transB=1)
        else:
            found[0] = build("Gemm", scaled, b, transB=1 - turned_b)
    if step.wants(1):
        # dB' (K, N) = A'^T dY; rows K are columns of A', columns N are columns of dY.
        parts = []
        for part in step.demand(1):
            inner, outer = part.along(1 if turned_b else 0), part.along(0 if turned_b else 1)
            left = a if inner is None else build.take(a, inner, 0 if turned_a else 1)
            right = scaled if outer is None else build.take(scaled, outer, 1)
            if turned_b:
                parts.append(build("Gemm", right, left, transA=1, transB=turned_a))
            else:
                parts.append(build("Gemm", left, right, transA=1 - turned_a))
        found[1] = parts
    if step.wants(2):
        whole = dy if beta == 1 else build("Mul", dy, build.scalar(beta, dy))
        found[2] = sum_to(build, whole, step.y, step.input(2))
    return found
