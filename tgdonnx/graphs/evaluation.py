"""Nodes whose inputs are known, computed by ONNX's reference implementation: those that shapes are computed with.

What a node will make is known before it is computed, or is no more than it reads; so a node that would make 2^40 elements
of a few numbers is left alone. Operators whose work has nothing to do with the size of what they read and make (pools over
enormous windows, products over many axes, loops) are not computed at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from tgdonnx.graphs.operators import (
    ELEMENTWISE,
    EXTREME_PLACES,
    QUANTIZERS,
    REDUCTIONS,
    RESHAPING,
    SIZES,
    is_standard,
)

Array = NDArray[Any]

_MOVING = (
    "Concat CumSum DepthToSpace Gather GatherElements GatherND ReverseSequence ScatterElements ScatterND Slice SpaceToDepth "
    "Split TopK Transpose Trilu"
)
_GROWING = "Constant ConstantOfShape Expand EyeLike MatMul OneHot Pad Range Tile"
_EVALUATED = frozenset().union(
    *(ELEMENTWISE, QUANTIZERS, REDUCTIONS, EXTREME_PLACES, SIZES, RESHAPING),
    *(["CastLike"], _MOVING.split(), _GROWING.split()),
)
# How much they make depends on the numbers that they read, which inference does not look at, but is no more than they read.
_SELECTING = frozenset({"Compress", "NonZero", "Unique"})
_SMALL = 4096  # elements that inference is told, because they may be sizes


def evaluate(
    node: ir.Node,
    inputs: Mapping[str, Array],
    opsets: Mapping[str, int],
    most: int,
    expected: Optional[Sequence[Optional[tuple[int, ...]]]] = None,
) -> Optional[list[Array]]:
    """Computes a node; returns None if it is none that is computed here, fails, or would make more than ``most`` elements.

    Args:
        node: the node.
        inputs: what it reads, by name.
        opsets: the operator sets, ONNX's under the empty name.
        most: elements that an output may have.
        expected: the shapes of the outputs, where they have been inferred already; None for one that is not known.
    """
    if not is_standard(node, _EVALUATED | _SELECTING):
        return None
    if node.op_type not in _SELECTING:
        shapes = output_shapes(node, inputs, opsets) if expected is None else expected
        named = [shape for shape, value in zip(shapes, node.outputs) if value.name]
        if any(shape is None or elements(shape) > most for shape in named):
            return None
    return _run(node, inputs, [helper.make_opsetid(domain, version) for domain, version in opsets.items()])


def shape_content(node: ir.Node, shape: Iterable[object]) -> Optional[NDArray[np.int64]]:
    """Returns what a Shape node gives for an input of a shape; None if one of the sizes that it takes is open."""
    start, end = (node.attributes[name].as_int() if name in node.attributes else None for name in ("start", "end"))
    taken = list(shape)[start:end]
    return np.array(taken, np.int64) if all(isinstance(size, int) for size in taken) else None


def elements(shape: Iterable[int]) -> int:
    """Returns how many elements a shape has, exactly, however many they are."""
    count = 1
    for size in shape:
        count *= int(size)
    return count


def output_shapes(
    node: ir.Node, inputs: Mapping[str, Array], opsets: Mapping[str, int]
) -> list[Optional[tuple[int, ...]]]:
    """Infers the shapes of what a node makes of known inputs; None where they are not known."""
    types = {
        name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    }
    data = {name: numpy_helper.from_array(array) for name, array in inputs.items() if array.size <= _SMALL}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get("", 1), "")
        found = shape_inference.infer_node_outputs(
            schema, ir.serde.serialize_node(node), types, data, opset_imports=imports
        )
    except Exception:  # an operator or a case that ONNX cannot infer
        return [None] * len(node.outputs)
    return [_sizes(found.get(str(value.name))) for value in node.outputs]


def _sizes(kind: Optional[onnx.TypeProto]) -> Optional[tuple[int, ...]]:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    known = all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)
    return tuple(dim.dim_value for dim in dims) if known else None


def _run(
    node: ir.Node, inputs: Mapping[str, Array], imports: Sequence[onnx.OperatorSetIdProto]
) -> Optional[list[Array]]:
    from onnx.reference import ReferenceEvaluator  # slow to import, and most models need it little

    given = [
        helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
        for name in dict.fromkeys(str(value.name) for value in node.inputs if value is not None)
    ]
    made = [
        helper.make_tensor_value_info(str(value.name), onnx.TensorProto.UNDEFINED, None)
        for value in node.outputs
        if value.name
    ]
    graph = helper.make_graph([ir.serde.serialize_node(node)], "node", given, made)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(helper.make_model(graph, opset_imports=list(imports))).run(None, dict(inputs))
    except Exception:  # not implemented there, or not for these types or numbers
        return None
    assert isinstance(results, list)
    return [np.asarray(result) for result in results]
