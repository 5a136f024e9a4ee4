"""Random graphs: operators, broadcasting, shared values, several readers and open sizes, all mixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests.gradients import exact_operators
from tests.gradients.checking import _in_double, gradient_model, model_of, run

UNARY = ("Tanh", "Sigmoid", "Sin", "Softplus", "Identity", "Neg", "Relu", "LeakyRelu", "Abs", "Erf", "Softsign")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")
KINDS = ("unary", "binary", "reduce", "transpose", "concat", "slice", "gather", "matmul")
REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceLogSumExp", "ReduceL2")


@dataclass
class Graph:
    """A graph in the making: nodes, and the shapes of all values so far."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, op_type: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.shapes[name] = shape

    def ints(self, *numbers: int) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.array(numbers, np.int64)
        return name


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, tuple[int, ...]]]:
    """A graph of 3 to 12 nodes on two inputs; its last value is the output."""
    graph = Graph()
    dims = st.sampled_from([1, 2, 3])
    inputs = {name: tuple(draw(st.lists(dims, min_size=2, max_size=3))) for name in ("a", "b")}
    graph.shapes.update(inputs)
    for _ in range(draw(st.integers(3, 12))):
        name = draw(st.sampled_from(sorted(graph.shapes)))
        shape, kind = (
            graph.shapes[name],
            draw(st.sampled_from(KINDS)),
        )
        if kind == "unary":
            graph.add(draw(st.sampled_from(UNARY)), [name], shape)
        elif kind == "binary":
            other = draw(st.sampled_from(sorted(graph.shapes)))
            try:
                result = np.broadcast_shapes(shape, graph.shapes[other])
            except ValueError:
                continue
            graph.add(draw(st.sampled_from(BINARY)), [name, other], result)
        elif kind == "reduce" and shape:
            axis, keep = draw(st.integers(0, len(shape) - 1)), draw(st.integers(0, 1))
            left = tuple(1 if i == axis else size for i, size in enumerate(shape) if keep or i != axis)
            graph.add(draw(st.sampled_from(REDUCTIONS)), [name, graph.ints(axis)], left, keepdims=keep)
        elif kind == "transpose" and len(shape) > 1:
            perm = draw(st.permutations(range(len(shape))))
            graph.add("Transpose", [name], tuple(shape[axis] for axis in perm), perm=perm)
        elif kind == "concat" and shape:
            axis = draw(st.integers(0, len(shape) - 1))
            same = [
                other
                for other, sizes in sorted(graph.shapes.items())
                if len(sizes) == len(shape) and sizes[:axis] + sizes[axis + 1 :] == shape[:axis] + shape[axis + 1 :]
            ]
            other = draw(st.sampled_from(same))
            joined = tuple(size + graph.shapes[other][axis] * (i == axis) for i, size in enumerate(shape))
            if max(joined) < 9:
                graph.add("Concat", [name, other], joined, axis=axis)
        elif kind == "slice" and shape and max(shape) > 1:
            axis = int(np.argmax(shape))
            start = draw(st.integers(0, shape[axis] - 1))
            cut = tuple(size - start * (i == axis) for i, size in enumerate(shape))
            graph.add("Slice", [name, graph.ints(start), graph.ints(2**62), graph.ints(axis)], cut)
        elif kind == "gather" and shape:
            places = draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=3))
            graph.add("Gather", [name, graph.ints(*places)], (len(places), *shape[1:]), axis=0)
        elif kind == "matmul" and len(shape) == 2:
            turned = f"t{len(graph.nodes)}"
            graph.nodes.append(helper.make_node("Transpose", [name], [turned], perm=[1, 0]))
            graph.shapes[turned] = shape[::-1]
            graph.add("MatMul", [name, turned], (shape[0], shape[0]))
    if not graph.nodes:
        graph.add("Tanh", ["a"], inputs["a"])
    return graph, inputs


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.sampled_from(["static", "open", "distinct"]), st.integers(0, 2**32 - 1))
def test_gradients_of_random_graphs_are_their_slopes(
    made: tuple[Graph, dict[str, tuple[int, ...]]], kind: str, seed: int
) -> None:
    graph, inputs = made
    rng = np.random.default_rng(seed)
    feeds = {name: rng.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}
    output = list(graph.shapes)[-1]
    plain = model_of(graph.nodes, feeds, graph.constants, outputs=[output])
    evaluator = ReferenceEvaluator(_in_double(plain), new_ops=exact_operators.ALL)
    exact = {name: array.astype(np.float64) for name, array in feeds.items()}
    (value,) = evaluator.run(None, exact)
    weights = rng.normal(size=np.shape(value)).astype(np.float32)

    def loss(step: float, directions: dict[str, np.ndarray]) -> float:
        moved = {name: array + step * directions[name] for name, array in exact.items()}
        return float((evaluator.run(None, moved)[0] * weights).sum())

    model = model_of(graph.nodes, feeds, graph.constants, outputs=[output], kind=kind)
    training = gradient_model(model, list(feeds), [weights])
    found = dict(zip(["loss", *feeds], run(training, feeds)))
    directions = {name: rng.normal(size=array.shape) for name, array in feeds.items()}
    slopes = [(loss(step, directions) - loss(-step, directions)) / (2 * step) for step in (1e-6, 1e-7)]
    along = sum(float((found[name] * directions[name]).sum()) for name in feeds)
    size = sum(float(np.linalg.norm(found[name]) * np.linalg.norm(directions[name])) for name in feeds)
    scale = max(size, float(np.linalg.norm(weights)), 1e-3)
    assume(abs(slopes[0] - slopes[1]) <= 1e-4 * scale)  # else a bend lies within the step
    assert abs(along - slopes[0]) <= 1e-4 * scale
