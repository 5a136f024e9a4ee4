"""One graph, in which what the tuned network adds is multiplied by g.

In mode ``regrow`` all that is new comes from reinitialised maps. Where a layer reads such maps, its input is multiplied by
factors that are g for these maps and 1 for the others:

    factors = g * mask + (1 - mask)        exact for g = 0 and g = 1, and g itself between them

At g = 1 this changes no bit; at g = 0 it is the network without the reinitialised filters, which the drop test saw. Maps are
multiplied and not the kernels that read them, since kernels that are not constant are computed otherwise: ONNX Runtime packs
weights when it opens a model, and results differ in their last bits.

What is multiplied is a list of `Multiplied`: whatever else adds something to a network that can be turned down needs no more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tgdonnx.files import wire
from tgdonnx.gated_model.graph_bytes import (
    NODE_INPUT,
    NODE_OUTPUT,
    OUTPUT,
    Part,
    info_name_of,
    name_of,
    node_parts,
    tensor_parts,
    texts,
    with_texts,
)
from tgdonnx.layers import MATRIX_PRODUCTS, Layer, Network
from tgdonnx.layers.layouts import MatrixLayout
from tgdonnx.regrowing.readers import reading_kernels, reinitialised_maps
from tgdonnx.tracing.provenance import Provenance

FLOATS = frozenset({np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)})
"""Types of what can be multiplied."""


@dataclass(frozen=True)
class Multiplied:
    """An input of a node that is multiplied.

    Attributes:
        node: the node, by its place in the file.
        place: which of its inputs.
        value: what it reads there.
        mask: True for what is multiplied by g along ``axis``; None for all.
        axis: 1, or -1.
        rank: of the value.
        dtype: of its elements.
    """

    node: int
    place: int
    value: str
    mask: Optional[NDArray[np.bool_]] = field(repr=False)
    axis: int
    rank: int
    dtype: np.dtype[np.generic]

    @property
    def mask_shape(self) -> list[int]:
        """The shape in which the mask meets the value."""
        size = 1 if self.mask is None else len(self.mask)
        return [size if axis == self.axis % self.rank else 1 for axis in range(self.rank)]


def multiplied_maps(
    provenance: Provenance, tuned: Network, rows: Mapping[str, Sequence[int]]
) -> Union[tuple[Multiplied, ...], str]:
    """Returns where layers read reinitialised maps.

    Args:
        provenance: the vendor's network, traced.
        tuned: the tuned one. What its kernels do not hear, since they are 0, is not multiplied.
        rows: the filters that were reinitialised, by weight.

    Returns:
        The places, or the reason why they cannot be had.
    """
    kernels, maps = reading_kernels(provenance, rows), reinitialised_maps(provenance, rows)
    nodes = {name: index for index, node in enumerate(tuned.file.proto.graph.node) for name in node.output}
    found = []
    for layer in provenance.layers:
        if layer.weight is None or layer.weight.name not in kernels:
            continue
        stored = tuned.stored_parameters[layer.weight.name]
        if stored.quantization is not None:
            return f"{layer.name!r} is quantised, and would not be any more with a factor in front of it"
        if not (kernels[layer.weight.name] & (stored.numpy() != 0)).any():
            continue
        place = _place(provenance, layer, maps[layer.index], nodes)
        if isinstance(place, str):
            return place
        found.append(place)
    return tuple(found)


def _place(
    provenance: Provenance, layer: Layer, maps: NDArray[np.bool_], nodes: Mapping[str, int]
) -> Union[Multiplied, str]:
    value, own, weight = layer.node.inputs[0], layer.node.outputs[0].name, layer.weight
    assert value is not None
    assert weight is not None
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return f"{layer.name!r} reads what was quantised, and would be computed otherwise with a factor in between"
    shape = provenance.network.sizes.shapes.get(value)
    dtype = weight.read().dtype
    if own not in nodes or shape is None or len(shape) < 2 or dtype not in FLOATS:
        return f"what {layer.name!r} reads is not known well enough"
    mask, axis = maps, 1
    if layer.op_type in MATRIX_PRODUCTS:
        assert isinstance(layer.layout, MatrixLayout)
        mask, axis = np.repeat(maps, layer.layout.length), -1
    return Multiplied(nodes[str(own)], 0, str(value.name), mask, axis, len(shape), dtype)


def with_factors(
    graph: Sequence[Part], places: Sequence[Multiplied], g: str, before: Sequence[onnx.NodeProto], prefix: str
) -> list[bytes]:
    """Returns the fields of a graph in which inputs of nodes are multiplied.

    Args:
        graph: the fields of the tuned graph.
        places: what is multiplied; not empty.
        g: the value that holds g, float32 of shape (1,) or (N, 1).
        before: nodes that compute it; what they read is made before the first place.
        prefix: of all names.
    """
    first = min(place.node for place in places)
    tensors: dict[str, onnx.TensorProto] = {}
    nodes: dict[int, list[onnx.NodeProto]] = defaultdict(list)
    nodes[first] += before
    inputs: dict[int, dict[int, str]] = defaultdict(dict)
    factors: dict[tuple[object, ...], str] = {}
    products: dict[tuple[str, str], str] = {}
    for place in sorted(places, key=lambda each: (each.node, each.place)):
        mask = np.ones(1, bool) if place.mask is None else place.mask
        key = (mask.tobytes(), place.axis, place.rank, place.dtype)
        if key not in factors:
            factors[key] = name = f"{prefix}factors.{len(factors)}"
            made, needed = _factors(mask.reshape(place.mask_shape), place.dtype, g, name, prefix)
            nodes[first] += made
            tensors |= {tensor.name: tensor for tensor in needed}
        product = products.get((place.value, factors[key]))
        if product is None:
            product = f"{prefix}maps.{len(products)}/{place.value}"
            products[place.value, factors[key]] = product
            nodes[place.node].append(helper.make_node("Mul", [place.value, factors[key]], [product], product))
        inputs[place.node][place.place] = product
    index = 0
    out: list[bytes] = []
    for part in graph:
        if part.number == wire.NODE:
            out += node_parts(nodes.get(index, ()))
            changed = inputs.get(index)
            raw = part.raw
            if changed is not None:
                raw = wire.length_delimited(wire.NODE, with_texts(part.value, NODE_INPUT, changed))
            out.append(raw)
            index += 1
        else:
            out.append(part.raw)
    return [*out, *tensor_parts(tensors.values())]


def _factors(
    mask: NDArray[np.bool_], dtype: np.dtype[np.generic], g: str, name: str, prefix: str
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Returns nodes and tensors of g * mask + (1 - mask)."""
    rank = mask.ndim
    shape = numpy_helper.from_array(np.array([-1] + [1] * (rank - 1), np.int64), f"{prefix}shape.{rank}")
    ones, zeros = (numpy_helper.from_array(a.astype(dtype), f"{name}.{w}") for w, a in (("new", mask), ("old", ~mask)))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return [
        helper.make_node("Reshape", [g, shape.name], [f"{name}.shaped"], f"{name}.shaped"),
        helper.make_node("Cast", [f"{name}.shaped"], [f"{name}.g"], f"{name}.g", to=kind),
        helper.make_node("Mul", [f"{name}.g", ones.name], [f"{name}.scaled"], f"{name}.scaled"),
        helper.make_node("Add", [f"{name}.scaled", zeros.name], [name], name),
    ], [shape, ones, zeros]


def without_factors(graph: Sequence[Part], prefix: str, others: Collection[str]) -> list[bytes]:
    """Returns the fields of the graph that `with_factors` was given, if the other graph is by it.

    Args:
        graph: the fields of the gated graph.
        prefix: of what was added.
        others: further names of what was added.
    """

    def is_added(name: str) -> bool:
        return name.startswith(prefix) or name in others

    def name_in(part: Part) -> str:
        if part.number == wire.INITIALIZER:
            return name_of(part.value)
        return info_name_of(part.value) if part.number in (wire.GRAPH_INPUT, OUTPUT) else ""

    out: list[bytes] = []
    for part in graph:
        if part.number != wire.NODE:
            out += [] if is_added(name_in(part)) else [part.raw]
        elif not any(map(is_added, texts(part.value, NODE_OUTPUT))):
            read = texts(part.value, NODE_INPUT)
            old = {i: _plain(name, prefix) for i, name in enumerate(read) if name.startswith(prefix + "maps.")}
            out.append(wire.length_delimited(wire.NODE, with_texts(part.value, NODE_INPUT, old)) if old else part.raw)
    return out


def _plain(name: str, prefix: str) -> str:
    return name[len(prefix) :].partition("/")[2]
