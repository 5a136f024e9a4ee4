"""How long every axis is, and what the small integer tensors hold that shapes are computed with.

Which filters made a map does not depend on how large the image is. So every size that a model leaves open is set to some
number, and shapes are inferred node by node with all numbers known. Where a model computes a shape (Shape, Gather, Concat,
Reshape ...), the few integers are computed with ONNX's reference implementation; then Reshape, Slice or Resize have
definite arguments, whatever they looked like in the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from tgdonnx import bounds
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.evaluation import elements, evaluate, shape_content
from tgdonnx.graphs.operators import CONVOLUTIONS, is_standard
from tgdonnx.layers.conv_transpose_pads import explicit_pads, write_pads
from tgdonnx.layers.refusals import Inference, Refusal, is_certain

Shape = tuple[int, ...]

# Tried in turn for sizes that are left open, until every node gets a shape; the first of each pair is for the batch, the
# second for everything else. Small ones are quick; large ones let deep stacks of strided layers keep at least one pixel.
_STAND_INS = ((1, 64), (1, 224), (2, 640), (1, 48), (1, 1024), (1, 16384))


@dataclass(frozen=True)
class Sizes:
    """What is known of the values of a graph.

    Attributes:
        shapes: of each value, all numbers; values of unknown shape are left out.
        contents: of values that do not depend on the data: constants and computed shapes, if they are small.
        unknown: how many nodes got no shape.
        refused: nodes that cannot be as they are, whatever the sizes that the model leaves open, and why ONNX says so.
        has_stand_ins: whether the model leaves sizes open, so that shapes are only examples.
    """

    shapes: Mapping[ir.Value, Shape] = field(repr=False)
    contents: Mapping[ir.Value, NDArray[Any]] = field(repr=False)
    unknown: int
    has_stand_ins: bool
    refused: Mapping[ir.Node, str] = field(default_factory=dict, repr=False)

    def of_copy(self, values: Mapping[ir.Value, ir.Value], nodes: Mapping[ir.Node, ir.Node]) -> Sizes:
        """Returns what is known of a copy of the graph, given what each value and node of the graph is there."""
        return replace(
            self,
            shapes={values[value]: shape for value, shape in self.shapes.items() if value in values},
            contents={values[value]: content for value, content in self.contents.items() if value in values},
            refused={nodes[node]: why for node, why in self.refused.items() if node in nodes},
        )


def infer_sizes(graph: ir.Graph, opsets: Mapping[str, int]) -> Sizes:
    """Infers the size of every value of a graph and its subgraphs, with stand-ins for open ones.

    Args:
        graph: sorted topologically.
        opsets: the operator sets that the model imports.
    """
    best: Optional[Sizes] = None
    refused: list[Mapping[ir.Node, Refusal]] = []
    for batch, other in _STAND_INS:
        sizes, refusals = _infer(graph, opsets, batch, other)
        refused.append(refusals)
        if best is None or sizes.unknown < best.unknown:
            best = sizes
        if not best.unknown or not best.has_stand_ins:
            break
    assert best is not None
    always = {node: [each[node] for each in refused] for node in refused[0] if all(node in each for each in refused)}
    return replace(best, refused={node: each[0].why for node, each in always.items() if is_certain(each)})


def _is_open(graph: ir.Graph) -> bool:
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    return any(v.shape is None or any(not _is_size(d) for d in v.shape) for v in inputs)


def _is_size(dim: object) -> bool:
    # Some exporters write -1 for an open dimension.
    return isinstance(dim, int) and dim > 0


def _infer(
    graph: ir.Graph, opsets: Mapping[str, int], batch: int, other: int
) -> tuple[Sizes, Mapping[ir.Node, Refusal]]:
    walk = _Walk(opsets)
    for value in graph.inputs:
        if value.shape is not None and value.name not in graph.initializers:
            shape = tuple(d if _is_size(d) else (batch if axis == 0 else other) for axis, d in enumerate(value.shape))
            walk.set(value, tuple(int(d) for d in shape), value.dtype)  # type: ignore[arg-type]  # all numbers by now
    walk.graph(graph)
    return Sizes(walk.shapes, walk.contents, walk.unknown, _is_open(graph)), walk.refused


class _Walk:
    """One pass over the nodes."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.shapes: dict[ir.Value, Shape] = {}
        self.contents: dict[ir.Value, NDArray[Any]] = {}
        self.unknown = 0
        self.refused: dict[ir.Node, Refusal] = {}
        self._dtypes: dict[ir.Value, ir.DataType] = {}
        self._opsets = {("" if domain == "ai.onnx" else domain): version for domain, version in opsets.items()}
        self._imports = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]

    def set(self, value: ir.Value, shape: Shape, dtype: Optional[ir.DataType]) -> None:
        self.shapes[value] = shape
        self._dtypes[value] = dtype or ir.DataType.FLOAT

    def graph(self, graph: ir.Graph) -> None:
        for value in graph.initializers.values():
            if value.uses() or value.is_graph_output():
                self._constant(value, value.const_value)
        for node in graph:
            for subgraph in inner_graphs(node):
                self.graph(subgraph)
            self._node(node)

    def _constant(self, value: ir.Value, tensor: Optional[ir.TensorProtocol]) -> None:
        if tensor is None:
            return
        shape = tuple(d for d in tensor.shape if isinstance(d, int))
        self.set(value, shape, tensor.dtype)
        if elements(shape) <= bounds.SHAPE_ELEMENTS and tensor.dtype != ir.DataType.STRING:
            with contextlib.suppress(OSError, ValueError):  # external data that is not there: a weight, not a shape
                self.contents[value] = np.array(tensor.numpy())  # a copy: the file must not stay open

    def _node(self, node: ir.Node) -> None:
        if is_standard(node, "Constant"):
            self._constant(node.outputs[0], ir.convenience.get_const_tensor(node.outputs[0]))
            return
        if is_standard(node, "Shape"):
            self._shape(node)
            return
        if is_standard(node, "If"):
            self._if(node)
            return
        self._outputs(node)
        if any(v is not None for v in node.inputs) and all(v is None or v in self.contents for v in node.inputs):
            self._evaluate(node)

    def _shape(self, node: ir.Node) -> None:
        shape = self.shapes.get(node.inputs[0]) if node.inputs[0] is not None else None
        if shape is None:
            self.unknown += 1
            return
        content = shape_content(node, shape)
        assert content is not None
        self.contents[node.outputs[0]] = content
        self.set(node.outputs[0], content.shape, ir.DataType.INT64)

    def _if(self, node: ir.Node) -> None:
        branches = inner_graphs(node)
        for index, output in enumerate(node.outputs):
            shapes = {self.shapes.get(branch.outputs[index]) for branch in branches}
            shape = shapes.pop() if len(shapes) == 1 else None
            if shape is not None:
                self.set(output, shape, self._dtypes.get(branches[0].outputs[index]))

    def _outputs(self, node: ir.Node) -> None:
        """Infers the shapes of a node's outputs with ONNX's own inference."""
        shapes: dict[str, Shape] = {}
        contents: dict[str, NDArray[Any]] = {}
        dtypes: dict[str, ir.DataType] = {}
        for value in node.inputs:
            if value is None:
                continue
            shape = self.shapes.get(value)
            if shape is None:
                self.unknown += 1
                return
            shapes[str(value.name)], dtypes[str(value.name)] = shape, self._dtypes[value]
            if value in self.contents:
                contents[str(value.name)] = self.contents[value]
        infer = self._inference(node, dtypes)
        try:
            inferred = infer(shapes, contents)
        except shape_inference.InferenceError as error:  # it cannot be, as far as ONNX sees
            why = str(error).strip().rpartition("] ")[2].partition("\n")[0]
            self.refused[node] = Refusal(why, infer, shapes, contents)
            self.unknown += 1
            return
        except Exception:  # an operator or a case that ONNX cannot infer: it stays unknown
            self.unknown += 1
            return
        if not self._convolves(node):
            self.refused[node] = Refusal("the weight has another number of axes than what it is applied to")
            self.unknown += 1
            return
        complete = True
        for output in node.outputs:
            result = inferred[str(output.name)].tensor_type if output.name in inferred else None
            if result is not None and result.HasField("shape") and all(_has_size(d) for d in result.shape.dim):
                dtype = ir.DataType(result.elem_type)
                self.set(output, tuple(d.dim_value for d in result.shape.dim), dtype)
            elif output.name:
                complete = False
        self.unknown += not complete

    def _inference(self, node: ir.Node, dtypes: Mapping[str, ir.DataType]) -> Inference:
        """Returns what infers the outputs of a node from the shapes and contents of its inputs; it raises what ONNX raises."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        spelled = self._spelled(node)

        def infer(
            shapes: Mapping[str, Sequence[Optional[int]]], contents: Mapping[str, NDArray[Any]]
        ) -> Mapping[str, onnx.TypeProto]:
            schema = onnx.defs.get_schema(node.op_type, self._opsets.get(domain, 1), domain)
            types = {name: helper.make_tensor_type_proto(dtypes[name], shape) for name, shape in shapes.items()}
            data = {name: numpy_helper.from_array(array) for name, array in contents.items()}
            found: Mapping[str, onnx.TypeProto] = shape_inference.infer_node_outputs(
                schema, ir.serde.serialize_node(spelled), types, data, opset_imports=self._imports
            )
            return found

        return infer

    def _convolves(self, node: ir.Node) -> bool:
        """Whether a convolution has a weight with as many axes as its input: inference reads beyond the end of one."""
        if not is_standard(node, CONVOLUTIONS):
            return True
        shapes = [self.shapes[value] for value in node.inputs[:2] if value is not None]
        return len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) >= 3

    def _spelled(self, node: ir.Node) -> ir.Node:
        """Returns a ConvTranspose as inference reads it rightly, and any other node as it is."""
        kernel = self.shapes.get(node.inputs[1], ())[2:] if len(node.inputs) > 1 and node.inputs[1] is not None else ()
        if node.op_type != "ConvTranspose" or not explicit_pads(node, kernel):
            return node
        copy = ir.node("ConvTranspose", [ir.Value(name=v.name) if v is not None else None for v in node.inputs])
        copy.attributes.update(node.attributes)
        copy.outputs[0].name = node.outputs[0].name
        write_pads(copy, kernel)
        return copy

    def _evaluate(self, node: ir.Node) -> None:
        """Computes a node whose inputs are known, if what it makes is small."""
        feeds = {str(v.name): self.contents[v] for v in node.inputs if v is not None}
        shapes = [self.shapes.get(value) for value in node.outputs]
        results = evaluate(node, feeds, self._opsets, bounds.SHAPE_ELEMENTS, shapes)
        for value, result in zip((v for v in node.outputs if v.name), results or ()):
            if result.size <= bounds.SHAPE_ELEMENTS:
                self.contents[value] = result
                self.set(value, result.shape, ir.DataType.from_numpy(result.dtype))


def _has_size(dim: onnx.TensorShapeProto.Dimension) -> bool:
    # Inference lets strided layers shrink an image below nothing.
    return bool(dim.HasField("dim_value")) and dim.dim_value >= 0
