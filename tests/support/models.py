"""Small networks for the tests: ONNX text with random weights, asymmetric wherever they can be.

About a third of the input maps of every layer are read by weights 50 times smaller than the others, so that thresholds
around 0.3 select some filters and leave others: those with index 1, 4, 7, ... in every layer, and one more in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
Builder = Callable[[int], onnx.ModelProto]

QUIET = 0.02
SIZES = {"N": 2, "L": 13, "D": 6, "H": 9, "W": 8}


def conv_weight(rng: np.random.Generator, *shape: int, group: int = 1) -> Array:
    """A weight of shape (filters, maps / group, *kernel), some of whose maps are quiet."""
    weight = rng.standard_normal(shape)
    by_map = weight.reshape(group, shape[0] // group, shape[1], -1)
    maps = group * shape[1]
    for c in {*range(1, maps, 3), int(rng.integers(maps))}:
        by_map[c // shape[1], :, c % shape[1]] *= QUIET
    return weight.astype(np.float32)


def batch_norm(rng: np.random.Generator, name: str, channels: int) -> dict[str, Array]:
    values = {
        "scale": rng.uniform(0.5, 1.5, channels) * rng.choice([-1, 1], channels),
        "offset": rng.normal(0, 0.3, channels),
        "mean": rng.normal(0, 0.3, channels),
        "var": rng.uniform(0.5, 2, channels),
    }
    return {f"{name}_{key}": value.astype(np.float32) for key, value in values.items()}


def bias(rng: np.random.Generator, filters: int) -> Array:
    return rng.normal(0, 0.2, filters).astype(np.float32)


def parse(text: str, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """A checked model from ONNX text without its initializers, and those."""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(model, full_check=True)
    return model


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Standard normal values for the inputs of a model that have no initializer."""
    rng = np.random.default_rng(seed)
    stored = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: np.asarray(
            rng.standard_normal(
                [SIZES[dim.dim_param] if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim]
            )
        ).astype(bool if value.type.tensor_type.elem_type == onnx.TensorProto.BOOL else np.float32)
        for value in model.graph.input
        if value.name not in stored
    }


def chain(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng([seed, 1])
    return parse(
        """<ir_version: 8, opset_import: ["": 17]>
        chain (float[N, 3, H, W] x) => (float[N, 4, h, w] y) {
            [conv1] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            a1 = Relu(t1)
            [conv2] t2 = Conv<kernel_shape = [1, 1]>(a1, w2)
            a2 = LeakyRelu<alpha = 0.1>(t2)
            [conv3] t3 = Conv<kernel_shape = [3, 5], pads = [1, 2, 1, 2], strides = [2, 1]>(a2, w3, b3)
            a3 = Relu(t3)
            [conv4] y = Conv<kernel_shape = [3, 3], dilations = [2, 1], pads = [2, 0, 2, 1]>(a3, w4, b4)
        }""",
        {
            "w1": conv_weight(rng, 8, 3, 3, 3),
            "b1": bias(rng, 8),
            "w2": conv_weight(rng, 6, 8, 1, 1),
            "w3": conv_weight(rng, 10, 6, 3, 5),
            "b3": bias(rng, 10),
            "w4": conv_weight(rng, 4, 10, 3, 3),
            "b4": bias(rng, 4),
        },
    )


def dncnn(seed: int = 0) -> onnx.ModelProto:
    """A denoiser that subtracts the noise it finds; batch norm after its inner layers."""
    rng = np.random.default_rng([seed, 2])
    return parse(
        """<ir_version: 8, opset_import: ["": 15]>
        dncnn (float[N, 3, H, W] x) => (float[N, 3, H, W] y) {
            [conv1] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            a1 = Relu(t1)
            [conv2] t2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a1, w2)
            n2 = BatchNormalization<epsilon = 0.0001>(t2, bn2_scale, bn2_offset, bn2_mean, bn2_var)
            a2 = Relu(n2)
            [conv3] t3 = Conv<kernel_shape = [5, 3], pads = [2, 1, 2, 1]>(a2, w3, b3)
            n3 = BatchNormalization(t3, bn3_scale, bn3_offset, bn3_mean, bn3_var)
            a3 = Relu(n3)
            [conv4] noise = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a3, w4)
            y = Sub(x, noise)
        }""",
        {
            "w1": conv_weight(rng, 8, 3, 3, 3),
            "b1": bias(rng, 8),
            "w2": conv_weight(rng, 10, 8, 3, 3),
            **batch_norm(rng, "bn2", 10),
            "w3": conv_weight(rng, 7, 10, 5, 3),
            "b3": bias(rng, 7),
            **batch_norm(rng, "bn3", 7),
            "w4": conv_weight(rng, 3, 7, 3, 3),
        },
    )


def residual(seed: int = 0) -> onnx.ModelProto:
    """Two residual blocks: the maps of the trunk are sums over filters of several layers, and have several readers."""
    rng = np.random.default_rng([seed, 3])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        residual (float[N, 2, H, W] x) => (float[N, 3, H, W] y) {
            [stem] t0 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w0, b0)
            [conv1] t1 = Conv<kernel_shape = [1, 1]>(t0, w1)
            a1 = Relu(t1)
            [conv2] t2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a1, w2, b2)
            s2 = Add(t0, t2)
            [norm] n2 = BatchNormalization(s2, norm_scale, norm_offset, norm_mean, norm_var)
            a2 = Relu(n2)
            [conv3] t3 = Conv<kernel_shape = [3, 1], pads = [1, 0, 1, 0]>(a2, w3)
            a3 = Tanh(t3)
            [conv4] t4 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a3, w4)
            s4 = Add(s2, t4)
            [head] y = Conv<kernel_shape = [1, 1]>(s4, w5, b5)
        }""",
        {
            "w0": conv_weight(rng, 8, 2, 3, 3),
            "b0": bias(rng, 8),
            "w1": conv_weight(rng, 6, 8, 1, 1),
            "w2": conv_weight(rng, 8, 6, 3, 3),
            "b2": bias(rng, 8),
            **batch_norm(rng, "norm", 8),
            "w3": conv_weight(rng, 5, 8, 3, 1),
            "w4": conv_weight(rng, 8, 5, 3, 3),
            "w5": conv_weight(rng, 3, 8, 1, 1),
            "b5": bias(rng, 3),
        },
    )


def dense(seed: int = 0) -> onnx.ModelProto:
    """Every layer reads what all earlier layers made, and the input; one batch norm stands before its layer."""
    rng = np.random.default_rng([seed, 4])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        dense (float[N, 2, H, W] x) => (float[N, 3, H, W] y) {
            t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            a1 = LeakyRelu<alpha = 0.3>(t1)
            c1 = Concat<axis = 1>(x, a1)
            t2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(c1, w2)
            a2 = LeakyRelu<alpha = 0.2>(t2)
            c2 = Concat<axis = -3>(a2, x, a1)
            n2 = BatchNormalization(c2, bn_scale, bn_offset, bn_mean, bn_var)
            a3 = Relu(n2)
            t3 = Conv<kernel_shape = [1, 3], pads = [0, 1, 0, 1]>(a3, w3)
            y = Conv<kernel_shape = [1, 1]>(t3, w4, b4)
        }""",
        {
            "w1": conv_weight(rng, 6, 2, 3, 3),
            "b1": bias(rng, 6),
            "w2": conv_weight(rng, 5, 8, 3, 3),
            **batch_norm(rng, "bn", 13),
            "w3": conv_weight(rng, 7, 13, 1, 3),
            "w4": conv_weight(rng, 3, 7, 1, 1),
            "b4": bias(rng, 3),
        },
    )


def grouped(seed: int = 0) -> onnx.ModelProto:
    """Groups of several filters, depthwise layers with one and with two filters per map, and ReLU6."""
    rng = np.random.default_rng([seed, 5])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        grouped (float[N, 4, H, W] x) => (float[N, 2, H, W] y)
        <float zero = {0}, float six = {6}> {
            [conv1] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 2>(x, w1)
            n1 = BatchNormalization(t1, bn1_scale, bn1_offset, bn1_mean, bn1_var)
            a1 = Clip(n1, zero, six)
            [depthwise] t2 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 12>(a1, w2, b2)
            a2 = Clip(t2, zero, six)
            [pointwise] t3 = Conv<kernel_shape = [1, 1]>(a2, w3, b3)
            [twice] t4 = Conv<kernel_shape = [3, 1], pads = [1, 0, 1, 0], group = 9>(t3, w4)
            a4 = Relu(t4)
            [groups] t5 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 3>(a4, w5)
            [head] y = Conv<kernel_shape = [1, 1]>(t5, w6)
        }""",
        {
            "w1": conv_weight(rng, 12, 2, 3, 3, group=2),
            **batch_norm(rng, "bn1", 12),
            "w2": conv_weight(rng, 12, 1, 3, 3, group=12),
            "b2": bias(rng, 12),
            "w3": conv_weight(rng, 9, 12, 1, 1),
            "b3": bias(rng, 9),
            "w4": conv_weight(rng, 18, 1, 3, 1, group=9),
            "w5": conv_weight(rng, 15, 6, 3, 3, group=3),
            "w6": conv_weight(rng, 2, 15, 1, 1),
        },
    )


def one_d(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng([seed, 6])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        one_d (float[N, 2, L] x) => (float[N, 3, l] y) {
            [conv1] t1 = Conv<kernel_shape = [5], pads = [2, 2]>(x, w1, b1)
            p1 = MaxPool<kernel_shape = [2], strides = [1]>(t1)
            [conv2] t2 = Conv<kernel_shape = [3], pads = [1, 1], group = 2>(p1, w2)
            a2 = Tanh(t2)
            p2 = AveragePool<kernel_shape = [3], strides = [2]>(a2)
            [conv3] y = Conv<kernel_shape = [1]>(p2, w3)
        }""",
        {
            "w1": conv_weight(rng, 8, 2, 5),
            "b1": bias(rng, 8),
            "w2": conv_weight(rng, 6, 4, 3, group=2),
            "w3": conv_weight(rng, 3, 6, 1),
        },
    )


def three_d(seed: int = 0) -> onnx.ModelProto:
    rng = np.random.default_rng([seed, 7])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        three_d (float[N, 1, D, H, W] x) => (float[N, 1, d, h, w] y) {
            [conv1] t1 = Conv<kernel_shape = [3, 3, 1], pads = [1, 1, 0, 1, 1, 0]>(x, w1, b1)
            n1 = BatchNormalization(t1, bn_scale, bn_offset, bn_mean, bn_var)
            a1 = Relu(n1)
            [conv2] t2 = Conv<kernel_shape = [2, 3, 3], strides = [1, 2, 2]>(a1, w2)
            [conv3] y = Conv<kernel_shape = [1, 1, 2]>(t2, w3)
        }""",
        {
            "w1": conv_weight(rng, 7, 1, 3, 3, 1),
            "b1": bias(rng, 7),
            **batch_norm(rng, "bn", 7),
            "w2": conv_weight(rng, 5, 7, 2, 3, 3),
            "w3": conv_weight(rng, 1, 5, 1, 1, 2),
        },
    )


def gated(seed: int = 0) -> onnx.ModelProto:
    """Branches that meet in Mul (also a squeezed one, broadcast over space) and Concat, padding, and a second output."""
    rng = np.random.default_rng([seed, 8])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        gated (float[N, 3, 6, 6] x) => (float[N, 4, 3, 3] y, float[N, 5, 6, 6] side)
        <int64[8] pads = {0, 0, 1, 2, 0, 0, 1, 0}, float low = {-1.5}, float high = {2}> {
            [conv1] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            [gate] t2 = Conv<kernel_shape = [1, 1]>(x, w2)
            g2 = Sigmoid(t2)
            a1 = Mul(g2, t1)
            q1 = AveragePool<kernel_shape = [6, 6]>(a1)
            [squeeze] t3 = Conv<kernel_shape = [1, 1]>(q1, w3)
            g3 = Sigmoid(t3)
            a3 = Mul(a1, g3)
            i3 = Identity(a3)
            [side] side = Conv<kernel_shape = [3, 1], pads = [1, 0, 1, 0]>(i3, w4)
            l4 = Clip(side, low, high)
            c4 = Concat<axis = 1>(i3, l4)
            d4 = Dropout(c4)
            p4 = Pad<mode = "reflect">(d4, pads)
            m4 = MaxPool<kernel_shape = [3, 3], strides = [2, 2]>(p4)
            [conv5] t5 = Conv<kernel_shape = [1, 1]>(m4, w5, b5)
            [conv6] y = Conv<kernel_shape = [1, 2], pads = [0, 1, 0, 0]>(t5, w6)
        }""",
        {
            "w1": conv_weight(rng, 7, 3, 3, 3),
            "b1": bias(rng, 7),
            "w2": conv_weight(rng, 7, 3, 1, 1),
            "w3": conv_weight(rng, 7, 7, 1, 1),
            "w4": conv_weight(rng, 5, 7, 3, 1),
            "w5": conv_weight(rng, 6, 12, 1, 1),
            "b5": bias(rng, 6),
            "w6": conv_weight(rng, 4, 6, 1, 2),
        },
    )


def shared_weights(seed: int = 0) -> onnx.ModelProto:
    """Two branches with one weight, bias and batch norm between them; what one head needs, the other may not."""
    rng = np.random.default_rng([seed, 9])
    return parse(
        """<ir_version: 8, opset_import: ["": 13]>
        shared_weights (float[N, 2, H, W] x) => (float[N, 3, H, W] y) {
            [left] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
            [right] t2 = Conv<kernel_shape = [1, 1]>(x, w2, b2)
            [left_shared] t3 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t1, w, b)
            n3 = BatchNormalization(t3, bn_scale, bn_offset, bn_mean, bn_var)
            [right_shared] t4 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t2, w, b)
            n4 = BatchNormalization(t4, bn_scale, bn_offset, bn_mean, bn_var)
            c = Concat<axis = 1>(n3, n4)
            [head] y = Conv<kernel_shape = [1, 1]>(c, w5)
        }""",
        {
            "w1": conv_weight(rng, 6, 2, 3, 3),
            "w2": conv_weight(rng, 6, 2, 1, 1),
            "b2": bias(rng, 6),
            "w": conv_weight(rng, 7, 6, 3, 3),
            "b": bias(rng, 7),
            **batch_norm(rng, "bn", 7),
            "w5": conv_weight(rng, 3, 14, 1, 1),
        },
    )


def shared_through_identity(seed: int = 0) -> onnx.ModelProto:
    """As exporters that store equal tensors once write it: the second user reads the tensor through Identity nodes."""
    model = shared_weights(seed)
    right = next(node for node in model.graph.node if node.name == "right_shared")
    right.input[1], right.input[2] = "w_copy", "b_copy"
    copies = [
        helper.make_node("Identity", ["w"], ["w_again"]),
        helper.make_node("Identity", ["w_again"], ["w_copy"]),
        helper.make_node("Identity", ["b"], ["b_copy"]),
    ]
    nodes = [*copies, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def constant_nodes(seed: int = 0) -> onnx.ModelProto:
    """No initializer: every tensor is the value of a Constant node, half of them with a name."""
    return with_constant_nodes(dncnn(seed))


def with_constant_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], [tensor.name], name=f"constant {i}" if i % 2 else "", value=tensor)
        for i, tensor in enumerate(model.graph.initializer)
    ]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def ir_3(seed: int = 0) -> onnx.ModelProto:
    """An old file: its initializers are listed among the inputs of the graph."""
    rng = np.random.default_rng([seed, 10])
    weights = {
        "w1": conv_weight(rng, 8, 3, 3, 3),
        **batch_norm(rng, "bn", 8),
        "w2": conv_weight(rng, 5, 8, 1, 1),
        "b2": bias(rng, 5),
        "w3": conv_weight(rng, 2, 5, 3, 3),
    }
    model = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["": 8]>
        ir_3 (float[N, 3, H, W] x) => (float[N, 2, h, w] y) {
            [conv1] t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
            n1 = BatchNormalization(t1, bn_scale, bn_offset, bn_mean, bn_var)
            a1 = Clip<min = 0.0, max = 6.0>(n1)
            p1 = Pad<mode = "edge", pads = [0, 0, 1, 0, 0, 0, 0, 1]>(a1)
            [conv2] t2 = Conv<kernel_shape = [1, 1]>(p1, w2, b2)
            d2 = Dropout<ratio = 0.3>(t2)
            [conv3] y = Conv<kernel_shape = [3, 3]>(d2, w3)
        }"""
    )
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
    onnx.checker.check_model(model, full_check=True)
    return model


MODELS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        chain,
        dncnn,
        residual,
        dense,
        grouped,
        one_d,
        three_d,
        gated,
        shared_weights,
        shared_through_identity,
        constant_nodes,
        ir_3,
    )
}
