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

``walking``: the fields of a message; ``locating``: where what a path names lies; ``editing``: other bytes in its place.
"""

from tgdonnx.files.wire.editing import (
    append_fields,
    insert_after,
    length_delimited,
    overwrite,
    remove_fields,
    substitute,
)
from tgdonnx.files.wire.locating import is_repeated, locate, locate_elements
from tgdonnx.files.wire.walking import (
    ATTRIBUTE,
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_TENSOR,
    ENTRY_KEY,
    GRAPH,
    GRAPH_INPUT,
    INITIALIZER,
    METADATA_PROPS,
    NODE,
    NODE_NAME,
    NODE_OUTPUT,
    TENSOR_EXTERNAL_DATA,
    TENSOR_NAME,
    VALUE_INFO_NAME,
    Buffer,
    Field,
    FieldPath,
    Span,
    fields,
    graphs_nest_deeper,
    text_in,
)

__all__ = [
    "ATTRIBUTE",
    "ATTRIBUTE_GRAPH",
    "ATTRIBUTE_TENSOR",
    "ENTRY_KEY",
    "GRAPH",
    "GRAPH_INPUT",
    "INITIALIZER",
    "METADATA_PROPS",
    "NODE",
    "NODE_NAME",
    "NODE_OUTPUT",
    "TENSOR_EXTERNAL_DATA",
    "TENSOR_NAME",
    "VALUE_INFO_NAME",
    "Buffer",
    "Field",
    "FieldPath",
    "Span",
    "append_fields",
    "fields",
    "graphs_nest_deeper",
    "insert_after",
    "is_repeated",
    "length_delimited",
    "locate",
    "locate_elements",
    "overwrite",
    "remove_fields",
    "substitute",
    "text_in",
]
