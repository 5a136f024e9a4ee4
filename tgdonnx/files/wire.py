"""Where things lie in the bytes of an ONNX file, so that a few of them can change and no other byte does.

A vendor's file is never parsed and serialised again: a serialiser may reorder fields, drop what it does not know or
pack what was unpacked. Instead we walk the protobuf wire format, which is a flat list of fields:

    field  := key value          key := varint(number << 3 | wire_type)
    value  := varint             wire_type 0
            | 8 bytes            wire_type 1
            | varint(n) n bytes  wire_type 2: strings, bytes, packed numbers and embedded messages
            | 4 bytes            wire_type 5

A *field path* names one field by steps of (field number, how manieth occurrence), for example
``((GRAPH, 0), (INITIALIZER, 12))``. Field numbers are those of onnx.proto, the specification of the file format.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import onnx

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

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_SAVE_AGAIN = "save it again with onnx.save"


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
        key, position = _read_varint(data, position, span.end)
        number, wire_type = key >> 3, key & 7
        value = position
        if wire_type == _VARINT:
            _, end = _read_varint(data, position, span.end)
        elif wire_type == _FIXED64:
            end = position + 8
        elif wire_type == _FIXED32:
            end = position + 4
        elif wire_type == _LENGTH_DELIMITED:
            length, value = _read_varint(data, position, span.end)
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
            if (field.number, field.wire_type) == (number, _LENGTH_DELIMITED):
                found.append(Span(field.value, field.end))
    return found


def locate(data: Buffer, paths: Iterable[FieldPath]) -> dict[FieldPath, Span]:
    """Returns the span of the value that each path leads to. Every message on the way is walked once.

    Raises:
        ModelFileError: a path leads nowhere, or a message on the way that can be there only once is stored in several
            pieces (legal protobuf, but then an occurrence has no fixed place).
    """
    _only_graph(data)
    found: dict[FieldPath, Span] = {}
    _locate_below(data, Span(0, len(data)), onnx.ModelProto.DESCRIPTOR, (), set(paths), found)
    return found


def is_repeated(field: Any) -> bool:
    """Whether a field, by its descriptor, may occur any number of times in a message."""
    # protobuf 7 warns of `label`, older ones lack `is_repeated`.
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def _locate_below(
    data: Buffer,
    span: Span,
    message: Optional[Any],
    prefix: FieldPath,
    paths: set[FieldPath],
    found: dict[FieldPath, Span],
) -> None:
    """Locates what lies in a message; its descriptor is None if onnx.proto does not know it."""
    known = {} if message is None else message.fields_by_number
    wanted: dict[tuple[int, int], set[FieldPath]] = defaultdict(set)
    for path in paths:
        wanted[path[0]].add(path[1:])
    seen: dict[int, int] = defaultdict(int)
    for field in fields(data, span):
        if field.wire_type != _LENGTH_DELIMITED:
            continue  # no message, whatever its number
        step = (field.number, seen[field.number])
        seen[field.number] += 1
        rests = wanted.pop(step, None)
        if rests is None:
            continue
        here, value = (*prefix, step), Span(field.value, field.end)
        if () in rests:
            found[here] = value
        deeper = {rest for rest in rests if rest}
        if deeper:
            inner = known[field.number].message_type if field.number in known else None
            _locate_below(data, value, inner, here, deeper, found)
    if wanted:
        number, index = min(wanted)
        raise ModelFileError(f"expected at least {index + 1} fields {number} in a message, found {seen[number]}")
    for number in {path[0][0] for path in paths}:
        if seen[number] > 1 and number in known and not is_repeated(known[number]):
            raise ModelFileError(f"expected one field {number} in a message, found {seen[number]}; {_SAVE_AGAIN}")


def locate_elements(data: Buffer, tensor: Span, itemsize: int) -> list[Span]:
    """Returns the spans that hold the elements of a TensorProto, in order; each a whole number of elements.

    The data is in ``raw_data`` (one span), or in ``float_data`` or ``double_data``, which may be packed in one piece,
    in several, or not at all. The list is empty when the elements are stored elsewhere: as varints, or externally.

    Args:
        data: the file.
        tensor: the TensorProto in it.
        itemsize: bytes per element.
    """
    raw = [f for f in fields(data, tensor) if (f.number, f.wire_type) == (TENSOR_RAW_DATA, _LENGTH_DELIMITED)]
    if raw:  # of a field that is given twice, the last counts
        return [Span(raw[-1].value, raw[-1].end)]
    number, alone = {4: (TENSOR_FLOAT_DATA, _FIXED32), 8: (TENSOR_DOUBLE_DATA, _FIXED64)}.get(itemsize, (0, 0))
    kinds = ((number, alone), (number, _LENGTH_DELIMITED))
    return [Span(f.value, f.end) for f in fields(data, tensor) if (f.number, f.wire_type) in kinds]


def overwrite(data: bytearray, spans: Sequence[Span], offset: int, new: bytes) -> None:
    """Writes ``new`` at byte ``offset`` of the concatenated ``spans``, in place.

    Args:
        data: the file, changed.
        spans: as `locate_elements` gives them.
        offset: where to begin, counted over all spans.
        new: the new bytes; they must fit.
    """
    for span in spans:
        if offset < len(span):
            count = min(len(new), len(span) - offset)
            data[span.start + offset : span.start + offset + count] = new[:count]
            new, offset = new[count:], offset + count
        if not new:
            return
        offset -= len(span)
    assert not new, "the new bytes do not fit into the tensor"


def substitute(data: Buffer, new: Mapping[FieldPath, bytes]) -> bytes:
    """Returns the file with other values in some places; the lengths of what is around them follow, every other byte stays.

    Args:
        data: the file.
        new: by path, the value that shall stand there.

    Raises:
        ModelFileError: a path leads nowhere, or a length on the way is written with more bytes than it needs, so that putting
            the old value back could not give the same bytes back.
    """
    _only_graph(data)
    return _substituted(data, Span(0, len(data)), new)


def _substituted(data: Buffer, span: Span, new: Mapping[FieldPath, bytes]) -> bytes:
    wanted: dict[tuple[int, int], dict[FieldPath, bytes]] = defaultdict(dict)
    for path, value in new.items():
        wanted[path[0]][path[1:]] = value
    seen: dict[int, int] = defaultdict(int)
    out, done = bytearray(), span.start
    for field in fields(data, span) if wanted else ():
        if field.wire_type != _LENGTH_DELIMITED:
            continue
        step = (field.number, seen[field.number])
        seen[field.number] += 1
        inside = wanted.pop(step, None)
        if inside is None:
            continue
        length = field.end - field.value
        if field.value - field.start != len(_varint(field.number << 3 | _LENGTH_DELIMITED)) + len(_varint(length)):
            raise ModelFileError(
                f"the length at byte {field.start} is written with more bytes than it needs; {_SAVE_AGAIN}"
            )
        value = inside[()] if () in inside else _substituted(data, Span(field.value, field.end), inside)
        out += data[done : field.start]
        out += length_delimited(field.number, value)
        done = field.end
        if not wanted:
            break
    if wanted:
        number, index = min(wanted)
        raise ModelFileError(f"expected at least {index + 1} fields {number} in a message, found {seen[number]}")
    return bytes(out + data[done : span.end])


def append_fields(data: Buffer, *, graph: bytes = b"", model: bytes = b"") -> bytes:
    """Returns the file with serialised fields added at the end of its graph and at the end of the model.

    Every byte of the file stays, but for the length in front of the graph.

    Raises:
        ModelFileError: the file has not one graph, or writes its length with more bytes than it needs, so that
            `remove_fields` could not give the same bytes back.
    """
    field = _only_graph(data)
    if graph:
        length = field.end - field.value
        if field.value - field.start != len(_varint(GRAPH << 3 | _LENGTH_DELIMITED)) + len(_varint(length)):
            raise ModelFileError(f"the length of the graph is written with more bytes than it needs; {_SAVE_AGAIN}")
        body = bytes(data[field.value : field.end]) + graph
        out = bytes(data[: field.start]) + length_delimited(GRAPH, body) + bytes(data[field.end :])
    else:
        out = bytes(data)
    return out + model


def insert_after(data: Buffer, number: int, added: Mapping[int, bytes]) -> bytes:
    """Returns the file with serialised fields put into its graph; `remove_fields` takes them out again.

    Args:
        data: the file, with one graph.
        number: of the fields of the graph that they are put behind.
        added: for the how manieth of these what comes behind it.
    """
    graph = _only_graph(data)
    body, done = bytearray(), graph.value
    index = -1
    for field in fields(data, Span(graph.value, graph.end)):
        if field.number == number:
            index += 1
            if index in added:
                body += data[done : field.end]
                body += added[index]
                done = field.end
    body += data[done : graph.end]
    return bytes(data[: graph.start]) + length_delimited(GRAPH, bytes(body)) + bytes(data[graph.end :])


def text_in(message: Field, data: Buffer, number: int) -> str:
    """Returns the text in a field of an embedded message, of several the first; empty where there is none."""
    inner = fields(data, Span(message.value, message.end))
    return next((bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == number), "")


def remove_fields(
    data: Buffer, *, graph: Callable[[Field, Buffer], bool], model: Callable[[Field, Buffer], bool]
) -> bytes:
    """Returns the file without the fields of the graph and of the model that the predicates name: undoes `append_fields`."""
    kept = bytearray()
    for field in fields(data, Span(0, len(data))):
        if field.number == GRAPH and field.wire_type == _LENGTH_DELIMITED:
            inner = Span(field.value, field.end)
            removed = [f for f in fields(data, inner) if graph(f, data)]
            if removed:
                body = bytearray(data[inner.start : inner.end])
                for f in reversed(removed):
                    del body[f.start - inner.start : f.end - inner.start]
                kept += length_delimited(GRAPH, bytes(body))
                continue
        if not model(field, data):
            kept += data[field.start : field.end]
    return bytes(kept)


def length_delimited(number: int, body: bytes) -> bytes:
    """Returns the serialised field ``number`` of an embedded message, string or bytes."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(body)) + body


def _only_graph(data: Buffer) -> Field:
    graphs = [f for f in fields(data, Span(0, len(data))) if (f.number, f.wire_type) == (GRAPH, _LENGTH_DELIMITED)]
    if len(graphs) != 1:
        raise ModelFileError(f"expected one graph in the file, found {len(graphs)}; {_SAVE_AGAIN}")
    return graphs[0]


def _read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
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


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
