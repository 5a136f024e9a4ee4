"""A model file with its graph opened for analysis: its nodes, its layers, its parameters."""

from __future__ import annotations

import copy
import os
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

from tgdonnx import bounds
from tgdonnx.errors import IntegerArithmeticError, ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile, StrPath, load_model
from tgdonnx.files.tensors import describe, walk_tensors
from tgdonnx.graphs.operators import (
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    STANDARD_DOMAINS,
    is_integer_arithmetic,
    is_standard,
)
from tgdonnx.layers.consistency import require_consistent
from tgdonnx.layers.extents import require_extents
from tgdonnx.layers.layouts import ConvLayout, ConvTransposeLayout, Layout, MatrixLayout
from tgdonnx.layers.parameters import Parameter, find_parameter
from tgdonnx.layers.quantization import INTEGER_REMEDY, TRAINABLE_INTEGERS
from tgdonnx.layers.sizes import Sizes, infer_sizes


@dataclass(frozen=True)
class Obstacle:
    """Why the numbers in a stored tensor cannot train.

    Attributes:
        problem: to be read after the tensor's name.
        remedy: what would help.
    """

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


@dataclass(frozen=True)
class Layer:
    """A node with filters: Conv, ConvTranspose, or a Gemm or MatMul with a stored matrix.

    Attributes:
        index: its place in topological order among the layers.
        node: the node.
        name: the node's name, or its first output's when it has none.
        weight: its weight; None when it cannot be had.
        bias: its bias, if it has one that is stored in the file.
        layout: where in the weight filters and kernels are. How many elements each map of a Gemm or MatMul has is known
            after tracing; until then it is one.
        filters: the number of filters, which is the number of output maps.
        maps: the number of input maps, over all groups.
        problem: why its input maps cannot be scored, or None. Its filters can be retrained all the same if it has a weight.
    """

    index: int
    node: ir.Node = field(repr=False)
    name: str
    weight: Optional[Parameter]
    bias: Optional[Parameter]
    layout: Layout
    filters: int
    maps: int
    problem: Optional[str]

    @property
    def op_type(self) -> str:
        """Its operator."""
        return self.node.op_type

    @property
    def group(self) -> int:
        """The number of groups."""
        return self.layout.group


@dataclass(frozen=True)
class Network:
    """A model file with its graph opened for analysis.

    Attributes:
        file: the vendor's file.
        model: its graph, sorted topologically, functions inlined. For reading only.
        places: where in the file the TensorProto of every initializer and Constant node lies.
    """

    file: ModelFile
    model: ir.Model = field(repr=False)
    places: dict[ir.Value, wire.FieldPath] = field(repr=False)

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    def clone(self) -> Network:
        """Returns the same with a graph of its own, which may be edited; tensors are shared."""
        model = self.model.clone()
        copies = dict(zip(_values(self.model), _values(model)))
        for value in copies.values():
            value.type = copy.copy(value.type)  # a clone of onnx_ir's shares it, and a dtype is set in it
        return Network(
            self.file, model, {copies[value]: path for value, path in self.places.items() if value in copies}
        )

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of all values, with stand-ins for those that the model leaves open."""
        return infer_sizes(self.graph, self.graph.opset_imports)

    @cached_property
    def node_names(self) -> dict[ir.Node, str]:
        """The name of every node: unique; a node without a name of its own goes by its first output's name."""
        nodes = [node for node in self.graph.all_nodes() if node.outputs]
        count = Counter(name for node in nodes for name in {node.name, node.outputs[0].name})
        names: dict[ir.Node, str] = {}
        taken: set[str] = set()
        for node in nodes:
            first = str(node.outputs[0].name)
            name = own = node.name if node.name and count[node.name] == 1 else first
            copies = 1
            while name in taken:  # the branches of an If may use the same names
                copies += 1
                name = f"{own}#{copies}"
            taken.add(name)
            names[node] = name
        return names

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in topological order, those in subgraphs included."""
        found: list[Layer] = []
        for node in self.graph.all_nodes():
            layer = self._layer(len(found), node) if is_standard(node) else None
            if layer is not None:
                found.append(layer)
        return tuple(found)

    def parameter(self, value: Optional[ir.Value]) -> Union[Parameter, str]:
        """Finds the stored tensor behind a value, or says why there is none."""
        found = find_parameter(value, self.places, self.sizes, lambda node: self.node_names.get(node, str(node.name)))
        if isinstance(found, Parameter) and self._stored_names[found.name] > 1:
            return f"{found.name!r} is the name of several tensors in the file"
        return found

    @cached_property
    def stored_parameters(self) -> dict[str, Parameter]:
        """Every tensor that is stored in the graph or in a subgraph under a name of its own."""
        parameters = {}
        for value, path in self.places.items():
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is not None and self._stored_names[str(value.name)] == 1:
                parameters[str(value.name)] = Parameter(str(value.name), path, value, tensor)
        return parameters

    @cached_property
    def dequantized(self) -> dict[str, tuple[Parameter, ...]]:
        """Every integer tensor that stands for real numbers, as each DequantizeLinear that reads it gives them."""
        found: dict[str, tuple[Parameter, ...]] = {}
        for node in self.graph.all_nodes():
            if is_standard(node, "DequantizeLinear"):
                parameter = self.parameter(node.outputs[0])
                if isinstance(parameter, Parameter) and parameter.quantization is not None:
                    found[parameter.name] = (*found.get(parameter.name, ()), parameter)
        return found

    def why_untrainable(self, name: str) -> Optional[Obstacle]:
        """Says why the numbers in a stored tensor cannot train; None if they can. To be read after its name."""
        parameter = self.stored_parameters[name]
        readers = self.dequantized.get(name, ())
        if not parameter.dtype.is_floating_point() and (parameter.dtype not in TRAINABLE_INTEGERS or not readers):
            return Obstacle(
                f"is {parameter.dtype.name}",
                "training handles floating-point weights, and integers of 8, 16 or 32 bits behind DequantizeLinear",
            )
        if not all(reader.same_numbers(readers[0]) for reader in readers):
            return Obstacle("is dequantised in several ways", "store it once for each")
        if not isinstance(parameter.tensor, ir.ExternalTensor):
            spans = wire.locate_elements(self.file.data, self._spans[parameter.path], parameter.itemsize)
            if sum(map(len, spans)) != int(np.prod(parameter.shape)) * parameter.itemsize:
                return Obstacle("is stored as numbers of varying length", "save the model again, with raw data")
        elif name in self._overlapping:
            place, other = parameter.tensor.location, self._overlapping[name]
            return Obstacle(
                f"lies in the same bytes of {os.fspath(place)!r} as {other!r}",
                "save the model again with onnx.save, which stores each on its own",
            )
        return None

    @cached_property
    def computed_kernels(self) -> dict[str, int]:
        """By the names of layers whose weight is computed from stored tensors, how many elements it has."""
        depends = set(self.graph.inputs) - set(self.graph.initializers.values())
        for node in self.graph.all_nodes():
            if any(value in depends for value in node.inputs):
                depends.update(node.outputs)
        found = {}
        for layer in self.layers:
            kernel = layer.node.inputs[1] if layer.weight is None and len(layer.node.inputs) > 1 else None
            if kernel is not None and kernel not in depends and kernel in self.sizes.shapes:
                found[layer.name] = int(np.prod(self.sizes.shapes[kernel], dtype=np.int64))
        return found

    @cached_property
    def _overlapping(self) -> dict[str, str]:
        """For the names of tensors that share bytes of an external file with another tensor what that one is called."""
        names = {path: str(value.name) for value, path in self.places.items()}
        extents = sorted(
            (os.path.normpath(tensor.location), place.offset, place.offset + tensor.nbytes, name)
            for tensor in walk_tensors(self.file.proto)
            if tensor.is_external
            for place in [tensor.external]
            for name in [names.get(tensor.path, describe(self.file.proto, tensor.path))]
        )
        found: dict[str, str] = {}
        # By place and begin: whoever shares bytes with an earlier tensor does so with the one of these that ends last.
        last = ("", 0, 0, "")
        for extent in extents:
            if extent[0] == last[0] and extent[1] < last[2]:
                found[extent[3]] = last[3]
                found.setdefault(last[3], extent[3])
            last = max(last, extent, key=lambda each: (each[0], each[2]))
        return found

    def filter_index(self, name: str) -> NDArray[np.int64]:
        """Returns which filter each element of a stored tensor belongs to, as an array that broadcasts against it.

        Args:
            name: the weight of a layer, or a tensor with one number per filter.
        """
        for layer in self.layers:
            if layer.weight is not None and layer.weight.name == name:
                return layer.weight.restore(layer.layout.restore(np.arange(layer.filters).reshape(-1, 1)))
        shape = self.stored_parameters[name].shape
        own_axis = int(np.argmax(shape)) if shape else -1
        return np.arange(max(shape, default=1)).reshape([-1 if a == own_axis else 1 for a in range(len(shape))])

    @cached_property
    def _spans(self) -> dict[wire.FieldPath, wire.Span]:
        """Where the TensorProto of every stored tensor lies in the file."""
        return wire.locate(self.file.data, [parameter.path for parameter in self.stored_parameters.values()])

    @cached_property
    def _stored_names(self) -> Counter[str]:
        return Counter(str(value.name) for value in self.places)

    def _layer(self, index: int, node: ir.Node) -> Optional[Layer]:
        if node.op_type in CONVOLUTIONS:
            return self._convolution(index, node)
        if node.op_type in MATRIX_PRODUCTS:
            return self._matrix_product(index, node)
        return None

    def _convolution(self, index: int, node: ir.Node) -> Layer:
        group = node.attributes["group"].as_int() if "group" in node.attributes else 1
        weight = self.parameter(node.inputs[1] if len(node.inputs) > 1 else None)
        if isinstance(weight, str):
            problem = f"its weight is not stored in the file: {weight}"
            return Layer(index, node, self.node_names[node], None, None, ConvLayout(0, group), 0, 0, problem)
        shape = weight.read_shape
        if len(shape) < 3 or group < 1 or shape[0] % group or 0 in shape:
            problem = f"its weight {weight.name!r} has shape {list(shape)}, which does not fit group = {group}"
            return Layer(index, node, self.node_names[node], None, None, ConvLayout(0, group), 0, 0, problem)
        if max(shape[0], shape[1] * group) > bounds.MAPS:
            problem = (
                f"its weight {weight.name!r} has shape {list(shape)}; expected at most {bounds.MAPS:,} filters and maps"
            )
            return Layer(index, node, self.node_names[node], None, None, ConvLayout(0, group), 0, 0, problem)
        layout: Layout = ConvLayout(len(shape), group)
        filters, maps = shape[0], shape[1] * group
        if node.op_type == "ConvTranspose":
            layout = ConvTransposeLayout(shape, group)
            filters, maps = maps, filters
        bias = self._bias(node, filters)
        return Layer(index, node, self.node_names[node], weight, bias, layout, filters, maps, None)

    def _matrix_product(self, index: int, node: ir.Node) -> Optional[Layer]:
        """A product of two activations is no layer, nor is one whose stored matrix comes first."""
        weight = self.parameter(node.inputs[1])
        if isinstance(weight, str) or len(weight.read_shape) != 2 or 0 in weight.read_shape:
            return None
        if max(weight.read_shape) > bounds.MAPS:
            return None
        if not isinstance(self.parameter(node.inputs[0]), str):
            return None  # constants on both sides
        transposed = {
            name: bool(node.attributes[name].as_int()) for name in ("transA", "transB") if name in node.attributes
        }
        if transposed.get("transA"):
            return None
        filters_first = transposed.get("transB", False)
        filters, length = weight.read_shape if filters_first else weight.read_shape[::-1]
        layout = MatrixLayout(filters_first, 1)
        bias = self._bias(node, filters)
        return Layer(index, node, self.node_names[node], weight, bias, layout, filters, length, None)

    def _bias(self, node: ir.Node, filters: int) -> Optional[Parameter]:
        bias = self.parameter(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else ""
        fits = isinstance(bias, Parameter) and bias.read_shape in ((filters,), (1, filters))
        return bias if isinstance(bias, Parameter) and fits else None


def open_network(source: Union[StrPath, ModelFile]) -> Network:
    """Reads a model and prepares its graph for analysis.

    Shapes that the file declares for values inside the graph are ignored (vendors' files get them wrong); they are
    inferred again from the inputs.

    Raises:
        ModelFileError: the file is no model, is inconsistent, or has no layer.
        IntegerArithmeticError: it has none because it computes with integers.
    """
    file = source if isinstance(source, ModelFile) else load_model(source)
    require_consistent(file)
    try:
        model = file.to_ir()
        places = dict(_places(model.graph, file.proto.graph, ((wire.GRAPH, 0),)))
        _inline_functions(model)
        passes.TopologicalSortPass()(model)
    except ModelFileError:  # of external data, with the remedy
        raise
    except Exception as error:  # whatever onnx_ir meets in a damaged graph, the user's file is the cause
        cause = error.__cause__ or error
        raise ModelFileError(
            f"{file.path} holds an inconsistent graph: {cause}", remedy="export the model again"
        ) from error
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    network = Network(file, model, places)
    require_extents(network.graph, network.sizes, lambda node: network.node_names.get(node, str(node.name)), file.path)
    if not any(layer.op_type in CONVOLUTIONS for layer in network.layers):
        problem = f"{file.path} has no layer to adapt: expected at least one Conv node"
        integer = Counter(node.op_type for node in model.graph.all_nodes() if is_integer_arithmetic(node))
        if integer:
            found = " and ".join(f"{count} {op_type}" for op_type, count in integer.items())
            raise IntegerArithmeticError(
                f"{problem}, found {found}, which compute with whole numbers and cannot be trained",
                remedy=INTEGER_REMEDY,
            )
        raise ModelFileError(problem)
    return network


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Yields all values that a model defines, in an order that a clone of it shares."""
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _inline_functions(model: ir.Model) -> None:
    """Inlines functions, those that call no other first.

    A call at a time from the top, the same names would be copied for every path that leads to a function, and the pass tries
    all names that are taken for every copy.
    """
    while model.functions:
        called = {
            key: any(node.op_identifier() in model.functions for node in function.all_nodes())
            for key, function in model.functions.items()
        }
        leaves = {key for key, calls in called.items() if not calls}
        passes.InlinePass(lambda function, leaves=leaves: function.identifier() in leaves)(model)  # type: ignore[misc]
        for key in leaves & model.functions.keys():  # that nobody calls
            del model.functions[key]


def opset_version(proto: onnx.ModelProto) -> int:
    """Returns the version of the default operator set that a model imports; 0 when it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), default=0)


def _places(graph: ir.Graph, proto: onnx.GraphProto, path: wire.FieldPath) -> Iterator[tuple[ir.Value, wire.FieldPath]]:
    """Yields where the tensors of a graph and its subgraphs lie; ``graph`` was just made from ``proto``."""
    for index, tensor in enumerate(proto.initializer):
        yield graph.initializers[tensor.name], (*path, (wire.INITIALIZER, index))
    for index, (node, node_proto) in enumerate(zip(graph, proto.node)):
        for position, attribute in enumerate(node_proto.attribute):
            place = (*path, (wire.NODE, index), (wire.ATTRIBUTE, position))
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.outputs[0], (*place, (wire.ATTRIBUTE_TENSOR, 0))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                subgraph = node.attributes[attribute.name].as_graph()
                yield from _places(subgraph, attribute.g, (*place, (wire.ATTRIBUTE_GRAPH, 0)))
