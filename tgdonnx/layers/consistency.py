"""What must hold of a graph before we work with it: names that lead somewhere, tensors stored once, nodes of the right form.

A checker would refuse more, also files that run well: declared shapes, for one, are wrong in many of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.modelfile import ModelFile

_BYTES: dict[int, int] = {
    onnx.TensorProto.FLOAT: 4,
    onnx.TensorProto.FLOAT16: 2,
    onnx.TensorProto.BFLOAT16: 2,
    onnx.TensorProto.DOUBLE: 8,
    onnx.TensorProto.INT8: 1,
    onnx.TensorProto.UINT8: 1,
}


def require_consistent(file: ModelFile) -> None:
    """Checks the graph of a file and its subgraphs.

    Raises:
        ModelFileError: a node reads what nothing makes, a graph stores two tensors under one name or one of a negative
            size, or a node has too few or too many inputs or an attribute of a type that its operator does not know.
    """
    _require_names(file)
    opsets = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in file.proto.opset_import}
    for graph in _graphs(file.proto.graph):
        name, count = next(iter(Counter(tensor.name for tensor in graph.initializer).most_common(1)), ("", 0))
        if count > 1:
            raise ModelFileError(f"{file.path} stores {count} tensors under the name {name!r}; expected one")
        for tensor in graph.initializer:
            _require_size(tensor, file)
        for node in graph.node:
            _require_form(node, opsets, file)


def _require_size(tensor: onnx.TensorProto, file: ModelFile) -> None:
    """Checks the dimensions of a tensor, before anything is sized by them."""
    if any(dim < 0 for dim in tensor.dims):
        raise ModelFileError(f"{tensor.name!r} in {file.path} has a negative size: {list(tensor.dims)}")
    expected = math.prod(tensor.dims) * _BYTES.get(tensor.data_type, 0)
    if tensor.HasField("raw_data") and expected and len(tensor.raw_data) != expected:
        raise ModelFileError(
            f"{tensor.name!r} in {file.path} has {len(tensor.raw_data):,} bytes; expected {expected:,} for {list(tensor.dims)}"
        )


def _require_names(file: ModelFile) -> None:
    """Checks that whatever the nodes of the main graph read is there."""
    graph = file.proto.graph
    names = {"", *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    names.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        for name in node.input:
            if name not in names:
                raise ModelFileError(f"{_label(node)} of {file.path} reads {name!r}, which nothing makes")


def _require_form(node: onnx.NodeProto, opsets: dict[str, int], file: ModelFile) -> None:
    """Checks how many inputs a node has and of which types its attributes are, if its operator is known."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain, 1)
    if not onnx.defs.has(node.op_type, domain=domain, max_inclusive_version=version):
        return
    schema = onnx.defs.get_schema(node.op_type, version, domain)
    if not schema.min_input <= len(node.input) <= schema.max_input:
        least, most = schema.min_input, schema.max_input
        raise ModelFileError(
            f"{_label(node)} of {file.path} has {len(node.input)} inputs; "
            f"expected {least if least == most else f'{least} to {most}'}"
        )
    if node.op_type == "Constant" and domain == "" and not node.attribute:
        raise ModelFileError(f"{_label(node)} of {file.path} has no value")
    types = onnx.AttributeProto.AttributeType
    for attribute in node.attribute:
        if attribute.ref_attr_name or attribute.name not in schema.attributes:
            continue
        expected = types.Value(str(schema.attributes[attribute.name].type).rpartition(".")[2])
        if attribute.type not in (expected, onnx.AttributeProto.UNDEFINED):
            raise ModelFileError(
                f"{_label(node)} of {file.path} has {attribute.name!r} of type {types.Name(attribute.type)}; "
                f"expected {types.Name(expected)}"
            )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (
                (attribute.g, *attribute.graphs) if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
            ):
                yield from _graphs(inner)


def _label(node: onnx.NodeProto) -> str:
    return f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"
