"""The layers of a graph: which nodes have filters, and where in the vendor's file their parameters live.

A *layer* is a Conv node. Its weight has the axes ``(out_channels, in_channels / group, *kernel)``: filter m is
``W[m]``, and it reads the input maps of its group. Only the main graph is searched; a node with a subgraph is opaque to
tracing, so nothing that it computes with can be retrained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional, Union

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from tgdonnx import wire
from tgdonnx.errors import ModelFileError
from tgdonnx.modelfile import ModelFile, StrPath, load_model

LAYER_OP_TYPES = frozenset({"Conv"})


@dataclass(frozen=True)
class Parameter:
    """A tensor of the vendor's file that a layer or a per-channel node computes with.

    Attributes:
        name: of the initializer, or of the output of the Constant node.
        path: where its TensorProto lies in the file.
        value: the value in the graph that carries it.
        tensor: its elements; read from disk when asked for.
    """

    name: str
    path: wire.FieldPath
    value: ir.Value = field(repr=False)
    tensor: ir.TensorProtocol = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        return tuple(dim for dim in self.tensor.shape if isinstance(dim, int))  # a tensor has no other

    @property
    def dtype(self) -> ir.DataType:
        """Its element type."""
        return self.tensor.dtype

    def numpy(self) -> NDArray[np.generic]:
        """Returns the elements, read-only."""
        view: NDArray[np.generic] = self.tensor.numpy().view()
        view.flags.writeable = False
        return view


@dataclass(frozen=True)
class Layer:
    """A node with filters.

    Attributes:
        index: its place in topological order among the layers.
        node: the node.
        name: the node's name, or its first output's when it has none.
        weight: its weight, or None when ``problem`` says why it cannot be had.
        bias: its bias, if it has one that is stored in the file.
        group: the number of groups.
        problem: why this layer can be neither scored nor retrained, or None.
    """

    index: int
    node: ir.Node = field(repr=False)
    name: str
    weight: Optional[Parameter]
    bias: Optional[Parameter]
    group: int
    problem: Optional[str]

    @property
    def op_type(self) -> str:
        """Its operator."""
        return self.node.op_type

    @property
    def filters(self) -> int:
        """The number of filters, which is the number of output maps."""
        return self.weight.shape[0] if self.weight else 0

    @property
    def maps(self) -> int:
        """The number of input maps, over all groups."""
        return self.weight.shape[1] * self.group if self.weight else 0


@dataclass(frozen=True)
class Network:
    """A model file with its graph opened for analysis.

    Attributes:
        file: the vendor's file.
        model: its graph, sorted topologically, with inferred shapes. For reading only.
    """

    file: ModelFile
    model: ir.Model = field(repr=False)

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    @cached_property
    def node_names(self) -> dict[ir.Node, str]:
        """The name of every node of the main graph: unique; a node without a name goes by its first output's name."""
        count = Counter(node.name for node in self.graph)
        return {
            node: node.name if node.name and count[node.name] == 1 else str(node.outputs[0].name)
            for node in self.graph
            if node.outputs
        }

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in topological order."""
        nodes = [node for node in self.graph if node.domain in ("", "ai.onnx") and node.op_type in LAYER_OP_TYPES]
        return tuple(self._layer(index, node) for index, node in enumerate(nodes))

    def parameter(self, value: Optional[ir.Value]) -> Union[Parameter, str]:
        """Finds the tensor in the file that ``value`` carries unchanged, or says why there is none."""
        while value is not None:
            producer = value.producer()
            tensor = ir.convenience.get_const_tensor(value)
            name = str(value.name)
            if name in self._places and tensor is not None:
                return Parameter(name, self._places[name], value, tensor)
            if producer is None:
                return f"{name!r} is an input of the model"
            if producer.op_type != "Identity":
                return f"{name!r} is computed by node {self.node_names.get(producer, producer.name)!r} ({producer.op_type})"
            value = producer.inputs[0]
        return "it is missing"

    @property
    def stored_parameters(self) -> Iterator[Parameter]:
        """Every tensor that is stored in the main graph."""
        values = [*self.graph.initializers.values(), *(value for node in self.graph for value in node.outputs)]
        for value in values:
            tensor = ir.convenience.get_const_tensor(value)
            if value.name in self._places and tensor is not None:
                yield Parameter(str(value.name), self._places[str(value.name)], value, tensor)

    @cached_property
    def _places(self) -> dict[str, wire.FieldPath]:
        """Where the TensorProto of every initializer and every Constant node of the main graph lies in the file."""
        graph = self.file.proto.graph
        places: dict[str, wire.FieldPath] = {
            tensor.name: ((wire.GRAPH, 0), (wire.INITIALIZER, index)) for index, tensor in enumerate(graph.initializer)
        }
        for index, node in enumerate(graph.node):
            if node.op_type == "Constant":
                for position, attribute in enumerate(node.attribute):
                    if attribute.name == "value":
                        places[node.output[0]] = (
                            (wire.GRAPH, 0),
                            (wire.NODE, index),
                            (wire.ATTRIBUTE, position),
                            (wire.ATTRIBUTE_TENSOR, 0),
                        )
        return places

    def _layer(self, index: int, node: ir.Node) -> Layer:
        name = self.node_names[node]
        group_attribute = node.attributes.get("group")
        group = group_attribute.as_int() if group_attribute is not None else 1
        weight = self.parameter(node.inputs[1])
        bias = self.parameter(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        problem = None
        if isinstance(weight, str):
            problem = f"its weight is not stored in the file: {weight}"
        elif len(weight.shape) < 3 or group < 1 or weight.shape[0] % group or 0 in weight.shape:
            problem = f"its weight {weight.name!r} has shape {list(weight.shape)}, which does not fit group = {group}"
        return Layer(
            index,
            node,
            name,
            None if isinstance(weight, str) or problem else weight,
            None if isinstance(bias, str) else bias,
            group,
            problem,
        )


def open_network(source: Union[StrPath, ModelFile]) -> Network:
    """Reads a model and prepares its graph for analysis.

    Shapes that the file declares for values inside the graph are ignored (vendors' files get them wrong); they are
    inferred again from the inputs.

    Raises:
        ModelFileError: the file is no model, is inconsistent, or has no layer.
    """
    file = source if isinstance(source, ModelFile) else load_model(source)
    _require_names(file)
    try:
        model = file.to_ir()
        passes.TopologicalSortPass()(model)
    except Exception as error:  # whatever onnx_ir meets in a damaged graph, the user's file is the cause
        cause = error.__cause__ or error
        raise ModelFileError(f"{file.path} holds an inconsistent graph: {cause}") from error
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    # Without data propagation and not strictly: an operator that onnx does not know leaves its shapes open.
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    network = Network(file, model)
    if not network.layers:
        raise ModelFileError(f"{file.path} has no layer to adapt: expected at least one Conv node in its main graph")
    return network


def _require_names(file: ModelFile) -> None:
    """Checks that whatever the nodes of the main graph read is there."""
    graph = file.proto.graph
    names = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    names.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        for name in node.input:
            if name not in names:
                raise ModelFileError(
                    f"node {node.name or node.output[0]!r} ({node.op_type}) of {file.path} reads {name!r}, which nothing makes"
                )


def static_shape(value: Optional[ir.Value]) -> Optional[tuple[Optional[int], ...]]:
    """Returns the shape as far as it is known: None for an unknown rank, and for each dimension that is not a number."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def opset_version(proto: onnx.ModelProto) -> int:
    """Returns the version of the default operator set that a model imports; 0 when it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
