"""Compare a lowered operator with the original: its outputs, and its gradients, by our rules for what it is lowered to.

    model = one_node("MaxPool", {"x": x}, opset=9, kernel_shape=[2], auto_pad="SAME_UPPER")
    lower = lowered_by(model, LowerPooling())
    check_forward(model, lower, feeds)
    check_gradients(lower, feeds, formula)

The loss is sum(y * r) with fixed random r, so that its gradient by y is r. What it should be by the inputs comes from
central differences of ``formula``, the operator in float64 numpy, written from its definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import helper, numpy_helper
from onnx_ir.passes import common as passes

from tests.gradients.checking import gradient_model
from tests.support.models import Array
from tests.support.sessions import open_session
from tgdonnx.gradients.rule import entry_of
from tgdonnx.lowering.opset_upgrade import UpgradeOpset
from tgdonnx.runtime import session_options

STATIC, DYNAMIC = "static", "dynamic"

# What passes no gradient on.
STOPS = frozenset(["Greater", "Less", "Shape", "Sign", "Floor", "Ceil", "Round"])


def one_node(
    op_type: str,
    feeds: Mapping[str, Array],
    *,
    opset: int,
    dims: str = STATIC,
    parameters: Sequence[str] = (),
    constants: Mapping[str, Array] | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] = ("y",),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node with the output ``y``.

    Args:
        op_type: of the node.
        feeds: float32 arrays by name: the inputs of the node, in this order.
        opset: version of the default operator set.
        dims: whether the sizes of inputs, other than 1 and that of axis 1, are known before the model runs.
        parameters: which of ``feeds`` are initializers.
        constants: further initializers.
        inputs: names of the inputs of the node, if they are not all of ``feeds`` and then all of ``constants``.
        outputs: of the node.
        attributes: of the node.
    """
    constants = constants or {}
    names = list(inputs) if inputs is not None else [*feeds, *constants]
    node = helper.make_node(op_type, names, outputs, name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, _dims(array.shape, dims))
            for name, array in feeds.items()
            if name not in parameters
        ],
        [helper.make_empty_tensor_value_info("y")],
        [
            numpy_helper.from_array(array, name)
            for name, array in {**feeds, **constants}.items()
            if name in parameters or name in constants
        ],
    )
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _dims(shape: Sequence[int], kind: str) -> list[int | str]:
    free = kind == DYNAMIC
    # Counted from the last axis, as broadcasting does: the runtime takes sizes of different names to be different.
    return [f"size{len(shape) - axis}" if free and size > 1 and axis != 1 else size for axis, size in enumerate(shape)]


def lowered_by(model: onnx.ModelProto, *lowerings: ir.passes.InPlacePass) -> onnx.ModelProto:
    """The checked model that the passes make of one; its nodes are of those that have a rule."""
    graph = ir.from_proto(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(graph)
    if UpgradeOpset()(graph).modified:
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
        passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(graph)
    for lowering in lowerings:
        lowering(graph)
    proto = ir.to_proto(graph)
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    if all(value.type.tensor_type.HasField("shape") for value in inferred.graph.output):
        onnx.checker.check_model(inferred, full_check=True)
    assert all(entry_of(node) is not None or node.op_type in STOPS for node in graph.graph)
    assert [value.name for value in proto.graph.output] == [value.name for value in model.graph.output]
    return proto


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Array:
    """The first output, by ONNX Runtime without its optimisations."""
    return _run(model, feeds)[0]


def check_forward(model: onnx.ModelProto, lower: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
    """Requires that the lowered model computes what the original does, to 2e-6 of the largest value.

    Where a function is far smaller than what it is computed from, it may be off by that part of a twentieth of its input.
    """
    given = {value.name for value in model.graph.input}
    feeds = {name: array for name, array in feeds.items() if name in given}
    expected, found = run(model, feeds), run(lower, feeds)
    assert np.isfinite(expected).all()
    assert found.shape == expected.shape, f"{found.shape}, expected {expected.shape}"
    largest = max(np.abs(array).max(initial=0) for array in (expected, *(array / 20 for array in feeds.values())))
    assert np.abs(found - expected).max(initial=0) <= 2e-6 * largest


def gradients(lower: onnx.ModelProto, feeds: Mapping[str, Array], weights: Array) -> dict[str, Array]:
    """The gradients of sum(y * weights) by all of ``feeds``."""
    forward = onnx.ModelProto()
    forward.CopyFrom(lower)
    graph = forward.graph
    del graph.value_info[:]
    kept = [tensor for tensor in graph.initializer if tensor.name not in feeds]
    for tensor in graph.initializer:
        if tensor.name in feeds:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return dict(zip(feeds, _run(gradient_model(forward, list(feeds), [weights]), feeds)[1:]))


def check_gradients(
    lower: onnx.ModelProto,
    feeds: Mapping[str, Array],
    formula: Callable[..., Array],
    *,
    tolerance: float = 1e-4,
) -> None:
    """Requires that the gradients by all of ``feeds`` are those of ``formula``, each to a part of its norm.

    Args:
        lower: the lowered model.
        feeds: the inputs and parameters, at a point where the operator is smooth.
        formula: the operator, which takes the arrays of ``feeds`` in float64.
        tolerance: of the relative error in the Euclidean norm.
    """
    exact = {name: array.astype(np.float64) for name, array in feeds.items()}
    shape = formula(*exact.values()).shape
    weights = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    found = gradients(lower, feeds, weights)

    def loss(name: str, array: Array) -> float:
        return float((formula(*{**exact, name: array}.values()) * weights).sum())

    for name, array in exact.items():
        expected = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[index] = 1e-6
            expected[index] = (loss(name, array + step) - loss(name, array - step)) / 2e-6
        assert found[name].shape == array.shape, name
        # Where the true gradient all but vanishes, what is left is the rounding of terms that cancel.
        scale = max(np.linalg.norm(expected), 0.03 * np.linalg.norm(weights))
        error = np.linalg.norm(found[name] - expected) / scale
        assert error <= tolerance, f"gradient by {name}: {error:.2g}\n{found[name]}\n{expected}"


def _run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    given = {value.name for value in model.graph.input}
    session = open_session(model, options)
    results: list[Array] = session.run(None, {name: array for name, array in feeds.items() if name in given})
    return results
