"""ONNX's shape inference over a whole graph, in time and memory that grow with its nodes, not with its weights.

The pass of onnx_ir looks for every stored tensor in the list of the graph's inputs, so its time grows with the square of
their number; and it writes and parses every stored tensor of up to 1,000 bytes. Here inference is given the declarations of
all of them, and the elements of those alone that can be the argument of a shape operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Optional

import onnx
import onnx_ir as ir
from onnx import shape_inference

from tgdonnx.graphs.captured import inner_graphs

_ARGUMENT_BYTES = 1000


class InferShapes(ir.passes.InPlacePass):
    """Sets shapes and types of the values of a graph and its subgraphs, as far as ONNX can tell them.

    Some exporters declare a size of -1 where they mean that any goes: it becomes an open one.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass; if inference fails as a whole the model stays as it is."""
        _open_negative_sizes(model)
        try:
            inferred = shape_inference.infer_shapes(
                _declared(model), check_type=False, strict_mode=False, data_prop=True
            )
        except Exception:  # what it cannot take is refused, with a reason, by whoever needs the shapes
            return ir.passes.PassResult(model, modified=False)
        return ir.passes.PassResult(model, modified=_copy_inferred(model.graph, inferred.graph))


def _open_negative_sizes(model: ir.Model) -> None:
    for graph in model.graphs():
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.shape is not None and any(isinstance(size, int) and size < 0 for size in value.shape):
                value.shape = ir.Shape([None if isinstance(size, int) and size < 0 else size for size in value.shape])


def _declared(model: ir.Model) -> onnx.ModelProto:
    """Returns the model with its large stored tensors as inputs of the graph."""
    graph = model.graph
    inputs, stored = list(graph.inputs), dict(graph.initializers)
    given = set(inputs)
    for value in stored.values():
        if value.const_value is not None:
            value.shape = value.shape or ir.Shape(tuple(value.const_value.shape))  # type: ignore[arg-type]  # all numbers
            value.dtype = value.dtype or value.const_value.dtype
    large = [v for v in stored.values() if v.const_value is None or v.const_value.nbytes > _ARGUMENT_BYTES]
    try:
        graph.inputs.extend(value for value in stored.values() if value not in given)
        for value in large:
            del graph.initializers[str(value.name)]
        proto = ir.to_proto(model)
    finally:
        graph.initializers.clear()
        for value in stored.values():  # in their old order
            graph.initializers.add(value)
        del graph.inputs[len(inputs) :]
    _hand_down(proto.graph, {})
    return proto


def _hand_down(graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto]) -> None:
    """Gives graphs inside nodes the stored tensors that they read from outside: inference knows only a graph's own."""
    known = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        for inner in _graphs_in(node):
            own = {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
            read = dict.fromkeys(name for other in inner.node for name in other.input)
            inner.initializer.extend(known[name] for name in read if name in known and name not in own)
            _hand_down(inner, known)


def _copy_inferred(graph: ir.Graph, inferred: onnx.GraphProto) -> bool:
    """Gives the values of a graph, and of those inside its nodes, what was inferred of them; returns whether any changed."""
    found = {info.name: info.type for info in (*inferred.value_info, *inferred.input, *inferred.output)}
    modified = False
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    for value in values:
        told = found.get(str(value.name))
        if told is None:
            continue
        shape, dtype = _shape_unlike(value.shape, told), _dtype(told)
        if shape is not None:
            value.shape, modified = shape, True
        if dtype is not None and value.dtype != dtype:
            value.dtype, modified = dtype, True
    for node, proto in zip(graph, inferred.node):
        for inner, other in zip(inner_graphs(node), _graphs_in(proto)):
            modified |= _copy_inferred(inner, other)
    return modified


def _shape_unlike(shape: Optional[ir.Shape], told: onnx.TypeProto) -> Optional[ir.Shape]:
    """Returns the shape that a type has; None where it has none, or the same."""
    if shape is not None and told.HasField("tensor_type") and told.tensor_type.HasField("shape"):
        sizes = told.tensor_type.shape.dim
        # Shapes of numbers alone, which are most, are compared without making one.
        if len(sizes) == len(shape) and all(
            isinstance(own, int) and size.HasField("dim_value") and size.dim_value == own
            for own, size in zip(shape, sizes)
        ):
            return None
    new = ir.serde.deserialize_type_proto_for_shape(told)
    return None if new is None or new == shape else new


def _dtype(told: onnx.TypeProto) -> Optional[ir.DataType]:
    if told.HasField("tensor_type"):
        kind = told.tensor_type.elem_type
        return ir.DataType(kind) if kind else None
    other = ir.serde.deserialize_type_proto_for_type(told)
    return None if other is None else other.dtype


def _graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the graphs inside a node, in the order of `inner_graphs`."""
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
