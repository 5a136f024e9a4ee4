"""Small ONNX graphs in float64 numpy, forward and backward: the reference that gradients are checked against.

It shares nothing with tgdonnx, ONNX Runtime or onnx.reference: every operator is a pair of functions written from its
definition. `gradients` runs the chain rule over the nodes in reverse and can put a gate on any activation: what flows back
into the node that made it is multiplied by the gate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[np.float64]
Attributes = Mapping[str, Any]


class NumpyNet:
    """A graph in topological order, with its tensors in float64."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        self.tensors: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in model.graph.initializer
        }
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.tensors[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).astype(np.float64)
        kinds = {tensor.name: helper.tensor_dtype_to_np_dtype(tensor.data_type) for tensor in model.graph.initializer}
        self.nodes = [_with_limits(node, kinds) if node.op_type == "QuantizeLinear" else node for node in self.nodes]
        self.outputs = [value.name for value in model.graph.output]

    def run(self, feeds: Mapping[str, Any], tensors: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Returns every value of the graph by name; ``tensors`` take the place of those of the model."""
        values = {**self.tensors, **(tensors or {})}
        values.update({name: np.asarray(array, np.float64) for name, array in feeds.items()})
        for node in self.nodes:
            inputs = [values[name] if name else None for name in node.input]
            values[node.output[0]] = OPERATORS[node.op_type][0](attributes_of(node), *inputs)
        return values

    def gradients(
        self,
        feeds: Mapping[str, Any],
        seeds: Mapping[str, Array],
        *,
        tensors: Mapping[str, Array] | None = None,
        gates: Mapping[str, Any] | None = None,
    ) -> dict[str, Array]:
        """Returns dL/dv of every value v that L depends on, given dL/dv of the outputs in ``seeds``."""
        values = self.run(feeds, tensors)
        gradients: dict[str, Array] = {name: np.asarray(seed, np.float64) for name, seed in seeds.items()}
        for node in reversed(self.nodes):
            upstream = gradients.get(node.output[0])
            if upstream is None:
                continue
            if gates is not None and node.output[0] in gates:
                upstream = upstream * gates[node.output[0]]
            inputs = [values[name] if name else None for name in node.input]
            backward = OPERATORS[node.op_type][1]
            for name, gradient in zip(node.input, backward(attributes_of(node), upstream, *inputs)):
                if name and gradient is not None:
                    gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return gradients


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _with_limits(node: onnx.NodeProto, kinds: Mapping[str, Any]) -> onnx.NodeProto:
    """A QuantizeLinear that says what its integers reach: in float64, its zero point no longer does."""
    limits = np.iinfo(kinds[node.input[2]])
    node = onnx.NodeProto.FromString(node.SerializeToString())
    node.attribute.append(helper.make_attribute("limits", [limits.min, limits.max]))
    return node


# Windows: the slices of a padded array that each tap of a kernel reads.


def _geometry(attributes: Attributes, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    assert attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    rank = len(kernel)
    pads = list(attributes.get("pads", [0] * 2 * rank))
    return pads, list(attributes.get("strides", [1] * rank)), list(attributes.get("dilations", [1] * rank))


def _pad(x: Array, pads: Sequence[int], value: float) -> Array:
    rank = len(pads) // 2
    widths = [(0, 0)] * (x.ndim - rank) + [(pads[i], pads[i + rank]) for i in range(rank)]
    return np.pad(x, widths, constant_values=value)


def _unpad(x: Array, pads: Sequence[int]) -> Array:
    rank = len(pads) // 2
    inner = [slice(pads[i], x.shape[i - rank] - pads[i + rank]) for i in range(rank)]
    return x[(..., *inner)]


def _windows(
    padded: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
    sizes = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded[-len(kernel) :], kernel, strides, dilations)]
    for tap in itertools.product(*map(range, kernel)):
        slices = [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in zip(tap, dilations, strides, sizes)]
        yield tap, (..., *slices)


# Operators: forward(attributes, *inputs) and backward(attributes, dL/dy, *inputs).


def _conv(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> Array:
    pads, strides, dilations = _geometry(attributes, w.shape[2:])
    group = attributes.get("group", 1)
    padded = _pad(x, pads, 0.0)
    filters = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    y: Any = 0.0
    for tap, window in _windows(padded.shape, w.shape[2:], strides, dilations):
        part = padded[window]
        maps = part.reshape(part.shape[0], group, w.shape[1], *part.shape[2:])
        y = y + np.einsum("ngc...,gmc->ngm...", maps, filters[(..., *tap)])
    y = y.reshape(y.shape[0], w.shape[0], *y.shape[3:])
    return y if b is None else y + b.reshape(-1, *(1,) * (w.ndim - 2))


def _conv_backward(attributes: Attributes, dy: Array, x: Array, w: Array, b: Array | None = None) -> list[Array | None]:
    pads, strides, dilations = _geometry(attributes, w.shape[2:])
    group = attributes.get("group", 1)
    padded = _pad(x, pads, 0.0)
    filters = w.reshape(group, w.shape[0] // group, *w.shape[1:])
    upstream = dy.reshape(dy.shape[0], group, filters.shape[1], *dy.shape[2:])
    d_padded, d_filters = np.zeros_like(padded), np.zeros_like(filters)
    for tap, window in _windows(padded.shape, w.shape[2:], strides, dilations):
        part = padded[window]
        maps = part.reshape(part.shape[0], group, w.shape[1], -1)
        d_filters[(..., *tap)] = np.einsum("ngmp,ngcp->gmc", upstream.reshape(*upstream.shape[:3], -1), maps)
        d_padded[window] += np.einsum("ngm...,gmc->ngc...", upstream, filters[(..., *tap)]).reshape(part.shape)
    d_bias = dy.sum(axis=(0, *range(2, dy.ndim)))
    return [_unpad(d_padded, pads), d_filters.reshape(w.shape), None if b is None else d_bias]


def _per_channel(values: Array, like: Array) -> Array:
    return values.reshape(-1, *(1,) * (like.ndim - 2))


def _batch_norm(attributes: Attributes, x: Array, scale: Array, offset: Array, mean: Array, var: Array) -> Array:
    deviation = np.sqrt(var + attributes.get("epsilon", 1e-5))
    return (x - _per_channel(mean, x)) / _per_channel(deviation, x) * _per_channel(scale, x) + _per_channel(offset, x)


def _batch_norm_backward(
    attributes: Attributes, dy: Array, x: Array, scale: Array, offset: Array, mean: Array, var: Array
) -> list[Array | None]:
    deviation = np.sqrt(var + attributes.get("epsilon", 1e-5))
    axes = (0, *range(2, x.ndim))
    normal = (x - _per_channel(mean, x)) / _per_channel(deviation, x)
    return [dy * _per_channel(scale / deviation, x), (dy * normal).sum(axis=axes), dy.sum(axis=axes), None, None]


def _shaped_like(gradient: Array, x: Array) -> Array:
    """Sums a gradient over the axes along which ``x`` was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - x.ndim)))
    axes = tuple(i for i, length in enumerate(x.shape) if length == 1 and gradient.shape[i] > 1)
    return gradient.sum(axis=axes, keepdims=True)


def _concat_backward(attributes: Attributes, dy: Array, *inputs: Array) -> list[Array | None]:
    axis = attributes["axis"]
    return list(np.split(dy, np.cumsum([x.shape[axis] for x in inputs])[:-1], axis=axis))


def _pooled(attributes: Attributes, x: Array, fill: float) -> tuple[Array, list[tuple[Any, ...]], list[int]]:
    kernel = attributes["kernel_shape"]
    pads, strides, dilations = _geometry(attributes, kernel)
    padded = _pad(x, pads, fill)
    return padded, [window for _, window in _windows(padded.shape, kernel, strides, dilations)], pads


def _max_pool(attributes: Attributes, x: Array) -> Array:
    padded, windows, _ = _pooled(attributes, x, -np.inf)
    return np.max([padded[window] for window in windows], axis=0)


def _max_pool_backward(attributes: Attributes, dy: Array, x: Array) -> list[Array | None]:
    padded, windows, pads = _pooled(attributes, x, -np.inf)
    winner = np.argmax([padded[window] for window in windows], axis=0)
    d_padded = np.zeros_like(padded)
    for index, window in enumerate(windows):
        d_padded[window] += np.where(winner == index, dy, 0.0)
    return [_unpad(d_padded, pads)]


def _average_pool(attributes: Attributes, x: Array) -> Array:
    padded, windows, _ = _pooled(attributes, x, 0.0)
    inside, _, _ = _pooled(attributes, np.ones_like(x), attributes.get("count_include_pad", 0))
    return np.sum([padded[w] for w in windows], axis=0) / np.sum([inside[w] for w in windows], axis=0)


def _average_pool_backward(attributes: Attributes, dy: Array, x: Array) -> list[Array | None]:
    padded, windows, pads = _pooled(attributes, x, 0.0)
    inside, _, _ = _pooled(attributes, np.ones_like(x), attributes.get("count_include_pad", 0))
    share = dy / np.sum([inside[w] for w in windows], axis=0)
    d_padded = np.zeros_like(padded)
    for window in windows:
        d_padded[window] += share
    return [_unpad(d_padded, pads)]


def _sigmoid(x: Array) -> Array:
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


def _softmax(attributes: Attributes, x: Array) -> Array:
    shifted = np.exp(x - x.max(axis=attributes["axis"], keepdims=True))
    return shifted / shifted.sum(axis=attributes["axis"], keepdims=True)


def _softmax_backward(attributes: Attributes, dy: Array, x: Array) -> list[Array | None]:
    y = _softmax(attributes, x)
    return [y * (dy - (dy * y).sum(axis=attributes["axis"], keepdims=True))]


def _limits(attributes: Attributes, low: Array | None, high: Array | None) -> tuple[float, float]:
    low = attributes.get("min", -np.inf) if low is None else low
    return float(low), float(attributes.get("max", np.inf) if high is None else high)


def _clip(attributes: Attributes, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    return np.clip(x, *_limits(attributes, low, high))


def _clip_backward(
    attributes: Attributes, dy: Array, x: Array, low: Array | None = None, high: Array | None = None
) -> list[Array | None]:
    least, most = _limits(attributes, low, high)
    return [dy * ((x > least) & (x < most)), None, None]


def _on_axis(attributes: Attributes, parameter: Array, x: Array) -> Array:
    return parameter.reshape(
        [-1 if i == attributes.get("axis", 1) else 1 for i in range(x.ndim)] if parameter.ndim else ()
    )


def _integers(attributes: Attributes, x: Array, scale: Array, zero_point: Array) -> Array:
    return np.rint(x / _on_axis(attributes, scale, x)) + _on_axis(attributes, zero_point, x)


def _quantize(attributes: Attributes, x: Array, scale: Array, zero_point: Array) -> Array:
    return np.clip(_integers(attributes, x, scale, zero_point), *attributes["limits"])


def _quantize_backward(
    attributes: Attributes, dy: Array, x: Array, scale: Array, zero_point: Array
) -> list[Array | None]:
    """The clipped straight-through rule: rounding is taken for the identity, limiting is not."""
    least, most = attributes["limits"]
    integers = _integers(attributes, x, scale, zero_point)
    inside = (integers >= least) & (integers <= most)
    return [dy * inside / _on_axis(attributes, scale, x), None, None]


def _dequantize(attributes: Attributes, q: Array, scale: Array, zero_point: Array | None = None) -> Array:
    offset = 0.0 if zero_point is None else _on_axis(attributes, zero_point, q)
    return (q - offset) * _on_axis(attributes, scale, q)


def _dequantize_backward(
    attributes: Attributes, dy: Array, q: Array, scale: Array, zero_point: Array | None = None
) -> list[Array | None]:
    return [dy * _on_axis(attributes, scale, q), None, None]


Forward = Callable[..., Array]
Backward = Callable[..., "list[Array | None]"]

OPERATORS: dict[str, tuple[Forward, Backward]] = {
    "Conv": (_conv, _conv_backward),
    "BatchNormalization": (_batch_norm, _batch_norm_backward),
    "Relu": (lambda _, x: np.maximum(x, 0), lambda _, dy, x: [dy * (x > 0)]),
    "LeakyRelu": (
        lambda a, x: np.where(x > 0, x, a.get("alpha", 0.01) * x),
        lambda a, dy, x: [dy * np.where(x > 0, 1.0, a.get("alpha", 0.01))],
    ),
    "Sigmoid": (lambda _, x: _sigmoid(x), lambda _, dy, x: [dy * _sigmoid(x) * _sigmoid(-x)]),
    "Tanh": (lambda _, x: np.tanh(x), lambda _, dy, x: [dy * (1 - np.tanh(x) ** 2)]),
    "Softmax": (_softmax, _softmax_backward),
    "Identity": (lambda _, x: x, lambda _, dy, _x: [dy]),
    "Dropout": (lambda _, x, *_ratio: x, lambda _, dy, *_inputs: [dy]),
    "Add": (lambda _, x, y: x + y, lambda _, dz, x, y: [_shaped_like(dz, x), _shaped_like(dz, y)]),
    "Sub": (lambda _, x, y: x - y, lambda _, dz, x, y: [_shaped_like(dz, x), -_shaped_like(dz, y)]),
    "Mul": (lambda _, x, y: x * y, lambda _, dz, x, y: [_shaped_like(dz * y, x), _shaped_like(dz * x, y)]),
    "Concat": (lambda a, *xs: np.concatenate(xs, axis=a["axis"]), _concat_backward),
    "Clip": (_clip, _clip_backward),
    "QuantizeLinear": (_quantize, _quantize_backward),
    "DequantizeLinear": (_dequantize, _dequantize_backward),
    "MaxPool": (_max_pool, _max_pool_backward),
    "AveragePool": (_average_pool, _average_pool_backward),
}


# Losses: the value, and its derivative by the output (for bce and ce: by the logits).


def loss_of(name: str, output: Array, target: NDArray[Any]) -> float:
    """The formulas of `tgdonnx.artifacts.losses`; bce and ce of logits; not ssim."""
    if name == "mse":
        return float(np.mean((output - target) ** 2))
    if name == "l1":
        return float(np.mean(np.abs(output - target)))
    if name == "charbonnier":
        return float(np.mean(np.sqrt((output - target) ** 2 + 1e-6)))
    if name == "bce":
        return float(np.mean(np.logaddexp(0, output) - output * target))
    shifted = output - output.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-np.mean(np.take_along_axis(log_p, np.expand_dims(target, 1), axis=1)))


def loss_gradient(name: str, output: Array, target: NDArray[Any]) -> Array:
    """The derivative of `loss_of` by ``output``."""
    if name == "mse":
        return 2 * (output - target) / output.size
    if name == "l1":
        return np.sign(output - target) / output.size
    if name == "charbonnier":
        return (output - target) / np.sqrt((output - target) ** 2 + 1e-6) / output.size
    if name == "bce":
        return (_sigmoid(output) - target) / output.size
    one_hot = np.zeros_like(output)
    np.put_along_axis(one_hot, np.expand_dims(target, 1), 1.0, axis=1)
    return (_softmax({"axis": 1}, output) - one_hot) / target.size
