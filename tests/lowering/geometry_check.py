"""Lowerings of linear operators, checked against the operators themselves.

An operator that is linear in an input has a Jacobian that needs no small step: its columns are what it makes of unit
vectors. ONNX Runtime computes them with the original operator, one at a time, and in float64 they are multiplied by
the gradient of the output. That is compared with the gradient of the lowered operator by our rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Union

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients.checking import gradient_model
from tests.gradients.checking import run as run_all
from tests.lowering.graphs import run
from tests.support.sessions import open_session
from tgdonnx.lowering.conv_transpose_pads import ExplicitConvTransposePads
from tgdonnx.lowering.emitting import Lowering
from tgdonnx.lowering.opset_upgrade import UpgradeOpset

Array = NDArray[Any]


def node_model(
    op_type: str,
    inputs: Mapping[str, Union[Array, None]],
    *,
    opset: int,
    constants: Iterable[str] = (),
    dynamic: Iterable[int] = (),
    rank: int | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node, with output ``y``.

    Args:
        op_type: the operator.
        inputs: the node's inputs in order; None for one that is left out.
        opset: version of the operator set.
        constants: the inputs that are initializers.
        dynamic: axes of the first input whose size the model leaves open.
        rank: of the output; that of the first input if None.
        attributes: of the node.
    """
    names = [name if array is not None else "" for name, array in inputs.items()]
    values, tensors = [], []
    for place, (name, array) in enumerate(inputs.items()):
        if array is None:
            continue
        if name in constants:
            tensors.append(numpy_helper.from_array(array, name))
            continue
        dims = [f"d{axis}" if place == 0 and axis in dynamic else size for axis, size in enumerate(array.shape)]
        values.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), dims))
    node = helper.make_node(op_type, names, ["y"], name="node", **attributes)
    first = next(array for array in inputs.values() if array is not None)
    shape = [f"y{axis}" for axis in range(first.ndim if rank is None else rank)]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "g", values, [output], tensors)
    ir_version = 10 if opset == 21 else 8
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def lowered_by(lowering: Lowering, model: onnx.ModelProto, *, check: bool = True) -> onnx.ModelProto:
    """The graph that a pass makes of the model, checked if it can be; the pass must change it."""
    copy = ir.from_proto(model)
    spelled = ExplicitConvTransposePads()(copy).modified
    raised = UpgradeOpset()(copy).modified
    if raised or spelled:
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(copy)
    assert lowering(copy).modified or raised
    proto = ir.to_proto(copy)
    if check:
        onnx.checker.check_model(proto, full_check=True)
    return proto


def leaves_alone(lowering: Lowering, model: onnx.ModelProto) -> bool:
    """Whether a pass does not touch the model."""
    return not lowering(ir.from_proto(model)).modified


def gradients(
    model: onnx.ModelProto, feeds: Mapping[str, Array], target: Array, names: Iterable[str]
) -> dict[str, Array]:
    """The derivatives of sum(y * target) by inputs of the model."""
    names = list(names)
    return dict(zip(names, run_all(gradient_model(model, names, [target]), feeds)[1:]))


def linear_gradient(model: onnx.ModelProto, feeds: Mapping[str, Array], target: Array, name: str) -> Array:
    """The derivative of sum(y * target) by one input, in which the model is linear, by the model's own Jacobian."""
    point = np.zeros_like(feeds[name])
    offset = run(model, {**feeds, name: point}).astype(np.float64)
    gradient = np.zeros(point.shape, np.float64)
    for place in np.ndindex(*point.shape):
        point[place] = 1
        column = run_again(model, {**feeds, name: point}).astype(np.float64) - offset
        gradient[place] = np.sum(column * target)
        point[place] = 0
    return gradient


def run_again(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> Array:
    """As `run`, but the session is made once per model."""
    key = model.SerializeToString()
    if key not in _SESSIONS:
        _SESSIONS.clear()
        _SESSIONS[key] = open_session(key)
    found: Array = _SESSIONS[key].run(None, dict(feeds))[0]
    return found


_SESSIONS: dict[bytes, Any] = {}


def relative_error(found: Array, expected: Array) -> float:
    """The largest difference, in units of the largest expected magnitude."""
    assert found.shape == expected.shape, f"{found.shape} and {expected.shape}"
    scale = np.abs(expected).max()
    difference = np.abs(np.asarray(found, np.float64) - expected).max()
    return float(difference / scale) if scale > 0 else float(difference)
