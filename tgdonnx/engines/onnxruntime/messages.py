"""Two models that begin alike, written as messages of protobuf: what both have is written once."""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from itertools import takewhile
from typing import Any

import onnx
import onnx_ir as ir


def turn_into(message: onnx.ModelProto, model: ir.Model) -> None:
    """Makes another model of a message, in place.

    Args:
        message: a model of ours.
        model: a view of that model, which goes on differently. To write nodes takes long, so that what both have, most of
            either, stays as it is.
    """
    viewed = model.graph
    message.ir_version = model.ir_version
    del message.functions[:]
    graph, nodes = message.graph, list(viewed)
    made = zip((node.outputs[0].name for node in nodes), (there.output[0] for there in graph.node))
    alike = sum(1 for _ in takewhile(lambda names: names[0] == names[1], made))
    del graph.node[alike:]
    graph.node.extend(ir.serde.serialize_node(node) for node in nodes[alike:])
    known = {*viewed.initializers, *(value.name for node in nodes[:alike] for value in node.outputs)}
    _drop(graph.initializer, [tensor.name not in known for tensor in graph.initializer])
    _drop(graph.value_info, [value.name not in known for value in graph.value_info])
    _drop(message.opset_import, [opset.domain not in viewed.opset_imports for opset in message.opset_import])
    del graph.input[:], graph.output[:]
    graph.input.extend(ir.serde.serialize_value(value) for value in viewed.inputs)
    graph.output.extend(ir.serde.serialize_value(value) for value in viewed.outputs)


def _drop(places: MutableSequence[Any], dropped: Sequence[bool]) -> None:
    for place in reversed(range(len(dropped))):
        if dropped[place]:
            del places[place]
