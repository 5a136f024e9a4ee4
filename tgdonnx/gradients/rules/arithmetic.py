"""Arithmetic with broadcasting: what was repeated gets the sum of the gradients of its copies."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import sum_to


def _to(step: Step, place: int, gradient: ir.Value) -> ir.Value:
    return sum_to(step.build, gradient, step.y, step.input(place))


@rule("Add", "Sum")
def _add(step: Step) -> Mapping[int, Gradient]:
    return {place: _to(step, place, step.dy) for place in range(len(step.node.inputs)) if step.wants(place)}


@rule("Mean")
def _mean(step: Step) -> Mapping[int, Gradient]:
    share = step.build("Mul", step.dy, step.build.scalar(1 / len(step.node.inputs), step.y))
    return {place: _to(step, place, share) for place in range(len(step.node.inputs)) if step.wants(place)}


@rule("Sub")
def _sub(step: Step) -> Mapping[int, Gradient]:
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _to(step, 0, step.dy)
    if step.wants(1):
        found[1] = step.build("Neg", _to(step, 1, step.dy))
    return found


@rule("Mul")
def _mul(step: Step) -> Mapping[int, Gradient]:
    a, b = step.input(0), step.input(1)
    if a is b:
        return {0: step.build("Mul", step.build("Mul", step.dy, step.build.scalar(2, a)), a)}
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _to(step, 0, step.build("Mul", step.dy, b))
    if step.wants(1):
        found[1] = _to(step, 1, step.build("Mul", step.dy, a))
    return found


@rule("Div")
def _div(step: Step) -> Mapping[int, Gradient]:
    """d(a / b) = da / b - y db / b."""
    share = step.build("Div", step.dy, step.input(1))
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = _to(step, 0, share)
    if step.wants(1):
        found[1] = step.build("Neg", _to(step, 1, step.build("Mul", share, step.y)))
    return found


@rule("Pow")
def _pow(step: Step) -> Mapping[int, Gradient]:
    """d(a^b) = b a^(b-1) da + y log(a) db; log counts as 0 where a is 0, since y is 0 on one side of it."""
    build, base, exponent = step.build, step.input(0), step.input(1)
    found: dict[int, Gradient] = {}
    known = step.known(1)
    power = exponent if exponent.dtype == base.dtype else build.cast(exponent, base)
    if step.wants(0):
        if known is not None and known.size == 1 and float(known.reshape(())) == 2:
            slope = build("Mul", build.scalar(2, base), base)
        else:
            slope = build("Mul", power, build("Pow", base, build("Sub", power, build.scalar(1, base))))
        found[0] = _to(step, 0, build("Mul", step.dy, slope))
    if step.wants(1):
        nothing = build.cast(build("Equal", base, build.scalar(0, base)), base)
        log = build("Log", build("Add", base, nothing))
        found[1] = _to(step, 1, build("Mul", step.dy, build("Mul", step.y, log)))
    return found


@rule("Mod", carries=(0,))
def _mod(step: Step) -> Mapping[int, Gradient]:
    """The quotient is a step function: of x - floor(x / m) m the derivative by x is 1."""
    return {0: _to(step, 0, step.dy)}
