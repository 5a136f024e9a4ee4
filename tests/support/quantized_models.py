"""A small network in QDQ form, as quantisation tools write it: integers in the file, float operators between Q and DQ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True)
class Kind:
    """How a network is quantised.

    Attributes:
        activations: the integer type of activations.
        weights: the integer type of weights; their zero points are 0, or around 128 where they are unsigned.
        per_channel: whether weights have a scale per filter, or one for all.
        zero_points: whether weights have zero points; without, and unsigned, all weights are positive.
        biases: ``int32``: counted in units of the scale of the input times that of the weight; ``float32``; or ``none``.
        transposed: whether the layer in the middle is a ConvTranspose, whose filters lie along axis 1.
    """

    activations: Any = np.uint8
    weights: Any = np.int8
    per_channel: bool = True
    zero_points: bool = True
    biases: str = "int32"
    transposed: bool = False

    def __str__(self) -> str:
        parts = [
            self.activations.__name__,
            self.weights.__name__,
            "axis" if self.per_channel else "tensor",
            self.biases,
        ]
        return "-".join([*parts, *["no zero points"] * (not self.zero_points), *["transposed"] * self.transposed])


@dataclass
class _Writer:
    kind: Kind
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def tensor(self, name: str, array: Array) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output.upper(), **attributes))
        return output

    def pair(self, x: str, scale: float, zero_point: int) -> str:
        grid = [
            self.tensor(f"{x}.scale", np.float32(scale)),
            self.tensor(f"{x}.zero_point", np.asarray(zero_point, self.kind.activations)),
        ]
        self.node("QuantizeLinear", [x, *grid], f"{x}.q")
        return self.node("DequantizeLinear", [f"{x}.q", *grid], f"{x}.dq")

    def layer(self, op_type: str, x: str, scale: float, shape: tuple[int, ...], output: str, **attributes: Any) -> str:
        """A layer whose weight ``{output}.w`` and bias ``{output}.b`` lie in the file as integers."""
        kind, axis = self.kind, 1 if op_type == "ConvTranspose" else 0
        others = tuple(a for a in range(len(shape)) if a != axis)
        unsigned, filters = kind.weights == np.uint8, shape[axis]
        real = self.rng.normal(size=shape) / np.sqrt(np.prod(shape) / filters)
        limit = np.abs(real).max(axis=others, keepdims=True) if kind.per_channel else np.abs(real).max()
        w_scale = np.asarray(limit / 127, np.float32)
        zero_point: Array = np.zeros(w_scale.shape, np.int64)
        if unsigned and kind.zero_points:
            zero_point = zero_point + 128
        if unsigned and kind.zero_points and kind.per_channel:
            zero_point = zero_point + self.rng.integers(-9, 9, w_scale.shape)
        limits = np.iinfo(kind.weights)
        integers = np.clip(np.rint(real / w_scale) + zero_point, limits.min, limits.max).astype(kind.weights)
        flat = (-1,) if kind.per_channel else ()
        inputs = [self.tensor(f"{output}.w", integers), self.tensor(f"{output}.w.scale", w_scale.reshape(flat))]
        if kind.zero_points:
            inputs.append(self.tensor(f"{output}.w.zero_point", zero_point.astype(kind.weights).reshape(flat)))
        along = {"axis": axis} if kind.per_channel else {}
        layer = [x, self.node("DequantizeLinear", inputs, f"{output}.w.dq", **along)]
        bias = self.rng.normal(0, 0.1, filters)
        if kind.biases == "int32":
            b_scale = np.float32(scale) * w_scale.reshape(flat)
            inputs = [
                self.tensor(f"{output}.b", np.rint(bias / b_scale).astype(np.int32)),
                self.tensor(f"{output}.b.scale", b_scale),
            ]
            layer.append(self.node("DequantizeLinear", inputs, f"{output}.b.dq", **({"axis": 0} if flat else {})))
        elif kind.biases == "float32":
            layer.append(self.tensor(f"{output}.b", bias.astype(np.float32)))
        return self.node(op_type, layer, output, **attributes)


def quantized(kind: Kind, seed: int = 0) -> onnx.ModelProto:
    """Three layers with filters 6, 5 and 3: ``a``, ``c`` and ``e``; input ``x`` (N, 2, 8, 8), output ``y``."""
    write = _Writer(kind, np.random.default_rng(seed))
    signed = kind.activations == np.int8
    x = write.pair("x", 0.03, 3 if signed else 128)
    write.layer("Conv", x, 0.03, (6, 2, 3, 3), "a", pads=[1] * 4)
    write.node("Relu", ["a"], "b")
    x = write.pair("b", 0.008, -128 if signed else 0)
    if kind.transposed:
        write.layer("ConvTranspose", x, 0.008, (6, 5, 2, 2), "c", strides=[2, 2])
    else:
        write.layer("Conv", x, 0.008, (5, 6, 3, 3), "c", pads=[1] * 4)
    x = write.pair("c", 0.009, 5 if signed else 120)
    write.layer("Conv", x, 0.009, (3, 5, 1, 1), "e")
    y = write.pair("e", 0.011, -7 if signed else 100)
    write.node("Identity", [y], "y")
    graph = helper.make_graph(
        write.nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        write.tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
