"""Where what a field path names lies in a file, and where the elements of a tensor do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Optional

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files.wire.walking import (
    FIXED32,
    FIXED64,
    GRAPH,
    LENGTH_DELIMITED,
    TENSOR_DOUBLE_DATA,
    TENSOR_FLOAT_DATA,
    TENSOR_RAW_DATA,
    Buffer,
    Field,
    FieldPath,
    Span,
    fields,
)

SAVE_AGAIN = "save it again with onnx.save"


def is_repeated(field: Any) -> bool:
    """Whether a field, by its descriptor, may occur any number of times in a message."""
    # protobuf 7 warns of `label`, older ones lack `is_repeated`.
    repeated = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED if repeated is None else repeated)


def locate(data: Buffer, paths: Iterable[FieldPath]) -> dict[FieldPath, Span]:
    """Returns the span of the value that each path leads to. Every message on the way is walked once.

    Raises:
        ModelFileError: a path leads nowhere, or a message on the way that can be there only once is stored in several
            pieces (legal protobuf, but then an occurrence has no fixed place).
    """
    only_graph(data)
    found: dict[FieldPath, Span] = {}
    _locate_below(data, Span(0, len(data)), onnx.ModelProto.DESCRIPTOR, (), set(paths), found)
    return found


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
        if field.wire_type != LENGTH_DELIMITED:
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
            raise ModelFileError(f"expected one field {number} in a message, found {seen[number]}; {SAVE_AGAIN}")


def locate_elements(data: Buffer, tensor: Span, itemsize: int) -> list[Span]:
    """Returns the spans that hold the elements of a TensorProto, in order; each a whole number of elements.

    The data is in ``raw_data`` (one span), or in ``float_data`` or ``double_data``, which may be packed in one piece,
    in several, or not at all. The list is empty when the elements are stored elsewhere: as varints, or externally.

    Args:
        data: the file.
        tensor: the TensorProto in it.
        itemsize: bytes per element.
    """
    raw = [f for f in fields(data, tensor) if (f.number, f.wire_type) == (TENSOR_RAW_DATA, LENGTH_DELIMITED)]
    if raw:  # of a field that is given twice, the last counts
        return [Span(raw[-1].value, raw[-1].end)]
    number, alone = {4: (TENSOR_FLOAT_DATA, FIXED32), 8: (TENSOR_DOUBLE_DATA, FIXED64)}.get(itemsize, (0, 0))
    kinds = ((number, alone), (number, LENGTH_DELIMITED))
    return [Span(f.value, f.end) for f in fields(data, tensor) if (f.number, f.wire_type) in kinds]


def only_graph(data: Buffer) -> Field:
    """Returns the graph of a file.

    Raises:
        ModelFileError: it has none, or several.
    """
    graphs = [f for f in fields(data, Span(0, len(data))) if (f.number, f.wire_type) == (GRAPH, LENGTH_DELIMITED)]
    if len(graphs) != 1:
        raise ModelFileError(f"expected one graph in the file, found {len(graphs)}; {SAVE_AGAIN}")
    return graphs[0]
