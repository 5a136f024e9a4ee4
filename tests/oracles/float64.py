"""Losses and slopes of a model in float64, by ONNX's reference implementation: an oracle for gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = NDArray[Any]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with every real number in float64; what casts to one casts to that."""
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
            if (node.op_type, attribute.name) == ("Cast", "to") and attribute.i in _FLOATS:
                attribute.i = TensorProto.DOUBLE
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    return double


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _FLOATS:
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), name))


class Loss:
    """The mean squared error of a model's first output, as a function of its tensors.

    Args:
        model: the vendor's.
        feeds: its inputs.
    """

    def __init__(self, model: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
        self._model = in_float64(model)
        self._feeds = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in feeds.items()}
        self._target: Array = np.zeros(())

    def aim(self, rng: np.random.Generator) -> Array:
        """Draws what the output is compared with, and returns it."""
        (y,) = self.values({}, [self._model.graph.output[0].name])
        self._target = rng.normal(size=y.shape).astype(np.float32)
        return self._target

    def __call__(self, tensors: Mapping[str, Array]) -> float:
        """The loss with these values in tensors."""
        (y,) = self.values(tensors, [self._model.graph.output[0].name])
        return float(np.mean((y - self._target) ** 2))

    def values(self, tensors: Mapping[str, Array], names: Sequence[str]) -> list[Array]:
        """Some values of the graph, with these values in tensors."""
        moved = onnx.ModelProto()
        moved.CopyFrom(self._model)
        for tensor in moved.graph.initializer:
            if tensor.name in tensors and tensor.data_type == TensorProto.DOUBLE:
                tensor.CopyFrom(numpy_helper.from_array(np.asarray(tensors[tensor.name], np.float64), tensor.name))
        del moved.graph.output[:]
        moved.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(ReferenceEvaluator(moved, new_ops=_OPERATORS).run(None, self._feeds))

    def slope(self, tensors: Mapping[str, Array], name: str, direction: Array, step: float = 1e-6) -> float:
        """The derivative along a direction of one tensor, by central differences."""
        start = tensors[name].astype(np.float64)
        ends = [self({**tensors, name: start + sign * step * direction}) for sign in (1.0, -1.0)]
        return (ends[0] - ends[1]) / (2 * step)

    def straightened(self, tensors: Mapping[str, Array]) -> Loss:
        """The same with every pair of QuantizeLinear and DequantizeLinear as the limits of its uint8 and a constant rest.

        There its value is the same, and its slope the one that passes rounding straight.
        """
        result = Loss(self._model, self._feeds)
        result._target = self._target
        graph = result._model.graph
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "QuantizeLinear":
                x, scale, zero = (node.input[0], stored[node.input[1]], stored[node.input[2]].astype(np.float64))
                (pair,) = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] == node.output[0]]
                given, rounded = self.values(tensors, [x, pair.output[0]])
                low, high = (0 - zero) * scale, (255 - zero) * scale
                rest = rounded - np.clip(given, low, high)
                for word, array in (("low", low), ("high", high), ("rest", rest)):
                    graph.initializer.append(numpy_helper.from_array(np.asarray(array), f"{pair.output[0]}.{word}"))
                name = pair.output[0]
                node.CopyFrom(helper.make_node("Clip", [x, f"{name}.low", f"{name}.high"], [f"{name}.limited"]))
                pair.CopyFrom(helper.make_node("Add", [f"{name}.limited", f"{name}.rest"], [name]))
        return result


# What the reference implementation computes in float32, or wrongly, from the definitions.


class Erf(OpRun):
    """In float64."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[np.float64])(x),)


class Gelu(OpRun):
    """In float64."""

    op_domain = ""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        if approximate == "tanh":
            return (x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,)
        return (x * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / np.sqrt(2))) / 2,)


class LayerNormalization(OpRun):
    """Of any rank and axis, with its other outputs."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Optional[Array] = None,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = 1,  # noqa: ARG002  # float64, whatever it asks for
    ) -> tuple[Array, ...]:
        axes = tuple(range(axis % x.ndim, x.ndim))
        mean = x.mean(axes, keepdims=True)
        inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon)
        y = (x - mean) * inverse * scale
        return (y if bias is None else y + bias, mean, inverse)


class GroupNormalization(OpRun):
    """With a scale per channel, as from operator set 21 on."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        epsilon: float = 1e-5,
        num_groups: int = 1,
        stash_type: int = 1,  # noqa: ARG002  # float64, whatever it asks for
    ) -> tuple[Array]:
        grouped = x.reshape(len(x), num_groups, -1)
        centred = grouped - grouped.mean(2, keepdims=True)
        normal = (centred / np.sqrt((centred**2).mean(2, keepdims=True) + epsilon)).reshape(x.shape)
        channels = (-1, *[1] * (x.ndim - 2))
        return (normal * scale.reshape(channels) + bias.reshape(channels),)


class RMSNormalization(OpRun):
    """In float64."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = 1,  # noqa: ARG002  # float64, whatever it asks for
    ) -> tuple[Array]:
        axes = tuple(range(axis % x.ndim, x.ndim))
        return (x / np.sqrt((x**2).mean(axes, keepdims=True) + epsilon) * scale,)


class LRN(OpRun):
    """Over channels floor((size - 1) / 2) before and ceil((size - 1) / 2) behind."""

    op_domain = ""

    def _run(self, x: Array, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int = 1) -> tuple[Array]:
        squares = np.zeros_like(x)
        for c in range(x.shape[1]):
            squares[:, c] = (x[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1] ** 2).sum(1)
        return (x / (bias + alpha / size * squares) ** beta,)


class LpNormalization(OpRun):
    """With absolute values."""

    op_domain = ""

    def _run(self, x: Array, axis: int = -1, p: int = 2) -> tuple[Array]:
        return (x / np.linalg.norm(x, p, axis, keepdims=True),)


class GlobalLpPool(OpRun):
    """Over all axes of space."""

    op_domain = ""

    def _run(self, x: Array, p: int = 2) -> tuple[Array]:
        axes = tuple(range(2, x.ndim))
        return ((np.abs(x) ** p).sum(axes, keepdims=True) ** (1 / p),)


class MeanVarianceNormalization(OpRun):
    """In float64."""

    op_domain = ""

    def _run(self, x: Array, axes: Sequence[int] = (0, 2, 3)) -> tuple[Array]:
        centred = x - x.mean(tuple(axes), keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(tuple(axes), keepdims=True)) + 1e-9),)


class Softmax(OpRun):
    """Before operator set 13 over all axes from one on, by default the second; the cases there do not name it."""

    op_domain = ""

    def _run(self, x: Array, axis: Optional[int] = None) -> tuple[Array]:
        axes = (
            (axis,)
            if axis is not None and "axis" in {a.name for a in self.onnx_node.attribute}
            else tuple(range(1, x.ndim))
        )
        e = np.exp(x - x.max(axes, keepdims=True))
        return (e / e.sum(axes, keepdims=True),)


class LogSoftmax(Softmax):
    """Likewise."""

    def _run(self, x: Array, axis: Optional[int] = None) -> tuple[Array]:
        return (np.log(super()._run(x, axis)[0]),)


class Upsample(OpRun):
    """By whole factors, before operator set 9 by an attribute."""

    op_domain = ""

    def _run(self, x: Array, given: Optional[Array] = None, scales: Any = None, mode: str = "nearest") -> tuple[Array]:
        for axis, scale in enumerate(given if given is not None else scales):
            places = np.arange(round(x.shape[axis] * scale)) / scale
            low = np.floor(places).astype(int)
            high = np.minimum(low + 1, x.shape[axis] - 1)
            weight = (places - low if mode == "linear" else 0 * places).reshape(
                [-1 if a == axis else 1 for a in range(x.ndim)]
            )
            x = np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight
        return (x,)


_OPERATORS: list[Any] = [
    Erf,
    Gelu,
    GlobalLpPool,
    GroupNormalization,
    LRN,
    LayerNormalization,
    LogSoftmax,
    LpNormalization,
    MeanVarianceNormalization,
    RMSNormalization,
    Softmax,
    Upsample,
]
