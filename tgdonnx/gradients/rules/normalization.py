"""Norms and softmax, by their formulas.

A norm gives y = n s + b with n = (x - mean) r over some axes, r = 1 / sqrt(variance + epsilon). With g = dY s,

    dX = r (g - mean(g) - n mean(g n))        ds = sum(dY n)        db = sum(dY)

where the means run over the axes that were normalised, and the sums over those along which s and b were repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import expand_like, reshape_like, sum_to


@rule("Softmax")
def _softmax(step: Step) -> Mapping[int, Gradient]:
    """y (dY - sum(dY y))."""
    build, axis = step.build, step.axis(step.x, -1)
    inner = build.sum(build("Mul", step.dy, step.y), [axis], keepdims=True)
    return {0: build("Mul", step.y, build("Sub", step.dy, inner))}


@rule("LogSoftmax")
def _log_softmax(step: Step) -> Mapping[int, Gradient]:
    """dY - exp(y) sum(dY)."""
    build, axis = step.build, step.axis(step.x, -1)
    total = build.sum(step.dy, [axis], keepdims=True)
    return {0: build("Sub", step.dy, build("Mul", build("Exp", step.y), total))}


@rule("LayerNormalization", every_output=True)
def _layer_normalization(step: Step) -> Mapping[int, Gradient]:
    """Its other outputs, m = mean(x) and r, add (dM - dR r^2 n) / count to dX."""
    build, rank = step.build, step.rank(step.x)
    axes = list(range(step.axis(step.x, -1), rank))
    normal, inverse = _normalised(step, step.x, axes, step.node.attributes.get_float("epsilon", 1e-5))
    found: dict[int, Gradient] = {}
    if step.gradients[0] is not None:
        found.update(_affine_norm(step, normal, inverse, axes, step.input(1), step.optional(2), step.x))
    others = [place for place in range(1, len(step.gradients)) if step.gradients[place] is not None]
    if not others or not step.wants(0):
        return found
    sizes = [build.cast(build("Size", value), step.x) for value in (step.x, inverse)]
    count = build("Div", sizes[0], sizes[1])
    terms = [found[0]] if 0 in found else []
    for place in others:
        share = build("Div", step.gradient(place), count)
        bent = build("Mul", build("Mul", inverse, inverse), normal)
        spread = expand_like(build, share, step.x) if place == 1 else build("Neg", build("Mul", share, bent))
        terms.append(spread)
    total = terms[0]
    for term in terms[1:]:
        assert isinstance(total, ir.Value)
        assert isinstance(term, ir.Value)
        total = build("Add", total, term)
    return {**found, 0: total}


@rule("InstanceNormalization")
def _instance_normalization(step: Step) -> Mapping[int, Gradient]:
    build, rank = step.build, step.rank(step.x)
    axes = list(range(2, rank))
    normal, inverse = _normalised(step, step.x, axes, step.node.attributes.get_float("epsilon", 1e-5))
    column = build.ints(-1, *[1] * (rank - 2))
    scale = build("Reshape", step.input(1), column)
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _through(step, build("Mul", step.dy, scale), normal, inverse, axes)
    summed = [0, *axes]
    if step.wants(1):
        found[1] = build.sum(build("Mul", step.dy, normal), summed, keepdims=False)
    if step.wants(2):
        found[2] = build.sum(step.dy, summed, keepdims=False)
    return found


@rule("BatchNormalization", carries=(0, 1, 2))
def _batch_normalization(step: Step) -> Mapping[int, Gradient]:
    """In its inference form: an affine function, since mean and variance are constants."""
    build, rank = step.build, step.rank(step.x)
    if step.node.attributes.get_int("training_mode", 0):
        raise step.refusal("takes its statistics from the batch", "export the model for inference")
    column = build.ints(-1, *[1] * (rank - 2)) if rank > 1 else build.ints(-1)
    scale, mean, variance = (build("Reshape", step.input(place), column) for place in (1, 3, 4))
    epsilon = build.scalar(step.node.attributes.get_float("epsilon", 1e-5), step.x)
    inverse = build("Reciprocal", build("Sqrt", build("Add", variance, epsilon)))
    summed = [0, *range(2, rank)]
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = build("Mul", step.dy, build("Mul", scale, inverse))
    if step.wants(1):
        normal = build("Mul", build("Sub", step.x, mean), inverse)
        found[1] = build.sum(build("Mul", step.dy, normal), summed, keepdims=False)
    if step.wants(2):
        found[2] = build.sum(step.dy, summed, keepdims=False)
    return found


@rule("GroupNormalization")
def _group_normalization(step: Step) -> Mapping[int, Gradient]:
    """Scale and bias are one for each channel, as from opset 21 on; the form before is withdrawn."""
    build, groups, rank = step.build, step.node.attributes["num_groups"].as_int(), step.rank(step.x)
    if build.opset < 21:
        raise step.refusal("is of a form that ONNX withdrew", "this is lowered before")
    apart = build("Reshape", step.x, build.ints(0, groups, -1))
    by_group, inverse = _normalised(step, apart, [2], step.node.attributes.get_float("epsilon", 1e-5))
    found: dict[int, Gradient] = {}
    if step.wants(0):
        scale = build("Reshape", step.input(1), build.ints(-1, *[1] * (rank - 2)))
        g = build("Reshape", build("Mul", step.dy, scale), build.ints(0, groups, -1))
        found[0] = reshape_like(build, _through(step, g, by_group, inverse, [2]), step.x)
    summed = [0, *range(2, rank)]
    if step.wants(1):
        normal = reshape_like(build, by_group, step.x)
        found[1] = build.sum(build("Mul", step.dy, normal), summed, keepdims=False)
    if step.wants(2):
        found[2] = build.sum(step.dy, summed, keepdims=False)
    return found


@rule("MeanVarianceNormalization")
def _mean_variance_normalization(step: Step) -> Mapping[int, Gradient]:
    """y = (x - mean) / (deviation + 1e-9): the deviation itself is in the denominator, as in the function body of ONNX."""
    build, rank = step.build, step.rank(step.x)
    given = step.node.attributes["axes"].as_ints() if "axes" in step.node.attributes else (0, 2, 3)
    axes = sorted(axis % rank for axis in given)
    centred = build("Sub", step.x, _mean(step, step.x, axes))
    deviation = build("Sqrt", _mean(step, build("Mul", centred, centred), axes))
    inverse = build("Reciprocal", build("Add", deviation, build.scalar(1e-9, step.x)))
    # d deviation = mean(centred dx) / deviation
    nothing = build.cast(build("Equal", deviation, build.scalar(0, step.x)), step.x)
    direction = build("Div", centred, build("Add", deviation, nothing))
    inner = _mean(step, build("Mul", step.dy, step.y), axes)
    straight = build("Sub", step.dy, _mean(step, step.dy, axes))
    return {0: build("Mul", inverse, build("Sub", straight, build("Mul", direction, inner)))}


@rule("LpNormalization")
def _lp_normalization(step: Step) -> Mapping[int, Gradient]:
    """y = x / |x|: (dY - sum(dY y) d|x|/dx) / |x|; 0 where all is 0."""
    build, axis = step.build, step.axis(step.x, -1)
    order = step.node.attributes.get_int("p", 2)
    if order == 1:
        norm, slope = build.sum(build("Abs", step.x), [axis], keepdims=True), build("Sign", step.x)
    else:
        norm, slope = build("Sqrt", build.sum(build("Mul", step.x, step.x), [axis], keepdims=True)), step.y
    nothing = build.cast(build("Equal", norm, build.scalar(0, step.x)), step.x)
    something = build("Sub", build.scalar(1, step.x), nothing)
    inner = build.sum(build("Mul", step.dy, step.y), [axis], keepdims=True)
    straight = build("Sub", step.dy, build("Mul", inner, slope))
    return {0: build("Mul", something, build("Div", straight, build("Add", norm, nothing)))}


@rule("LRN")
def _lrn(step: Step) -> Mapping[int, Gradient]:
    """y = x d^-b with d = k + a / size * (sum of x^2 over a window of channels).

    dX = dY d^-b - 2 a b / size * x (sum of dY y / d over the windows that x lies in).
    """
    build, attributes = step.build, step.node.attributes
    alpha, beta = attributes.get_float("alpha", 1e-4), attributes.get_float("beta", 0.75)
    size, bias = attributes["size"].as_int(), attributes.get_float("bias", 1.0)
    if size % 2 == 0:
        raise step.refusal(f"looks at {size} channels", "this is lowered before")
    squares = _window_sum(step, build("Mul", step.x, step.x), size)
    d = build("Add", build.scalar(bias, step.x), build("Mul", squares, build.scalar(alpha / size, step.x)))
    back = _window_sum(step, build("Div", build("Mul", step.dy, step.y), d), size)
    first = build("Mul", step.dy, build("Pow", d, build.scalar(-beta, step.x)))
    second = build("Mul", build("Mul", step.x, back), build.scalar(2 * alpha * beta / size, step.x))
    return {0: build("Sub", first, second)}


def _window_sum(step: Step, value: ir.Value, size: int) -> ir.Value:
    """Sums over windows of channels."""
    build, rank, channels = step.build, step.rank(step.x), step.sizes(step.x)[1]
    if channels is None:
        raise step.refusal("has an open number of channels", "declare the shapes of the inputs of the model")
    pads = [0] * 2 * rank
    pads[1] = pads[rank + 1] = size // 2
    padded = build("Pad", value, build.ints(*pads))
    total: Optional[ir.Value] = None
    for shift in range(size):
        part = build("Slice", padded, build.ints(shift), build.ints(shift + channels), build.ints(1))
        total = part if total is None else build("Add", total, part)
    assert total is not None
    return total


def _mean(step: Step, value: ir.Value, axes: Sequence[int]) -> ir.Value:
    if step.build.opset >= 18:
        return step.build("ReduceMean", value, step.build.ints(*axes), keepdims=1)
    return step.build("ReduceMean", value, axes=list(axes), keepdims=1)


def _normalised(step: Step, x: ir.Value, axes: Sequence[int], epsilon: float) -> tuple[ir.Value, ir.Value]:
    """Returns n and r."""
    build = step.build
    centred = build("Sub", x, _mean(step, x, axes))
    variance = _mean(step, build("Mul", centred, centred), axes)
    inverse = build("Reciprocal", build("Sqrt", build("Add", variance, build.scalar(epsilon, step.x))))
    return build("Mul", centred, inverse), inverse


def _through(step: Step, g: ir.Value, normal: ir.Value, inverse: ir.Value, axes: Sequence[int]) -> ir.Value:
    """Returns dX of the normalisation."""
    build = step.build
    bent = build("Mul", normal, _mean(step, build("Mul", g, normal), axes))
    return build("Mul", inverse, build("Sub", build("Sub", g, _mean(step, g, axes)), bent))


def _affine_norm(
    step: Step,
    normal: ir.Value,
    inverse: ir.Value,
    axes: Sequence[int],
    scale: ir.Value,
    bias: Optional[ir.Value],
    source: ir.Value,
) -> Mapping[int, Gradient]:
    build = step.build
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _through(step, build("Mul", step.dy, scale), normal, inverse, axes)
    if step.wants(1):
        found[1] = sum_to(build, build("Mul", step.dy, normal), source, scale)
    if bias is not None and step.wants(2):
        found[2] = sum_to(build, step.dy, source, bias)
    return found
