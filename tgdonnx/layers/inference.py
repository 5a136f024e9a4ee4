"""ONNX's shape inference over a whole graph, in time and memory that grow with its nodes, not with its weights.

The pass of onnx_ir looks for every stored tensor in the list of the graph's inputs, so its time grows with the square of
their number; and it writes and parses every stored tensor of up to 1,000 bytes. Here inference is given the declarations of
all of them, and the elements of those alone that can be the argument of a shape operation.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx import shape_inference

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
        return ir.passes.PassResult(model, modified=_copy_inferred(model, inferred))


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
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                own = {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
                read = dict.fromkeys(name for other in inner.node for name in other.input)
                inner.initializer.extend(known[name] for name in read if name in known and name not in own)
                _hand_down(inner, known)


def _copy_inferred(model: ir.Model, inferred: onnx.ModelProto) -> bool:
    modified = False
    for graph, other in zip(model.graphs(), ir.from_proto(inferred).graphs()):
        found = ir.convenience.create_value_mapping(other)
        for name, value in ir.convenience.create_value_mapping(graph).items():
            told = found.get(name)
            if told is None:
                continue
            if told.shape is not None and value.shape != told.shape:
                value.shape, modified = told.shape, True
            if told.dtype is not None and value.dtype != told.dtype:
                value.dtype, modified = told.dtype, True
    return modified
