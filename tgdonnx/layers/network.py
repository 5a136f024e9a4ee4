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

from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.graphs.operators import (
    STANDARD_DOMAINS,
    is_standard,
)
from tgdonnx.layers.layer import Layer, find_layer
from tgdonnx.layers.obstacles import Obstacle, overlapping
from tgdonnx.layers.parameters import Parameter, find_parameter
from tgdonnx.layers.quantization import TRAINABLE_INTEGERS
from tgdonnx.layers.sizes import Sizes, infer_sizes


@dataclass(frozen=True)
class Network:
    """A model file with its graph opened for analysis.

    Attributes:
        file: the vendor's file.
        model: its graph, sorted topologically, functions inlined. For reading only.
        places: where in the file the TensorProto of every initializer and Constant node lies.
        known_sizes: the sizes of all values, if they were inferred before.
    """

    file: ModelFile
    model: ir.Model = field(repr=False)
    places: dict[ir.Value, wire.FieldPath] = field(repr=False)
    known_sizes: Optional[Sizes] = field(repr=False, default=None)

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
        nodes = dict(zip(self.graph.all_nodes(), model.graph.all_nodes()))
        places = {copies[value]: path for value, path in self.places.items() if value in copies}
        return Network(self.file, model, places, self.sizes.of_copy(copies, nodes))

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of all values, with stand-ins for those that the model leaves open."""
        return self.known_sizes or infer_sizes(self.graph, self.graph.opset_imports)

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
            layer = find_layer(len(found), node, self.node_names.get(node, ""), self.parameter)
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
        return overlapping(self.file, {path: str(value.name) for value, path in self.places.items()})

    def filter_index(self, name: str) -> NDArray[np.int64]:
        """Returns which filter each element of a stored tensor belongs to, as an array that broadcasts against it.

        Args:
            name: the weight of a layer, or a tensor with one number per filter.
        """
        layer = self._readers.get(name)
        if layer is not None and layer.weight is not None:
            return layer.weight.restore(layer.layout.restore(np.arange(layer.filters).reshape(-1, 1)))
        shape = self.stored_parameters[name].shape
        own_axis = int(np.argmax(shape)) if shape else -1
        return np.arange(max(shape, default=1)).reshape([-1 if a == own_axis else 1 for a in range(len(shape))])

    @cached_property
    def _readers(self) -> dict[str, Layer]:
        """For the name of each weight the first layer that reads it."""
        return {layer.weight.name: layer for layer in reversed(self.layers) if layer.weight is not None}

    @cached_property
    def _spans(self) -> dict[wire.FieldPath, wire.Span]:
        """Where the TensorProto of every stored tensor lies in the file."""
        return wire.locate(self.file.data, [parameter.path for parameter in self.stored_parameters.values()])

    @cached_property
    def _stored_names(self) -> Counter[str]:
        return Counter(str(value.name) for value in self.places)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """Yields all values that a model defines, in an order that a clone of it shares."""
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def opset_version(proto: onnx.ModelProto) -> int:
    """Returns the version of the default operator set that a model imports; 0 when it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), default=0)
