"""What lies at a byte that changed, and where two models differ, in words."""

from __future__ import annotations

from typing import Optional

import onnx

from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile


def name_place(base: ModelFile, file: Optional[str], offset: int) -> str:
    """Says in words what lies at a byte of the vendor's model, or of ``file`` if his external data is meant."""
    if file is not None:
        return f"byte {offset:,} of {file!r} changed, outside the retrained filters"
    graph_start, steps = 0, []
    for field in wire.fields(base.data, wire.Span(0, len(base.data))):
        if field.value <= offset < field.end:
            steps.append((base.proto.DESCRIPTOR, field))
            graph_start = field.value
            break
    if not steps or steps[0][1].number != wire.GRAPH:
        name = base.proto.DESCRIPTOR.fields_by_number[steps[0][1].number].name if steps else "the structure of the file"
        return f"{name} of the model changed"
    graph = base.proto.graph
    seen: dict[int, int] = {}
    for field in wire.fields(base.data, wire.Span(graph_start, steps[0][1].end)):
        index = seen[field.number] = seen.get(field.number, -1) + 1
        if field.start <= offset < field.end:
            if field.number == wire.INITIALIZER:
                return f"the tensor {graph.initializer[index].name!r} changed, outside the retrained filters"
            if field.number == wire.NODE:
                node = graph.node[index]
                return f"the node {node.name or node.output[0]!r} ({node.op_type}) changed"
            return f"{graph.DESCRIPTOR.fields_by_number[field.number].name} of the graph changed"
    return "the structure of the file changed"


def differences(before: onnx.ModelProto, after: onnx.ModelProto) -> list[str]:
    """Lists in words where two models differ, for files that do not line up byte by byte."""
    found = []
    for field in before.DESCRIPTOR.fields:
        if field.name not in ("graph", "metadata_props") and getattr(before, field.name) != getattr(after, field.name):
            found.append(f"{field.name} of the model differs")
    old, new = ({tensor.name: tensor for tensor in model.graph.initializer} for model in (before, after))
    found += [f"the tensor {name!r} is missing" for name in old if name not in new]
    found += [f"the tensor {name!r} is new" for name in new if name not in old]
    found += [f"the tensor {name!r} differs" for name in old if name in new and old[name] != new[name]]
    if len(before.graph.node) != len(after.graph.node):
        found.append(f"the graph has {len(after.graph.node)} nodes, not {len(before.graph.node)}")
    else:
        pairs = zip(before.graph.node, after.graph.node)
        found += [f"the node {a.name or a.output[0]!r} ({a.op_type}) differs" for a, b in pairs if a != b]
    return found
