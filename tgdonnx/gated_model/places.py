"""Where a detector can look."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.detector_copy import ancestors
from tgdonnx.gated_model.writing import Chosen
from tgdonnx.graphs.operators import CONVOLUTIONS
from tgdonnx.layers import Network


@dataclass(frozen=True)
class Place:
    """Where a detector can look.

    Attributes:
        layer: the layer in front of which it looks.
        value: what that reads: (N, C, ...).
        maps: how many maps that has, C.
    """

    layer: str
    value: str
    maps: int


def places(network: Network, tuned: ModelFile, chosen: Chosen) -> tuple[Place, ...]:
    """Returns where a detector can look, in the order of the network: inputs of convolutions that do not depend on g.

    Args:
        network: the vendor's.
        tuned: the tuned one.
        chosen: the form of the gated file.
    """
    graph = tuned.proto.graph if chosen.places else network.file.proto.graph
    made = {name: index for index, node in enumerate(graph.node) for name in node.output}
    given = {value.name for value in graph.input}
    first = min((place.node for place in chosen.places), default=len(graph.node))
    found: dict[str, Place] = {}
    for layer in network.layers:
        value = layer.node.inputs[0]
        if layer.op_type not in CONVOLUTIONS or layer.node.graph is not network.graph or value is None:
            continue
        name, shape = str(value.name), network.sizes.shapes.get(value)
        if shape is None or len(shape) < 3 or not (name in given or made.get(name, first) < first):
            continue
        if any(a.type == onnx.AttributeProto.GRAPH for node in ancestors(graph, name) for a in node.attribute):
            continue
        found.setdefault(name, Place(layer.name, name, layer.maps))
    return tuple(found.values())
