"""A graph of a file as its serialised fields, so that what is not ours is carried over as it was written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx

from tgdonnx.files import wire

# GraphProto, besides those in `wire`
NAME, OUTPUT, VALUE_INFO, QUANTIZATION_ANNOTATION, SPARSE_INITIALIZER = 2, 12, 13, 14, 15
# NodeProto, TensorProto and ValueInfoProto
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE, TENSOR_NAME, INFO_NAME = 1, 2, 3, 4, 8, 1


@dataclass(frozen=True)
class Part:
    """A field of a message.

    Attributes:
        number: which.
        raw: all of it.
        value: what it holds, without key and length.
    """

    number: int
    raw: bytes = field(repr=False)
    value: bytes = field(repr=False)


def parts(message: bytes) -> list[Part]:
    """Returns the fields of a serialised message, in its order.

    Raises:
        ModelFileError: it is none.
    """
    return [
        Part(each.number, message[each.start : each.end], message[each.value : each.end])
        for each in wire.fields(message, wire.Span(0, len(message)))
    ]


def graph_of(model: bytes) -> list[Part]:
    """Returns the fields of the graph of a model.

    Raises:
        ModelFileError: the model has not one graph.
    """
    (span,) = wire.locate(model, [((wire.GRAPH, 0),)]).values()
    return parts(model[span.start : span.end])


def with_graph(model: bytes, graph: Iterable[bytes], more: bytes = b"") -> bytes:
    """Returns a model with another graph.

    Args:
        model: the model.
        graph: the serialised fields of the new graph.
        more: serialised fields to put at the end of the model.
    """
    new = wire.length_delimited(wire.GRAPH, b"".join(graph))
    return b"".join(new if each.number == wire.GRAPH else each.raw for each in parts(model)) + more


def texts(message: bytes, number: int) -> list[str]:
    """Returns the strings in a field of a message that may be repeated."""
    return [each.value.decode("utf-8", "replace") for each in parts(message) if each.number == number]


def with_texts(message: bytes, number: int, new: Mapping[int, str]) -> bytes:
    """Returns a message with other strings in some places of a field."""
    seen, out = 0, []
    for each in parts(message):
        raw = each.raw
        if each.number == number:
            raw = wire.length_delimited(number, new[seen].encode()) if seen in new else raw
            seen += 1
        out.append(raw)
    return b"".join(out)


def name_of(tensor: bytes) -> str:
    """Returns the name of a TensorProto; empty if it has none."""
    return (texts(tensor, TENSOR_NAME) or [""])[-1]


def info_name_of(info: bytes) -> str:
    """Returns the name of a ValueInfoProto; empty if it has none."""
    return (texts(info, INFO_NAME) or [""])[-1]


def named(tensor: bytes, name: str) -> bytes:
    """Returns a TensorProto under another name, in the place of the old one; at the end if it had none."""
    if any(each.number == TENSOR_NAME for each in parts(tensor)):
        return with_texts(tensor, TENSOR_NAME, {0: name})
    return tensor + wire.length_delimited(TENSOR_NAME, name.encode())


def nameless(tensor: bytes) -> bytes:
    """Returns a TensorProto without its name."""
    return b"".join(each.raw for each in parts(tensor) if each.number != TENSOR_NAME)


def node_parts(nodes: Iterable[onnx.NodeProto]) -> Iterator[bytes]:
    """Yields nodes as fields of a graph."""
    for node in nodes:
        yield wire.length_delimited(wire.NODE, node.SerializeToString(deterministic=True))


def tensor_parts(tensors: Iterable[onnx.TensorProto]) -> Iterator[bytes]:
    """Yields initializers as fields of a graph."""
    for tensor in tensors:
        yield wire.length_delimited(wire.INITIALIZER, tensor.SerializeToString(deterministic=True))


def info_part(number: int, info: onnx.ValueInfoProto) -> bytes:
    """Returns an input or output as a field of a graph."""
    return wire.length_delimited(number, info.SerializeToString(deterministic=True))
