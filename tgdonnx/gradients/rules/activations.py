"""Smooth functions of one number: dX = dY f'(x), written by y where that spares work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule

_Derivative = Callable[[Step], ir.Value]


def _enter(op_type: str, derivative: _Derivative) -> None:
    @rule(op_type)
    def chain(step: Step) -> Mapping[int, Gradient]:
        return {0: step.build("Mul", step.dy, derivative(step))}


def _one(step: Step) -> ir.Value:
    return step.build.scalar(1, step.x)


def _square(step: Step, value: ir.Value) -> ir.Value:
    return step.build("Mul", value, value)


def _sigmoid(step: Step) -> ir.Value:
    """y - y^2."""
    return step.build("Sub", step.y, _square(step, step.y))


def _tanh(step: Step) -> ir.Value:
    """1 - y^2."""
    return step.build("Sub", _one(step), _square(step, step.y))


def _erf(step: Step) -> ir.Value:
    """2 / sqrt(pi) exp(-x^2)."""
    bell = step.build("Exp", step.build("Neg", _square(step, step.x)))
    return step.build("Mul", bell, step.build.scalar(2 / math.sqrt(math.pi), step.x))


def _reciprocal(step: Step) -> ir.Value:
    """-y^2."""
    return step.build("Neg", _square(step, step.y))


def _sqrt(step: Step) -> ir.Value:
    """1 / (2 y)."""
    return step.build("Div", step.build.scalar(0.5, step.x), step.y)


def _tan(step: Step) -> ir.Value:
    """1 + y^2."""
    return step.build("Add", _one(step), _square(step, step.y))


def _asin(step: Step) -> ir.Value:
    """1 / sqrt(1 - x^2)."""
    return step.build("Reciprocal", step.build("Sqrt", step.build("Sub", _one(step), _square(step, step.x))))


def _acos(step: Step) -> ir.Value:
    return step.build("Neg", _asin(step))


def _atan(step: Step) -> ir.Value:
    """1 / (1 + x^2)."""
    return step.build("Reciprocal", step.build("Add", _one(step), _square(step, step.x)))


def _asinh(step: Step) -> ir.Value:
    """1 / sqrt(x^2 + 1)."""
    return step.build("Reciprocal", step.build("Sqrt", step.build("Add", _square(step, step.x), _one(step))))


def _acosh(step: Step) -> ir.Value:
    """1 / sqrt(x^2 - 1)."""
    return step.build("Reciprocal", step.build("Sqrt", step.build("Sub", _square(step, step.x), _one(step))))


def _atanh(step: Step) -> ir.Value:
    """1 / (1 - x^2)."""
    return step.build("Reciprocal", step.build("Sub", _one(step), _square(step, step.x)))


def _softsign(step: Step) -> ir.Value:
    """1 / (1 + |x|)^2."""
    return step.build("Reciprocal", _square(step, step.build("Add", _one(step), step.build("Abs", step.x))))


def _mish(step: Step) -> ir.Value:
    """With t = tanh(softplus(x)): t + x (1 - t^2) sigmoid(x)."""
    t = step.build("Tanh", step.build("Softplus", step.x))
    slope = step.build("Mul", step.build("Sub", _one(step), _square(step, t)), step.build("Sigmoid", step.x))
    return step.build("Add", t, step.build("Mul", step.x, slope))


def _gelu(step: Step) -> ir.Value:
    """Of x P(x), P the normal distribution: P(x) + x p(x); of the approximation, the derivative of the approximation."""
    build, x = step.build, step.x

    def number(value: float) -> ir.Value:
        return build.scalar(value, x)

    if step.node.attributes.get_string("approximate", "none") == "tanh":
        scale, cubic = math.sqrt(2 / math.pi), 0.044715
        squared = _square(step, x)
        inner = build("Mul", x, build("Add", number(scale), build("Mul", squared, number(scale * cubic))))
        t = build("Tanh", inner)
        slope = build("Add", number(scale), build("Mul", squared, number(3 * scale * cubic)))
        bent = build("Mul", build("Mul", x, build("Sub", number(1), _square(step, t))), slope)
        return build("Mul", number(0.5), build("Add", build("Add", number(1), t), bent))
    below = build("Mul", number(0.5), build("Add", number(1), build("Erf", build("Mul", x, number(math.sqrt(0.5))))))
    bell = build("Exp", build("Mul", number(-0.5), _square(step, x)))
    return build("Add", below, build("Mul", x, build("Mul", bell, number(1 / math.sqrt(2 * math.pi)))))


for _op_type, _derivative in {
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "Exp": lambda step: step.y,
    "Erf": _erf,
    "Sqrt": _sqrt,
    "Sin": lambda step: step.build("Cos", step.x),
    "Cos": lambda step: step.build("Neg", step.build("Sin", step.x)),
    "Tan": _tan,
    "Asin": _asin,
    "Acos": _acos,
    "Atan": _atan,
    "Sinh": lambda step: step.build("Cosh", step.x),
    "Cosh": lambda step: step.build("Sinh", step.x),
    "Asinh": _asinh,
    "Acosh": _acosh,
    "Atanh": _atanh,
    "Reciprocal": _reciprocal,
    "Softplus": lambda step: step.build("Sigmoid", step.x),
    "Softsign": _softsign,
    "Mish": _mish,
    "Gelu": _gelu,
}.items():
    _enter(_op_type, _derivative)


@rule("Log")
def _log(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Div", step.dy, step.x)}


@rule("Neg")
def _neg(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Neg", step.dy)}
