"""Arithmetic, comparisons, and functions of one number."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from tests.pytorch.interpreter import OPERATORS, Node, operator, tensor_of

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Identity": lambda x: x,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
}
_VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}

for _name, _function in _UNARY.items():
    OPERATORS[_name] = lambda _, x, function=_function: function(x)
for _name, _two in _BINARY.items():
    OPERATORS[_name] = lambda _, a, b, function=_two: function(a, b)
for _name, _two in _VARIADIC.items():
    OPERATORS[_name] = lambda _, *given, function=_two: reduce(function, given)


@operator("Mean")
def _mean(node: Node, *given: Tensor) -> Tensor:
    return reduce(torch.add, given) / len(given)


@operator("Div")
def _div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Pow")
def _pow(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.pow(a, b.to(a.dtype))


@operator("Mod")
def _mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.fmod(a, b) if node.get("fmod", 0) else torch.remainder(a, b)


@operator("Where")
def _where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@operator("Cast")
def _cast(node: Node, x: Tensor) -> Tensor:
    return x.to(_torch_type(node.get("to")))


@operator("CastLike")
def _cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def _torch_type(to: int) -> torch.dtype:
    return tensor_of(np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(to))).dtype


@operator("Clip")
def _clip(node: Node, x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
    least = tensor_of(node.get("min")) if least is None and node.get("min") is not None else least
    most = tensor_of(node.get("max")) if most is None and node.get("max") is not None else most
    return x if least is None and most is None else torch.clamp(x, least, most)


@operator("LeakyRelu")
def _leaky_relu(node: Node, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu")
def _prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


@operator("Elu")
def _elu(node: Node, x: Tensor) -> Tensor:
    return functional.elu(x, node.get("alpha", 1.0))


@operator("Celu")
def _celu(node: Node, x: Tensor) -> Tensor:
    return functional.celu(x, node.get("alpha", 1.0))


@operator("Selu")
def _selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return gamma * functional.elu(x, alpha)


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return functional.threshold(x, node.get("alpha", 1.0), 0.0)


@operator("Shrink")
def _shrink(node: Node, x: Tensor) -> Tensor:
    bias, limit = node.get("bias", 0.0), node.get("lambd", 0.5)
    return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x)))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@operator("Gelu")
def _gelu(node: Node, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=node.text("approximate", "none"))


@operator("Swish")
def _swish(node: Node, x: Tensor) -> Tensor:
    return x * torch.sigmoid(node.get("alpha", 1.0) * x)


@operator("Constant")
def _constant(node: Node) -> Tensor:
    (value,) = node.attributes.values()
    return tensor_of(value)


@operator("ConstantOfShape")
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    value = tensor_of(node.get("value", np.zeros(1, np.float32)))
    return value.reshape(()).expand([int(size) for size in shape]).clone()


@operator("Range")
def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    return start + delta * torch.arange(count, dtype=start.dtype)


@operator("Dropout")
def _dropout(node: Node, x: Tensor, ratio: Tensor | None = None, training: Tensor | None = None) -> Any:
    assert training is None or not bool(training), "at random"
    return x, torch.ones_like(x, dtype=torch.bool)
