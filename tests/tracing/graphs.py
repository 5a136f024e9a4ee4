"""Random networks of all the operators that are traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]

OPSETS = {9: 4, 13: 8, 18: 8}  # opset -> IR version; Clip, Pad, Dropout and batch norm were written differently in 9


@dataclass(frozen=True)
class Value:
    """An activation.

    Attributes:
        name: its name.
        shape: its shape.
        squashed: whether its range may be bounded on a side. Then Relu, MaxPool and the like could be constant on all of
            it, and a dependency that the tracer must list would be invisible.
        mixed: whether filters may differ along space. Then the tracer may give up on copying and cropping.
    """

    name: str
    shape: Shape
    squashed: bool = False
    mixed: bool = False


class Graph:
    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        self.opset = draw(st.sampled_from(sorted(OPSETS)))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.values: list[Value] = []
        self.conditions: list[str] = []  # further inputs, of type bool

    def constant(self, array: NDArray[Any]) -> str:
        name = f"k{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape).astype(np.float32))

    def near(self, centre: float, *shape: int) -> str:
        return self.constant((centre + self.rng.uniform(-0.4, 0.4, shape)).astype(np.float32))

    def factors(self, *shape: int) -> str:
        """Numbers of either sign that are not near 0, so that nothing vanishes beside other terms."""
        return self.constant((self.rng.uniform(0.7, 1.5, shape) * self.rng.choice([-1, 1], shape)).astype(np.float32))

    def node(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        return self.several(op_type, inputs, 1, **attributes)[0]

    def several(self, op_type: str, inputs: list[str], count: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs and returns their names."""
        outputs = [f"v{len(self.nodes)}" + "_" * index for index in range(count)]
        self.nodes.append(helper.make_node(op_type, inputs, outputs, **attributes))
        return outputs

    def call(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """As `node`, for operators whose arguments moved from attributes to inputs at some version."""
        as_input = {"axes": 18 if op_type.startswith("ReduceM") else 13, "split": 13, "starts": 10, "ends": 10}
        moved = [name for name in attributes if self.opset >= as_input.get(name, 99) or name == "shape"]
        constants = [self.constant(np.array(attributes.pop(name), np.int64)) for name in moved]
        return self.node(op_type, [*inputs, *constants], **attributes)

    def add(self, name: str, shape: Shape, *, squashed: bool = True, mixed: bool = False) -> None:
        """Makes an activation known to the steps that follow."""
        self.values.append(Value(name, shape, squashed, mixed))

    def put(self, op_type: str, inputs: list[str], shape: Shape, squashed: bool, **attributes: Any) -> None:
        mixed = "Conv" not in op_type and any(value.mixed for value in self.values if value.name in inputs)
        mixed = mixed or (op_type == "Concat" and attributes["axis"] not in (1, 1 - len(shape)))
        self.values.append(Value(self.node(op_type, inputs, **attributes), shape, squashed, mixed))

    def pick(self, condition: Optional[Callable[[Value], bool]] = None) -> Value:
        # The younger ones first: shrinking goes to the first.
        fitting = [value for value in reversed(self.values) if condition is None or condition(value)]
        return self.draw(st.sampled_from(fitting))


def conv(g: Graph) -> None:
    x = g.pick()
    channels, space = x.shape[1], x.shape[2:]
    group = g.draw(st.sampled_from([d for d in range(1, channels + 1) if channels % d == 0]))
    filters = group * g.draw(st.integers(1, 3))
    kernel = [g.draw(st.integers(1, min(3, s))) for s in space]
    pads = [g.draw(st.integers(0, k - 1)) for k in kernel] * 2
    strides = [g.draw(st.integers(1, 2)) for _ in space]
    out = [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(space, pads, kernel, strides)]
    weight = g.normal(filters, channels // group, *kernel)
    inputs = [x.name, weight, *([g.normal(filters)] if g.draw(st.booleans()) else [])]
    shape = (x.shape[0], filters, *out)
    g.put("Conv", inputs, shape, False, group=group, kernel_shape=kernel, pads=pads, strides=strides)


def _batch_norm(g: Graph) -> None:
    x = g.pick()
    channels = x.shape[1]
    parameters = [g.factors(channels), g.near(0, channels), g.near(0, channels), g.near(1, channels)]
    g.put("BatchNormalization", [x.name, *parameters], x.shape, x.squashed)


def _activation(g: Graph) -> None:
    x = g.pick()
    harmless = ["LeakyRelu", "Identity", "Dropout"]
    op_type = g.draw(st.sampled_from(harmless if x.squashed else ["Relu", "Sigmoid", "Tanh", *harmless]))
    attributes = {"alpha": 0.3} if op_type == "LeakyRelu" else {}
    g.put(op_type, [x.name], x.shape, x.squashed or op_type in ("Relu", "Sigmoid", "Tanh"), **attributes)


def _clip(g: Graph) -> None:
    if all(value.squashed for value in g.values):
        return
    x = g.pick(lambda value: not value.squashed)
    low, high = g.draw(st.sampled_from([(-1.0, 1.5), (0.0, 6.0), (-2.0, None), (None, 1.0)]))
    if g.opset < 11:
        bounds = {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}
        g.put("Clip", [x.name], x.shape, True, **bounds)
    else:
        names = [g.constant(np.float32(bound)) if bound is not None else "" for bound in (low, high)]
        g.put("Clip", [x.name, *names], x.shape, True)


def _broadcast(g: Graph) -> None:
    """Add, Sub or Mul of two activations, or of one and a constant."""
    a = g.pick()
    op_type = g.draw(st.sampled_from(["Add", "Sub", "Mul"]))
    constant_shapes = [(), (1,), (a.shape[1], *[1] * (len(a.shape) - 2)), (1, a.shape[1], *[1] * (len(a.shape) - 2))]
    if g.draw(st.integers(0, 3)) == 3:
        b = Value(g.factors(*g.draw(st.sampled_from(constant_shapes))), (1,) * len(a.shape))
    else:
        b = g.pick(lambda value: all(1 in (p, q) or p == q for p, q in zip(a.shape, value.shape)))
        if op_type == "Sub":  # of a multiple, or x - x would depend on nothing
            factor = g.factors(*[1] * g.draw(st.integers(0, len(b.shape))))
            g.put("Mul", [b.name, factor], b.shape, b.squashed)
            b = g.values[-1]
    operands = [a.name, b.name] if g.draw(st.booleans()) else [b.name, a.name]
    shape = tuple(max(p, q) for p, q in zip(a.shape, b.shape))
    g.put(op_type, operands, shape, a.squashed or b.squashed or op_type == "Mul")


def _concat(g: Graph) -> None:
    first = g.pick()
    rank = len(first.shape)
    axis = g.draw(st.sampled_from([1, 1, 1, *range(rank)]))
    others = [
        g.pick(lambda v: v.shape[:axis] + v.shape[axis + 1 :] == first.shape[:axis] + first.shape[axis + 1 :])
        for _ in range(g.draw(st.integers(1, 2)))
    ]
    parts = [first, *others]
    length = sum(value.shape[axis] for value in parts)
    if length > 12:
        return
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    squashed = any(value.squashed for value in parts)
    from_the_end = g.opset >= 11 and g.draw(st.booleans())
    names = [value.name for value in parts]
    g.put("Concat", names, shape, squashed, axis=axis - rank if from_the_end else axis)


def _pool(g: Graph) -> None:
    x = g.pick()
    space = x.shape[2:]
    op_type = "AveragePool" if x.squashed else g.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    whole = g.draw(st.booleans())
    kernel = [s if whole else g.draw(st.integers(1, min(3, s))) for s in space]
    pads = [0 if whole else g.draw(st.integers(0, (k - 1) // 2)) for k in kernel] * 2
    strides = [g.draw(st.integers(1, 2)) for _ in space]
    out = [(s + 2 * p - k) // t + 1 for s, p, k, t in zip(space, pads, kernel, strides)]
    squashed = x.squashed or op_type == "MaxPool"
    g.put(op_type, [x.name], (*x.shape[:2], *out), squashed, kernel_shape=kernel, pads=pads, strides=strides)


def _pad(g: Graph) -> None:
    if all(value.mixed for value in g.values):
        return
    x = g.pick(lambda value: not value.mixed)
    mode = g.draw(st.sampled_from(["constant", "reflect", "edge"]))
    rank = len(x.shape)
    pads = [0] * (2 * rank)
    for axis in range(2, rank):
        for side in (axis, axis + rank):
            pads[side] = g.draw(st.integers(0 if x.shape[axis] < 4 else -1, 1 if x.shape[axis] > 1 else 0))
    if mode == "constant" and x.shape[1] < 8:
        pads[1], pads[1 + rank] = g.draw(st.integers(0, 2)), g.draw(st.integers(0, 2))
    shape = tuple(s + pads[axis] + pads[axis + rank] for axis, s in enumerate(x.shape))
    if g.opset < 11:
        g.put("Pad", [x.name], shape, x.squashed, mode=mode, pads=pads, value=0.7)
    else:
        # Never channels of zeros: in a product they would hide what they meet.
        given = mode == "constant" and (pads[1] or pads[1 + rank] or g.draw(st.booleans()))
        number = [g.constant(np.float32(0.7))] if given else []
        g.put("Pad", [x.name, g.constant(np.array(pads)), *number], shape, x.squashed, mode=mode)


# The more often a step stands here, the more often it is taken.
STEPS = (
    *(_broadcast, _broadcast, _broadcast, _concat, _concat, conv, conv, conv),
    *(_activation, _activation, _batch_norm, _clip, _pool, _pad),
)


@st.composite
def networks(draw: Draw, steps: Sequence[Callable[[Graph], None]] = STEPS) -> onnx.ModelProto:
    """A network of 1, 2 or 3 spatial axes with one or two inputs; nodes without names, at least two layers.

    Args:
        draw: hypothesis's.
        steps: what to put between the first layer and the last; which has filters of its own, or none.
    """
    g = Graph(draw)
    space = tuple(draw(st.integers(4, 6)) for _ in range(draw(st.sampled_from([1, 2, 2, 3]))))
    inputs = []
    for i in range(draw(st.integers(1, 2))):
        shape = (2, draw(st.integers(1, 3)), *space)
        g.values.append(Value(f"x{i}", shape))
        inputs.append(helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, shape))
    conv(g)
    for _ in range(draw(st.integers(4, 16))):
        draw(st.sampled_from(steps))(g)
    last = g.values[-1]
    g.values = [last]
    conv(g)
    inputs += [helper.make_tensor_value_info(name, onnx.TensorProto.BOOL, ()) for name in g.conditions]
    output = helper.make_tensor_value_info(g.values[-1].name, onnx.TensorProto.FLOAT, g.values[-1].shape)
    graph = helper.make_graph(g.nodes, "random", inputs, [output], g.initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", g.opset)], ir_version=OPSETS[g.opset], producer_name="tests"
    )
    onnx.checker.check_model(model, full_check=True)
    return model
