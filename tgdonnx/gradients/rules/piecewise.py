"""Functions that bend: each piece by its own derivative, chosen by products with masks of 0 and 1.

At a bend the derivative is that of the left piece, but for Clip, whose limits belong to the range, and Abs, where it is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import sum_to


@rule("Relu")
def _relu(step: Step) -> Mapping[int, Gradient]:
    # By y and not by x, so that the runtime may compute Conv and Relu in one.
    return {0: step.build("Mul", step.dy, step.build.mask("Greater", step.y, step.build.scalar(0, step.x)))}


def _bent(step: Step, below: ir.Value) -> Mapping[int, Gradient]:
    """dY where x > 0, else dY below."""
    build = step.build
    above = build.mask("Greater", step.x, build.scalar(0, step.x))
    return {
        0: build("Mul", step.dy, build("Add", above, build("Mul", build("Sub", build.scalar(1, above), above), below)))
    }


@rule("LeakyRelu")
def _leaky_relu(step: Step) -> Mapping[int, Gradient]:
    return _bent(step, step.build.scalar(step.node.attributes.get_float("alpha", 0.01), step.x))


def _negative(step: Step) -> ir.Value:
    """min(x, 0): what overflows where x is large is not computed there."""
    return step.build("Min", step.x, step.build.scalar(0, step.x))


@rule("Elu")
def _elu(step: Step) -> Mapping[int, Gradient]:
    alpha = step.build.scalar(step.node.attributes.get_float("alpha", 1.0), step.x)
    return _bent(step, step.build("Mul", alpha, step.build("Exp", _negative(step))))


@rule("Celu")
def _celu(step: Step) -> Mapping[int, Gradient]:
    alpha = step.build.scalar(step.node.attributes.get_float("alpha", 1.0), step.x)
    return _bent(step, step.build("Exp", step.build("Div", _negative(step), alpha)))


@rule("Selu")
def _selu(step: Step) -> Mapping[int, Gradient]:
    attributes, build = step.node.attributes, step.build
    alpha = attributes.get_float("alpha", 1.67326319217681884765625)
    gamma = build.scalar(attributes.get_float("gamma", 1.05070102214813232421875), step.x)
    (slope,) = _bent(step, build("Mul", build.scalar(alpha, step.x), build("Exp", _negative(step)))).values()
    assert isinstance(slope, ir.Value)
    return {0: build("Mul", gamma, slope)}


@rule("ThresholdedRelu")
def _thresholded_relu(step: Step) -> Mapping[int, Gradient]:
    alpha = step.build.scalar(step.node.attributes.get_float("alpha", 1.0), step.x)
    return {0: step.build("Mul", step.dy, step.build.mask("Greater", step.x, alpha))}


@rule("Shrink")
def _shrink(step: Step) -> Mapping[int, Gradient]:
    limit = step.build.scalar(step.node.attributes.get_float("lambd", 0.5), step.x)
    return {0: step.build("Mul", step.dy, step.build.mask("Greater", step.build("Abs", step.x), limit))}


@rule("HardSigmoid")
def _hard_sigmoid(step: Step) -> Mapping[int, Gradient]:
    alpha = step.build.scalar(step.node.attributes.get_float("alpha", 0.2), step.x)
    return {0: step.build("Mul", step.dy, step.build("Mul", alpha, _between(step, step.y, 0, 1)))}


@rule("HardSwish")
def _hard_swish(step: Step) -> Mapping[int, Gradient]:
    """Of x h(x), h = limit(x / 6 + 1/2, 0, 1): h(x) + x / 6 where h bends not."""
    build = step.build
    h = build("HardSigmoid", step.x, alpha=1 / 6, beta=0.5)
    slope = build("Mul", build("Mul", step.x, build.scalar(1 / 6, step.x)), _between(step, h, 0, 1))
    return {0: build("Mul", step.dy, build("Add", h, slope))}


def _between(step: Step, value: ir.Value, least: float, most: float) -> ir.Value:
    build = step.build
    above = build("Greater", value, build.scalar(least, value))
    return build.cast(build("And", above, build("Less", value, build.scalar(most, value))), step.x)


@rule("Abs")
def _abs(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Mul", step.dy, step.build("Sign", step.x))}


@rule("PRelu")
def _p_relu(step: Step) -> Mapping[int, Gradient]:
    build, slope = step.build, step.input(1)
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found.update(_bent(step, slope))
    if step.wants(1):
        found[1] = sum_to(build, build("Mul", step.dy, _negative(step)), step.x, slope)
    return found


@rule("Clip", carries=(0,))
def _clip(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    inside = [
        build(comparison, step.x, limit)
        for comparison, limit in (("GreaterOrEqual", step.optional(1)), ("LessOrEqual", step.optional(2)))
        if limit is not None
    ]
    if not inside:
        return {0: step.dy}
    both = inside[0] if len(inside) == 1 else build("And", *inside)
    return {0: build("Mul", step.dy, build.cast(both, step.x))}


@rule("Max", "Min")
def _extreme(step: Step) -> Mapping[int, Gradient]:
    """To whichever input the extreme is from; where several are it, in equal shares."""
    build, places = step.build, range(len(step.node.inputs))
    if len(places) == 1:
        return {0: step.dy}
    chosen = [build.cast(build("Equal", step.input(place), step.y), step.y) for place in places]
    share = build("Div", step.dy, _added(step, chosen))
    return {
        place: sum_to(build, build("Mul", share, chosen[place]), step.y, step.input(place))
        for place in places
        if step.wants(place)
    }


def _added(step: Step, values: Sequence[ir.Value]) -> ir.Value:
    total = values[0]
    for value in values[1:]:
        total = step.build("Add", total, value)
    return total


@rule("Where")
def _where(step: Step) -> Mapping[int, Gradient]:
    build = step.build
    chosen = build.cast(step.input(0), step.y)
    found: dict[int, Gradient] = {}
    if step.wants(1):
        found[1] = sum_to(build, build("Mul", step.dy, chosen), step.y, step.input(1))
    if step.wants(2):
        other = build("Sub", build.scalar(1, step.y), chosen)
        found[2] = sum_to(build, build("Mul", step.dy, other), step.y, step.input(2))
    return found
