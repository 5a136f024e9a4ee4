"""Walking and editing the bytes of ONNX files: round trips, golden bytes, and files made to harm."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from tests.support import models
from tests.support.models import Array
from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.wire import (
    Field,
    FieldPath,
    Span,
    append_fields,
    fields,
    locate,
    locate_elements,
    overwrite,
    remove_fields,
)

# An encoder of our own, for what protobuf's never writes.


def varint(value: int, *, length: int = 0) -> bytes:
    """A varint, padded with useless bytes up to a length: legal, though nobody writes it."""
    out = [value >> 7 * i & 0x7F for i in range(max(length, -(-value.bit_length() // 7), 1))]
    return bytes([*(byte | 0x80 for byte in out[:-1]), out[-1]])


def block(number: int, body: bytes, *, length: int = 0) -> bytes:
    return varint(number << 3 | 2) + varint(len(body), length=length) + body


def fixed32(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 5) + body


def fixed64(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 1) + body


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


# Random models.

names = st.text(max_size=6)


def arrays(dtype: type, shape: st.SearchStrategy[object]) -> st.SearchStrategy[Array]:
    # Without NaN: it has many forms, and Python floats do not keep all of them.
    return hnp.arrays(dtype, shape, elements={} if dtype is np.int64 else {"allow_nan": False})


ARRAYS = st.sampled_from([np.float32, np.float64, np.int64, np.float16]).flatmap(
    lambda dtype: arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
)


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    """A tensor as onnx writes it: as bytes, or as packed numbers of its type."""
    array: Array = draw(ARRAYS)
    if draw(st.booleans()) or array.dtype == np.float16:
        tensor = numpy_helper.from_array(array)
    else:
        field = {"f4": "float_data", "f8": "double_data", "i8": "int64_data"}[array.dtype.str[1:]]
        tensor = TensorProto(dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype))
        getattr(tensor, field).extend(array.flatten().tolist())
    tensor.name = draw(names)
    if draw(st.booleans()):
        tensor.doc_string = draw(names)
    return tensor


@st.composite
def models_of_tensors(draw: st.DrawFn) -> onnx.ModelProto:
    """A model with tensors in initializers and in attributes of nodes, and odds and ends around them."""
    model = onnx.ModelProto(ir_version=draw(st.integers(3, 2**40)), producer_name=draw(names))
    model.opset_import.add(version=17)
    for key in draw(st.lists(names, max_size=2)):
        model.metadata_props.add(key=key, value=draw(names))
    graph = model.graph
    graph.name = draw(names)
    graph.initializer.extend(draw(st.lists(tensors(), max_size=3)))
    for i in range(draw(st.integers(0, 3))):
        node = graph.node.add(op_type=draw(names), input=draw(st.lists(names, max_size=2)), output=[f"{i}"])
        for _ in range(draw(st.integers(0, 3))):
            attribute = node.attribute.add(name=draw(names))
            if draw(st.booleans()):
                attribute.type = onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(draw(tensors()))
            else:
                attribute.type = onnx.AttributeProto.FLOATS
                attribute.floats.extend(draw(st.lists(st.floats(width=32, allow_nan=False), max_size=3)))
    for name in draw(st.lists(names, max_size=2)):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, draw(st.none() | st.just(["N", 3]))))
    return model


def tensor_paths(model: onnx.ModelProto) -> dict[FieldPath, TensorProto]:
    found: dict[FieldPath, TensorProto] = {}
    for i, tensor in enumerate(model.graph.initializer):
        found[((wire.GRAPH, 0), (wire.INITIALIZER, i))] = tensor
    for i, node in enumerate(model.graph.node):
        for j, attribute in enumerate(node.attribute):
            if attribute.HasField("t"):
                path = ((wire.GRAPH, 0), (wire.NODE, i), (wire.ATTRIBUTE, j), (wire.ATTRIBUTE_TENSOR, 0))
                found[path] = attribute.t
    return found


def join(data: bytes | bytearray, spans: Sequence[Span]) -> bytes:
    return b"".join(bytes(data[span.start : span.end]) for span in spans)


@settings(deadline=None, max_examples=200)
@given(model=models_of_tensors())
def test_every_tensor_and_its_elements_are_found(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    expected = tensor_paths(model)
    found = locate(data, expected)
    assert set(found) == set(expected)
    for path, tensor in expected.items():
        span = found[path]
        assert len(span) == tensor.ByteSize()
        assert TensorProto.FromString(data[span.start : span.end]) == tensor
        array = numpy_helper.to_array(tensor)
        elements = locate_elements(data, span, array.itemsize)
        if array.dtype == np.int64 and not tensor.HasField("raw_data"):
            assert elements == []  # varints have no fixed width
        else:
            assert join(data, elements) == array.tobytes()


@settings(deadline=None, max_examples=200)
@given(model=models_of_tensors(), data=st.data())
def test_fields_tile_a_message_and_tell_its_parts(model: onnx.ModelProto, data: st.DataObject) -> None:
    message = model.graph.SerializeToString()
    before, after = data.draw(st.binary(max_size=9)), data.draw(st.binary(max_size=9))
    span = Span(len(before), len(before) + len(message))
    found = list(fields(before + message + after, span))
    assert [field.start for field in found] + [span.end] == [span.start] + [field.end for field in found]
    for number, part in ((wire.NODE, model.graph.node), (wire.INITIALIZER, model.graph.initializer)):
        bodies = [
            (before + message + after)[field.value : field.end]
            for field in found
            if field.number == number and field.wire_type == 2
        ]
        assert bodies == [entry.SerializeToString() for entry in part]


def test_the_fields_of_a_message_worked_out_by_hand() -> None:
    #                        1: 150  3: 1.0f     4: "hi"   5: eight bytes
    message = bytes.fromhex("089601 1d0000803f 22026869 290100000000000000")
    assert list(fields(message, Span(0, len(message)))) == [
        Field(1, 0, 0, 1, 3),
        Field(3, 5, 3, 4, 8),
        Field(4, 2, 8, 10, 12),
        Field(5, 1, 12, 13, 21),
    ]
    assert list(fields(message, Span(3, 8))) == [Field(3, 5, 3, 4, 8)]
    assert list(fields(message, Span(3, 3))) == []


def test_what_is_appended_to_a_tiny_file_to_the_byte() -> None:
    model = onnx.ModelProto(ir_version=8)
    model.graph.name = "g"
    model.opset_import.add(version=17)
    data = model.SerializeToString()
    assert data.hex(" ") == "08 08 3a 03 12 01 67 42 02 10 11"
    grown = append_fields(data, graph=b"\x2a\x00", model=b"\x72\x00")
    assert grown.hex(" ") == "08 08 3a 05 12 01 67 2a 00 42 02 10 11 72 00"
    assert append_fields(data, model=b"\x72\x00").hex(" ") == "08 08 3a 03 12 01 67 42 02 10 11 72 00"
    assert append_fields(data) == data


# Data that is not packed in one piece.


@st.composite
def scattered(draw: st.DrawFn) -> tuple[bytes, Array]:
    """The bytes of a tensor whose numbers come one by one or in pieces, among its other fields, in any order."""
    array = draw(arrays(draw(st.sampled_from([np.float32, np.float64])), st.integers(0, 12)))
    single, number = (fixed32, 4) if array.itemsize == 4 else (fixed64, 10)
    pieces, rest = [], array
    while len(rest):
        count = draw(st.integers(1, len(rest)))
        piece, rest = rest[:count], rest[count:]
        if draw(st.booleans()):
            pieces.append(block(number, piece.tobytes(), length=draw(st.integers(0, 4))))
        else:
            pieces += [single(number, element.tobytes()) for element in piece]
        if draw(st.booleans()):
            pieces.append(block(number, b""))
    others = [number_field(1, len(array)), number_field(2, {4: 1, 8: 11}[array.itemsize]), block(8, b"name")]
    for other in others:
        pieces.insert(draw(st.integers(0, len(pieces))), other)
    return b"".join(pieces), array


@settings(deadline=None, max_examples=200)
@given(tensor=scattered(), before=st.binary(max_size=5))
def test_numbers_in_pieces_or_one_by_one_are_found_in_order(tensor: tuple[bytes, Array], before: bytes) -> None:
    message, array = tensor
    parsed = TensorProto.FromString(message)
    assert numpy_helper.to_array(parsed).tobytes() == array.tobytes()  # protobuf reads it so
    data = before + message
    spans = locate_elements(data, Span(len(before), len(data)), array.itemsize)
    assert join(data, spans) == array.tobytes()
    assert all(len(span) % array.itemsize == 0 for span in spans)


@settings(deadline=None, max_examples=200)
@given(tensor=scattered(), data=st.data())
def test_elements_are_overwritten_wherever_they_lie_and_nothing_else_is(
    tensor: tuple[bytes, Array], data: st.DataObject
) -> None:
    message, array = tensor
    file = bytearray(message)
    spans = locate_elements(file, Span(0, len(file)), array.itemsize)
    start = data.draw(st.integers(0, array.nbytes))
    new = data.draw(st.binary(max_size=array.nbytes - start))
    overwrite(file, spans, start, new)
    old = array.tobytes()
    assert join(file, spans) == old[:start] + new + old[start + len(new) :]
    inside = np.zeros(len(file), bool)
    for span in spans:
        inside[span.start : span.end] = True
    assert bytes(np.frombuffer(file, np.uint8)[~inside]) == bytes(np.frombuffer(message, np.uint8)[~inside])


@pytest.mark.parametrize(("offset", "new"), [(0, b"123456789"), (8, b"1"), (5, b"1234")])
def test_more_bytes_than_there_is_room_for_are_a_bug_of_ours(offset: int, new: bytes) -> None:
    with pytest.raises(AssertionError, match="do not fit"):
        overwrite(bytearray(20), [Span(2, 6), Span(10, 14)], offset, new)


def test_of_raw_data_that_is_given_twice_the_last_counts() -> None:
    message = number_field(1, 1) + number_field(2, 1) + block(9, b"1111") + block(9, b"2222")
    assert TensorProto.FromString(message).raw_data == b"2222"
    assert join(message, locate_elements(message, Span(0, len(message)), 4)) == b"2222"


def test_raw_data_wins_over_numbers() -> None:
    message = number_field(1, 1) + number_field(2, 1) + block(9, b"1111") + block(4, b"2222")
    assert numpy_helper.to_array(TensorProto.FromString(message)).tobytes() == b"1111"
    assert join(message, locate_elements(message, Span(0, len(message)), 4)) == b"1111"


def test_external_data_and_varints_have_no_elements_in_the_file() -> None:
    external = TensorProto(dims=[2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    external.external_data.add(key="location", value="weights.bin")
    halves = TensorProto(dims=[2], data_type=TensorProto.FLOAT16, int32_data=[15360, 0])
    for tensor, itemsize in ((external, 4), (halves, 2)):
        data = tensor.SerializeToString()
        assert locate_elements(data, Span(0, len(data)), itemsize) == []


# Adding and taking away.


@settings(deadline=None, max_examples=200)
@given(model=models_of_tensors(), graph=tensors(), key=names)
def test_what_was_appended_can_be_removed_to_the_byte(model: onnx.ModelProto, graph: TensorProto, key: str) -> None:
    graph.name, key = "ours." + graph.name, "ours." + key
    data = model.SerializeToString()
    added_graph = onnx.GraphProto(initializer=[graph]).SerializeToString()
    added_model = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key=key)]).SerializeToString()
    grown = append_fields(data, graph=added_graph, model=added_model)

    parsed = onnx.ModelProto.FromString(grown)
    assert parsed.graph.initializer[-1] == graph
    assert parsed.metadata_props[-1].key == key
    del parsed.graph.initializer[-1], parsed.metadata_props[-1]
    assert parsed == model

    assert remove_fields(grown, graph=is_ours, model=is_ours) == data
    assert remove_fields(data, graph=is_ours, model=is_ours) == data


def is_ours(field: Field, data: wire.Buffer) -> bool:
    return field.number in (wire.INITIALIZER, wire.METADATA_PROPS) and b"ours." in bytes(data[field.value : field.end])


def test_fields_that_no_parser_knows_survive() -> None:
    graph = block(2, b"g") + block(900, b"unknown") + number_field(901, 5)
    data = number_field(1, 8) + block(wire.GRAPH, graph) + block(950, b"unknown too") + fixed32(951, b"1234")
    tensor = onnx.GraphProto(initializer=[TensorProto(name="ours.")]).SerializeToString()
    grown = append_fields(data, graph=tensor, model=block(wire.METADATA_PROPS, block(1, b"ours.")))
    assert onnx.ModelProto.FromString(grown).graph.initializer[0].name == "ours."
    assert remove_fields(grown, graph=is_ours, model=is_ours) == data


def test_a_length_written_with_more_bytes_than_it_needs_survives_or_is_refused() -> None:
    # Writers that do not know a length in advance leave room for it.
    data = number_field(1, 8) + block(wire.GRAPH, block(2, b"g"), length=5) + block(8, number_field(2, 17))
    assert onnx.ModelProto.FromString(data).graph.name == "g"
    tensor = onnx.GraphProto(initializer=[TensorProto(name="ours.")]).SerializeToString()
    try:
        grown = append_fields(data, graph=tensor)
    except ModelFileError:
        return
    assert remove_fields(grown, graph=is_ours, model=is_ours) == data


# Files made to harm.

PATHS = tensor_paths(models.constant_nodes()).keys() | tensor_paths(models.chain()).keys()
SMALL = [onnx.ModelProto.SerializeToString(model) for model in (models.constant_nodes(), models.chain())]


def walk(data: bytes) -> None:
    """Whatever the package does with the bytes of a file."""
    for field in fields(data, Span(0, len(data))):
        assert field.start < field.value <= field.end <= len(data)
    for path in PATHS:
        span = locate(data, [path])[path]
        for itemsize in (4, 8):
            for elements in locate_elements(data, span, itemsize):
                assert span.start <= elements.start <= elements.end <= span.end


def edit(data: bytes) -> None:
    append_fields(data, graph=b"\x2a\x00", model=b"\x72\x00")


def strip(data: bytes) -> None:
    remove_fields(data, graph=is_stored, model=is_stored)


def is_stored(field: Field, data: wire.Buffer) -> bool:
    return field.number in (wire.INITIALIZER, wire.METADATA_PROPS)


def harmless(data: bytes) -> None:
    for action in (walk, edit, strip):
        with contextlib.suppress(ModelFileError):
            action(data)


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=60))
@example(b"")
@example(b"\x3a" + b"\xff" * 20)
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
@example(b"\x3b\x3c")
def test_random_bytes_are_refused_or_walked(data: bytes) -> None:
    harmless(data)


@settings(deadline=None, max_examples=150)
@given(which=st.integers(0, 1), length=st.floats(0, 1))
def test_a_truncated_file_is_refused_or_walked(which: int, length: float) -> None:
    harmless(SMALL[which][: int(length * len(SMALL[which]))])


@settings(deadline=None, max_examples=150)
@given(
    which=st.integers(0, 1), changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=4)
)
def test_a_file_with_damaged_bytes_is_refused_or_walked(which: int, changes: list[tuple[float, bytes]]) -> None:
    data = bytearray(SMALL[which])
    for place, new in changes:
        at = int(place * (len(data) - 5))
        data[at : at + len(new)] = new
    harmless(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08", "the file breaks off or is damaged at byte 1"),
        (b"\x08\x96", "the file breaks off or is damaged at byte 2"),
        (b"\x80" * 11, "the file breaks off or is damaged at byte 10"),
        (b"\x12\x05hell", "the protobuf field at byte 0 runs past the end of its message"),
        (b"\x08\x01\x0d123", "the protobuf field at byte 2 runs past the end of its message"),
        (b"\x091234567", "the protobuf field at byte 0 runs past the end of its message"),
        (b"\x02\x00", "the protobuf field at byte 0 runs past the end of its message"),  # there is no field 0
        (b"\x0b\x0c", "expected a protobuf field at byte 0, found wire type 3"),
        (b"\x0f", "expected a protobuf field at byte 0, found wire type 7"),
    ],
)
def test_damage_is_told_with_its_place(data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=f"^{re.escape(message)}$"):
        list(fields(data, Span(0, len(data))))


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_with_no_graph_or_two_is_refused(count: int) -> None:
    data = number_field(1, 8) + block(wire.GRAPH, block(2, b"g")) * count
    for action in (lambda: locate(data, []), lambda: append_fields(data, graph=b"\x2a\x00")):
        with pytest.raises(ModelFileError, match=f"expected one graph in the file, found {count}; save it again"):
            action()


def test_a_path_that_leads_nowhere_is_refused() -> None:
    data = SMALL[1]
    with pytest.raises(ModelFileError, match="expected at least 100 fields 5 in a message, found 7"):
        locate(data, [((wire.GRAPH, 0), (wire.INITIALIZER, 99))])
    with pytest.raises(ModelFileError, match="expected at least 1 fields 5 in a message, found 0"):
        locate(data, [((wire.GRAPH, 0), (wire.NODE, 1), (wire.ATTRIBUTE, 0), (wire.ATTRIBUTE_TENSOR, 0))])


def test_a_field_of_the_wrong_wire_type_is_not_counted() -> None:
    # A parser keeps such a field as unknown; were it counted, all places behind it would be off by one.
    tensor = numpy_helper.from_array(np.array([1, 2], np.float32), "w").SerializeToString()
    graph = number_field(wire.INITIALIZER, 3) + block(wire.INITIALIZER, tensor)
    data = number_field(1, 8) + block(wire.GRAPH, graph)
    assert [entry.name for entry in onnx.ModelProto.FromString(data).graph.initializer] == ["w"]
    path = ((wire.GRAPH, 0), (wire.INITIALIZER, 0))
    try:
        span = locate(data, [path])[path]
    except ModelFileError:
        return
    assert data[span.start : span.end] == tensor


def test_elements_of_the_wrong_wire_type_are_not_elements() -> None:
    message = number_field(1, 1) + number_field(2, 1) + number_field(4, 2**27) + fixed32(4, struct.pack("<f", 1.5))
    assert list(TensorProto.FromString(message).float_data) == [1.5]
    assert join(message, locate_elements(message, Span(0, len(message)), 4)) == struct.pack("<f", 1.5)


def test_a_tensor_of_an_attribute_in_two_pieces_is_found_whole_or_refused() -> None:
    # Legal protobuf: pieces of a message are merged. Then the elements are not where the first piece says.
    first = number_field(1, 1) + number_field(2, 1) + block(9, b"1111")
    second = block(9, b"2222")
    attribute = block(1, b"value") + block(5, first) + block(5, second) + number_field(20, 4)
    node = block(2, b"w") + block(4, b"Constant") + block(5, attribute)
    data = number_field(1, 8) + block(wire.GRAPH, block(wire.NODE, node))
    assert onnx.ModelProto.FromString(data).graph.node[0].attribute[0].t.raw_data == b"2222"
    path = ((wire.GRAPH, 0), (wire.NODE, 0), (wire.ATTRIBUTE, 0), (wire.ATTRIBUTE_TENSOR, 0))
    try:
        span = locate(data, [path])[path]
    except ModelFileError:
        return
    assert join(data, locate_elements(data, span, 4)) == b"2222"
