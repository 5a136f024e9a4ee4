"""Change bytes of a file, or put fields in and take them out; every other byte stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from tgdonnx.errors import ModelFileError
from tgdonnx.files.wire.locating import SAVE_AGAIN, only_graph
from tgdonnx.files.wire.walking import (
    GRAPH,
    LENGTH_DELIMITED,
    Buffer,
    Field,
    FieldPath,
    Span,
    fields,
)


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
    only_graph(data)
    return _substituted(data, Span(0, len(data)), new)


def _substituted(data: Buffer, span: Span, new: Mapping[FieldPath, bytes]) -> bytes:
    wanted: dict[tuple[int, int], dict[FieldPath, bytes]] = defaultdict(dict)
    for path, value in new.items():
        wanted[path[0]][path[1:]] = value
    seen: dict[int, int] = defaultdict(int)
    out, done = bytearray(), span.start
    for field in fields(data, span) if wanted else ():
        if field.wire_type != LENGTH_DELIMITED:
            continue
        step = (field.number, seen[field.number])
        seen[field.number] += 1
        inside = wanted.pop(step, None)
        if inside is None:
            continue
        length = field.end - field.value
        if field.value - field.start != len(_varint(field.number << 3 | LENGTH_DELIMITED)) + len(_varint(length)):
            raise ModelFileError(
                f"the length at byte {field.start} is written with more bytes than it needs; {SAVE_AGAIN}"
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
    field = only_graph(data)
    if graph:
        length = field.end - field.value
        if field.value - field.start != len(_varint(GRAPH << 3 | LENGTH_DELIMITED)) + len(_varint(length)):
            raise ModelFileError(f"the length of the graph is written with more bytes than it needs; {SAVE_AGAIN}")
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
    graph = only_graph(data)
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


def remove_fields(
    data: Buffer, *, graph: Callable[[Field, Buffer], bool], model: Callable[[Field, Buffer], bool]
) -> bytes:
    """Returns the file without the fields of the graph and of the model that the predicates name: undoes `append_fields`."""
    kept = bytearray()
    for field in fields(data, Span(0, len(data))):
        if field.number == GRAPH and field.wire_type == LENGTH_DELIMITED:
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
    return _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
