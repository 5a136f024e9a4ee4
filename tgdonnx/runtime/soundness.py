"""What makes ONNX Runtime end the process, or reach beyond its memory, where it should raise.

It is looked for before a session is made.

Every check is for something that was seen: with onnxruntime-training 1.19.2, whose definitions of operators are those of 2024
and check less, and some with 1.32, too. What the runtime refuses by itself it is left to refuse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files.tensors import describe, walk_tensors
from tgdonnx.runtime.arguments import PROBLEMS
from tgdonnx.runtime.control_flow import if_problems, loop_problems, scan_problems
from tgdonnx.runtime.node_protos import NodeProtoView, Shape
from tgdonnx.runtime.weightless import with_shapes, without_weights
from tgdonnx.runtime.windows import WINDOWED, window_problems

_T = onnx.TensorProto
_INT32 = 2**31
_SMALL = 1024  # elements; larger tensors are arguments of no operator
_MOST_DENSE = 2**31  # bytes of a sparse tensor that is written out
_ONNX = ("", "ai.onnx")
_BODIES = {"If": if_problems, "Loop": loop_problems, "Scan": scan_problems}
Arrays = Mapping[str, NDArray[Any]]


def require_sound(model: onnx.ModelProto, what: str = "the model") -> None:
    """Checks that a model has none of what crashes the runtime.

    Args:
        model: a model; it stays as it is. Data that is external is not looked at.
        what: what messages call it.

    Raises:
        ModelFileError: it has; the message names the node or tensor.
    """
    problem = next(_problems(model), None)
    if problem is not None:
        raise ModelFileError(
            f"ONNX Runtime cannot run {what} safely: {problem.text}",
            remedy="export the model again",
            node=problem.node,
            op_type=problem.op_type,
        )


@dataclass(frozen=True)
class _Problem:
    """What is wrong, and the node that it is about, if it is about one."""

    text: str
    node: str = ""
    op_type: str = ""


def _problems(model: onnx.ModelProto) -> Iterator[_Problem]:
    # Each of these is relied upon by what follows.
    for found in (_version_problems, _tensor_problems, _calls_in_a_circle, _sparse_problems):
        yield from map(_Problem, found(model))
    weightless = without_weights(model)
    yield from _node_problems(weightless)
    # Not before: the inference of shapes, too, relies on some of what has been looked at by now.
    inferred = with_shapes(weightless)
    if inferred is not None:
        yield from _node_problems(inferred)


def _node_problems(weightless: onnx.ModelProto) -> Iterator[_Problem]:
    for imports, graph in ((weightless.opset_import, weightless.graph), *_bodies(weightless)):
        opsets = {("" if entry.domain in _ONNX else entry.domain): entry.version for entry in imports}
        yield from _graph_problems(graph, {}, {}, opsets)


def _bodies(model: onnx.ModelProto) -> Iterator[tuple[Iterable[onnx.OperatorSetIdProto], onnx.GraphProto]]:
    """Yields the functions that nobody could put in the place of their calls, as graphs."""
    for function in model.functions:
        yield function.opset_import, onnx.GraphProto(node=function.node)


def _version_problems(model: onnx.ModelProto) -> Iterator[str]:
    for entry in (entry for holder in (model, *model.functions) for entry in holder.opset_import):
        if not 0 <= entry.version < _INT32:
            yield f"it imports version {entry.version} of the operator set {entry.domain or 'ai.onnx'!r}"


def _tensor_problems(model: onnx.ModelProto) -> Iterator[str]:
    for tensor in walk_tensors(model):
        proto = tensor.proto
        if proto.data_type not in _T.DataType.values() or proto.data_type == _T.UNDEFINED:
            yield f"{describe(model, tensor.path)} is of the data type {proto.data_type}, which there is not"
        elif any(size < 0 for size in proto.dims):
            yield f"{describe(model, tensor.path)} has a negative size: {list(proto.dims)}"
        elif proto.HasField("raw_data") and not tensor.is_external and len(proto.raw_data) != tensor.nbytes:
            yield (
                f"{describe(model, tensor.path)} has {len(proto.raw_data):,} bytes; "
                f"expected {tensor.nbytes:,} for {list(proto.dims)}"
            )


def _calls_in_a_circle(model: onnx.ModelProto) -> Iterator[str]:
    """Functions are put in the place of their calls; that of one that calls itself has no end, and the stack overflows."""
    functions = {(function.domain, function.name): function for function in model.functions}
    calls = {
        key: [each for each in {(node.domain, node.op_type) for node in _all_nodes(function.node)} if each in functions]
        for key, function in functions.items()
    }
    done: set[tuple[str, str]] = set()
    for start in calls:
        path, pending = [start], [iter(calls[start])]
        while pending:
            inner = next(pending[-1], None)
            if inner is None:
                pending.pop()
                done.add(path.pop())
            elif inner in path:
                yield f"its function {inner[1]!r} calls itself"
                return
            elif inner not in done:
                path.append(inner)
                pending.append(iter(calls[inner]))


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in _inner(node):
            yield from _all_nodes(graph.node)


def _inner(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _graph_problems(
    graph: onnx.GraphProto, shapes: Mapping[str, Shape], constants: Arrays, opsets: Mapping[str, int]
) -> Iterator[_Problem]:
    """Yields what is wrong in a graph and below; ``shapes`` and ``constants`` are those of the graphs around it."""
    shapes, constants = {**shapes, **_shapes(graph)}, {**constants, **_constants(graph)}
    for node in graph.node:
        domain = "" if node.domain in _ONNX else node.domain
        view = NodeProtoView(node, opsets.get(domain, 1), shapes, constants)
        problems = [*_gaps(view, domain)]
        if node.op_type in WINDOWED:
            problems += window_problems(view)
        if node.op_type in PROBLEMS:
            problems += PROBLEMS[node.op_type](view)
        if domain == "" and node.op_type in _BODIES:
            problems += _BODIES[node.op_type](view)
        for problem in problems:
            yield _Problem(f"{view.label} {problem}", view.name, node.op_type)
        for inner in _inner(node):
            yield from _graph_problems(inner, shapes, constants, opsets)


def _gaps(view: NodeProtoView, domain: str) -> Iterator[str]:
    """What must be there and is left out is a null pointer to the kernel: inputs, and outputs of Split and Loop."""
    for kind, names, needed in zip(
        ("input", "output"), (view.node.input, view.node.output), _needed(view.node.op_type, view.opset, domain)
    ):
        for index, name in enumerate(names):
            if not name and needed and needed[min(index, len(needed) - 1)]:
                yield f"leaves out its {kind} {index}, which has to be there"


@cache
def _needed(op_type: str, opset: int, domain: str) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Returns for the inputs and the outputs of an operator whether they have to be there; the last goes for all behind it."""
    if not onnx.defs.has(op_type, domain=domain, max_inclusive_version=opset):
        return (), ()
    schema = onnx.defs.get_schema(op_type, opset, domain)
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    inputs, outputs = (tuple(f.option != optional for f in formal) for formal in (schema.inputs, schema.outputs))
    return inputs, outputs if op_type != "If" else ()  # unused outputs of which go well


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            dims = kind.shape.dim
            shapes[value.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims
            )
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer)
    shapes.update((sparse.values.name, tuple(sparse.dims)) for sparse in graph.sparse_initializer)
    for node in graph.node:
        value = _value(node)
        if value is not None:
            shapes[node.output[0]] = tuple(value.dims)
    return shapes


def _constants(graph: onnx.GraphProto) -> dict[str, NDArray[Any]]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        value = _value(node)
        if value is not None:
            tensors[node.output[0]] = value
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if tensor.data_type in (_T.INT64, _T.INT32) and math.prod(tensor.dims) <= _SMALL and _is_here(tensor)
    }


def _value(node: onnx.NodeProto) -> Optional[onnx.TensorProto]:
    if node.op_type != "Constant" or node.domain not in _ONNX or not node.output:
        return None
    return next(
        (attribute.t for attribute in node.attribute if attribute.name == "value" and attribute.HasField("t")), None
    )


def _is_here(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor holds as many numbers as it says; what does not is refused by the runtime."""
    if tensor.data_location == _T.EXTERNAL or any(size < 0 for size in tensor.dims):
        return False
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        return bool(len(tensor.raw_data) == count * (8 if tensor.data_type == _T.INT64 else 4))
    return bool(len(tensor.int64_data if tensor.data_type == _T.INT64 else tensor.int32_data) == count)


def _sparse_problems(model: onnx.ModelProto) -> Iterator[str]:
    bodies = (model.graph, *(graph for _, graph in _bodies(model)))
    for graph in bodies:
        for sparse, label in _sparse_tensors(graph):
            problem = _sparse_problem(sparse)
            if problem is not None:
                yield f"the sparse tensor {label} {problem}"


def _sparse_tensors(graph: onnx.GraphProto) -> Iterator[tuple[onnx.SparseTensorProto, str]]:
    yield from ((sparse, repr(sparse.values.name)) for sparse in graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            many = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            yield from (
                (sparse, f"of {NodeProtoView(node, 0, {}, {}).label}") for sparse in (*many, *attribute.sparse_tensors)
            )
        for inner in _inner(node):
            yield from _sparse_tensors(inner)


def _sparse_problem(sparse: onnx.SparseTensorProto) -> Optional[str]:
    """A sparse tensor is written out at its indices without a look at where they lead."""
    values, indices, dims = sparse.values, sparse.indices, tuple(sparse.dims)
    if not dims or any(size < 1 for size in dims) or math.prod(dims) * 8 > _MOST_DENSE:
        return f"has the shape {list(dims)}; expected sizes from 1 on, and at most {_MOST_DENSE // 8:,} elements"
    if indices.data_type != _T.INT64 or _T.EXTERNAL in (indices.data_location, values.data_location):
        return (
            "has indices or values that cannot be looked at; expected indices of type int64, and all of it in the file"
        )
    count = values.dims[0] if len(values.dims) == 1 else -1
    if tuple(indices.dims) not in ((count,), (count, len(dims))) or not _is_here(indices) or not _has(values, count):
        found = f"values of shape {list(values.dims)} and indices of {list(indices.dims)}"
        return f"has {found}; expected as many, and as much data"
    places = numpy_helper.to_array(indices)
    limits = np.array([math.prod(dims)] if places.ndim == 1 else dims)
    places = places.reshape(count, len(limits))
    if count and not ((places >= 0) & (places < limits)).all():
        return f"has indices outside of its shape {list(dims)}"
    if count > 1:
        flat = np.ravel_multi_index(tuple(places.T), tuple(int(limit) for limit in limits))
        if not (np.diff(flat) > 0).all():
            return "has indices that are not in ascending order"
    return None


def _has(tensor: onnx.TensorProto, count: int) -> bool:
    """Whether a tensor has data for so many elements."""
    try:
        return int(numpy_helper.to_array(tensor).size) == count
    except (ValueError, TypeError, KeyError):
        return False
