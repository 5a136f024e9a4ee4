"""Fields of a message: the list that the wire format is, and the numbers that onnx.proto gives them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

from tgdonnx.errors import ModelFileError

Buffer = Union[bytes, bytearray, memoryview]
FieldPath = tuple[tuple[int, int], ...]

# onnx.proto: ModelProto and StringStringEntryProto
GRAPH, METADATA_PROPS, ENTRY_KEY = 7, 14, 1
# GraphProto
NODE, INITIALIZER, GRAPH_INPUT = 1, 5, 11
# NodeProto and AttributeProto
NODE_OUTPUT, NODE_NAME = 2, 3
ATTRIBUTE, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH = 5, 5, 6
VALUE_INFO_NAME = 1
# TensorProto; data that is stored as numbers of a fixed width, and as bytes
TENSOR_FLOAT_DATA, TENSOR_DOUBLE_DATA, TENSOR_RAW_DATA = 4, 10, 9
TENSOR_NAME, TENSOR_EXTERNAL_DATA = 8, 13

_VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field of a message: where its key begins, where its value begins (past any length) and where it ends."""

    number: int
    wire_type: int
    start: int
    value: int
    end: int


@dataclass(frozen=True)
class Span:
    """Bytes ``start`` to ``end`` of a file."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


def fields(data: Buffer, span: Span) -> Iterator[Field]:
    """Yields the fields of the message that fills ``span``, in the order of the file.

    Raises:
        ModelFileError: the bytes are no protobuf message.
    """
    position = span.start
    while position < span.end:
        start = position
        key, position = read_varint(data, position, span.end)
        number, wire_type = key >> 3, key & 7
        value = position
        if wire_type == _VARINT:
            _, end = read_varint(data, position, span.end)
        elif wire_type == FIXED64:
            end = position + 8
        elif wire_type == FIXED32:
            end = position + 4
        elif wire_type == LENGTH_DELIMITED:
            length, value = read_varint(data, position, span.end)
            end = value + length
        else:
            raise ModelFileError(f"expected a protobuf field at byte {start}, found wire type {wire_type}")
        if number == 0 or end > span.end:
            raise ModelFileError(f"the protobuf field at byte {start} runs past the end of its message")
        yield Field(number, wire_type, start, value, end)
        position = end


def graphs_nest_deeper(data: Buffer, most: int) -> bool:
    """Whether graphs lie inside nodes of graphs more than ``most`` deep; what is no message is not looked into.

    Parsers end there with no other word than that the file is damaged.
    """
    spans = [Span(0, len(data))]
    for numbers in ((GRAPH,), *((NODE, ATTRIBUTE, ATTRIBUTE_GRAPH),) * (most + 1)):
        for number in numbers:
            spans = [inner for span in spans for inner in _messages(data, span, number)]
    return bool(spans)


def _messages(data: Buffer, span: Span, number: int) -> list[Span]:
    found: list[Span] = []
    with contextlib.suppress(ModelFileError):
        for field in fields(data, span):
            if (field.number, field.wire_type) == (number, LENGTH_DELIMITED):
                found.append(Span(field.value, field.end))
    return found


def read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Returns a number of the file, and where it ends.

    Raises:
        ModelFileError: the file breaks off, or the number has more than 64 bits.
    """
    result = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, position
        shift += 7
        if shift > 63:
            break
    raise ModelFileError(f"the file breaks off or is damaged at byte {position}")


def text_in(message: Field, data: Buffer, number: int) -> str:
    """Returns the text in a field of an embedded message, of several the first; empty where there is none."""
    inner = fields(data, Span(message.value, message.end))
    return next((bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == number), "")
