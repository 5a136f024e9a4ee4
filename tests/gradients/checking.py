"""Gradients by our rules, run by ONNX Runtime in float32, against finite differences of ONNX's reference in float64.

The loss is a weighted sum of the outputs, so that every element counts in its own way. Three kinds of declared shapes:
all sizes known; open, where sizes that are equal have one name; and open, where every size has a name of its own, so that
what was repeated is known only while the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients import exact_operators
from tests.support.sessions import open_session
from tgdonnx.gradients import differentiate
from tgdonnx.lowering.fake_quantize import expand_fake_quantize

Array = NDArray[Any]
KINDS = ("static", "open", "distinct")


def model_of(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] = {},
    *,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    kind: str = "static",
    held: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of some nodes; ``feeds`` are its inputs, those in ``held`` of known sizes always."""
    inputs = [
        helper.make_tensor_value_info(name, _type(array), _dims(name, array.shape, "static" if name in held else kind))
        for name, array in feeds.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _type(array: Array) -> int:
    return helper.np_dtype_to_tensor_dtype(array.dtype)


def _dims(name: str, shape: Sequence[int], kind: str) -> list[Any]:
    if kind == "static":
        return list(shape)
    # Channels are known in every model that trains; a size of 1 says that it is repeated.
    return [
        size
        if size == 1 or (axis == 1 and len(shape) > 2)
        else f"{name}{axis}"
        if kind == "distinct"
        else f"size{size}"
        for axis, size in enumerate(shape)
    ]


def check_gradients(
    nodes: Sequence[onnx.NodeProto],
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] = {},
    *,
    wanted: Sequence[str] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    kinds: Sequence[str] = KINDS,
    held: Sequence[str] = (),
    tolerance: float = 2e-5,
) -> onnx.ModelProto:
    """Requires the gradients by ``wanted`` (all floating-point feeds if None), each to ``tolerance`` of its norm.

    Args:
        nodes: the graph.
        feeds: its inputs, float32 or of whole numbers, at a point where it is smooth.
        constants: its initializers.
        wanted: names of feeds.
        outputs: what the loss is made of.
        opset: of the default domain.
        kinds: how sizes are declared.
        held: feeds of known sizes.
        tolerance: of the relative error in the Euclidean norm.

    Returns:
        The last gradient model.
    """
    given = {
        name: np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
        for name, a in feeds.items()
    }
    held_constants = {
        name: np.asarray(a, np.float32) if np.asarray(a).dtype.kind == "f" else np.asarray(a)
        for name, a in constants.items()
    }
    wanted = [name for name, array in given.items() if array.dtype.kind == "f"] if wanted is None else wanted
    plain = model_of(nodes, given, held_constants, outputs=outputs, opset=opset)
    exact = {name: _double(array) for name, array in given.items()}
    double = _in_double(plain)
    evaluator = ReferenceEvaluator(double, new_ops=exact_operators.ALL)
    values = evaluator.run(None, exact)
    rng = np.random.default_rng(11)
    weights = [rng.normal(size=np.shape(value)).astype(np.float32) for value in values]

    def loss(name: str, array: Array) -> float:
        moved = evaluator.run(None, {**exact, name: array})
        return sum(float((np.asarray(value, np.float64) * weight).sum()) for value, weight in zip(moved, weights))

    expected = {name: _slopes(lambda array, name=name: loss(name, array), exact[name]) for name in wanted}  # type: ignore[misc]
    for kind in kinds:
        model = model_of(nodes, given, held_constants, outputs=outputs, opset=opset, kind=kind, held=held)
        training = gradient_model(model, wanted, weights)
        found = dict(zip(["loss", *wanted], run(training, given)))
        for name in wanted:
            assert found[name].shape == expected[name].shape, f"{kind}: {name}"
            # Where the true gradient all but vanishes, what is left is the rounding of terms that cancel.
            least = 1e-2 * max(np.linalg.norm(weight) for weight in weights)
            scale = max(float(np.linalg.norm(expected[name])), least) or 1.0
            error = float(np.linalg.norm(found[name] - expected[name])) / scale
            assert error <= tolerance, f"{kind}: gradient by {name}: {error:.2g}\n{found[name]}\n{expected[name]}"
    return training


def gradient_model(model: onnx.ModelProto, wanted: Sequence[str], weights: Sequence[Array]) -> onnx.ModelProto:
    """The model with the weighted sum of its outputs and the gradients of that as outputs; it passes the checker."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    graph, sums = proto.graph, []
    for place, (value, weight) in enumerate(zip(list(graph.output), weights)):
        graph.initializer.append(numpy_helper.from_array(weight, f"weights{place}"))
        graph.node.append(helper.make_node("Mul", [value.name, f"weights{place}"], [f"weighted{place}"]))
        graph.node.append(helper.make_node("ReduceSum", [f"weighted{place}"], [f"sum{place}"], keepdims=0))
        sums.append(f"sum{place}")
    graph.node.append(helper.make_node("Sum", sums, ["the loss"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("the loss", TensorProto.FLOAT, []))
    converted = ir.from_proto(proto)
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(converted)
    by_name = {str(value.name): value for value in [*converted.graph.inputs, *converted.graph.initializers.values()]}
    loss = converted.graph.outputs[0]
    gradients = differentiate(converted, loss, [by_name[name] for name in wanted])
    converted.graph.outputs.extend(gradients)
    expand_fake_quantize(converted)
    result = ir.to_proto(converted)
    onnx.checker.check_model(result, full_check=True)
    return result


def run(model: onnx.ModelProto, feeds: Mapping[str, Array], *, optimise: bool = False) -> list[Array]:
    """All outputs, by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.enable_mem_pattern = False
    options.intra_op_num_threads = 1
    session = open_session(model, options)
    results: list[Array] = session.run(None, dict(feeds))
    return results


def _double(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float64, for the reference."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    _double_graph(proto.graph)
    return proto


def _double_graph(graph: onnx.GraphProto) -> None:
    for value in [*graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _double_graph(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE


def _slopes(loss: Any, array: Array) -> Array:
    slopes = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        step = np.zeros(array.shape)
        step[index] = 1e-6
        slopes[index] = (loss(array + step) - loss(array - step)) / 2e-6
    return slopes
