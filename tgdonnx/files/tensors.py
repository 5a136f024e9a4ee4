"""Every tensor that a model file stores, wherever it stands in it: the one walk over a file that all share.

A TensorProto can be an initializer, the values or indices of a sparse one, an attribute of a node (one tensor, several, sparse
ones), and any of these in subgraphs at any depth, in local functions and the defaults of their attributes, and in training
info. The walk follows the descriptors of onnx.proto rather than a list of such places, so there is none that it leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Optional

import onnx
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from onnx import helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire

_TENSOR = onnx.TensorProto.DESCRIPTOR.full_name
_MOST_DIGITS = 19  # of a place in a file, which 64 bits hold


@dataclass(frozen=True)
class External:
    """Where the data of a tensor lies outside of its file, as the file says; nothing is looked up.

    Attributes:
        location: the file, relative to the model's directory.
        offset: of the first byte.
        length: in bytes; None if the file does not say.
    """

    location: str
    offset: int
    length: Optional[int]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        path: where its TensorProto lies in the bytes of the file, for `wire.locate`.
        proto: the parsed tensor.
    """

    path: wire.FieldPath
    proto: onnx.TensorProto = field(repr=False)

    @property
    def is_external(self) -> bool:
        """Whether its data lies in another file."""
        return bool(self.proto.data_location == onnx.TensorProto.EXTERNAL)

    @property
    def location(self) -> str:
        """The file that holds its external data, as the model names it; empty if it names none."""
        return next((str(entry.value) for entry in reversed(self.proto.external_data) if entry.key == "location"), "")

    @property
    def external(self) -> External:
        """Where its external data lies.

        Raises:
            ModelFileError: the file does not say, or says it twice, or not in whole numbers from 0 on.
        """
        entries: dict[str, str] = {}
        for entry in self.proto.external_data:
            if entry.key in entries:
                raise ModelFileError(f"the external data of {self.proto.name!r} has two entries {entry.key!r}")
            entries[entry.key] = str(entry.value)
        if not entries.get("location"):
            raise ModelFileError(f"the external data of {self.proto.name!r} has no location")
        offset, length = (self._number(entries, key) for key in ("offset", "length"))
        return External(entries["location"], offset or 0, length)

    def _number(self, entries: dict[str, str], key: str) -> Optional[int]:
        text = entries.get(key)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise ModelFileError(
                f"the external data of {self.proto.name!r} has the {key} {text[:40]!r}; expected a number of bytes"
            )
        return int(text)

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take as raw or external data, by its type and dimensions."""
        return -(-math.prod(map(int, self.proto.dims)) * bits_of(self.proto.data_type) // 8)


def bits_of(data_type: int) -> int:
    """Returns how many bits raw data takes for an element of a type of onnx.proto; 0 for text, which is never raw."""
    types = onnx.TensorProto
    if data_type == types.STRING:
        return 0
    name = types.DataType.Name(data_type)
    if name.endswith(("INT4", "FLOAT4E2M1")):
        return 4
    return 2 if name.endswith("INT2") else 8 * int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def walk_tensors(model: onnx.ModelProto) -> Iterator[StoredTensor]:
    """Yields every tensor of a model, in the order of onnx.proto's fields, with what they are in as `describe` tells it."""
    pending: list[tuple[Message, wire.FieldPath]] = [(model, ())]
    while pending:
        message, path = pending.pop()
        if isinstance(message, onnx.TensorProto):
            yield StoredTensor(path, message)
            continue
        inner: list[tuple[Message, wire.FieldPath]] = []
        for number, name, is_repeated in _ways(message.DESCRIPTOR):
            if is_repeated:
                inner += [(each, (*path, (number, index))) for index, each in enumerate(getattr(message, name))]
            elif message.HasField(name):
                inner.append((getattr(message, name), (*path, (number, 0))))
        pending += reversed(inner)


def tensor_at(model: onnx.ModelProto, path: wire.FieldPath) -> onnx.TensorProto:
    """Returns the tensor of a parsed model that lies at a place of its file."""
    *_, tensor = _messages(model, path)
    assert isinstance(tensor, onnx.TensorProto)
    return tensor


def describe(model: onnx.ModelProto, path: wire.FieldPath) -> str:
    """Says in words where something lies in a model, from the inside out.

    Args:
        model: the model.
        path: to a tensor, or to another message that is not directly in the model.
    """
    words: list[str] = []
    messages = [model, *_messages(model, path)]
    for (number, index), outer, message in zip(path, messages, messages[1:]):
        label = _label(outer.DESCRIPTOR.fields_by_number[number].name, index, message)
        if label:
            words.append(label)
    return " of ".join(reversed(words))


def _label(name: str, index: int, message: Any) -> str:
    """Says what a message is that is in a field; nothing if that is said by what is around it, or inside."""
    if name == "node":
        own = message.name or (message.output[0] if message.output else "")
        return f"the node {own!r} ({message.op_type})"
    if name == "sparse_initializer":
        return f"the sparse initializer {message.values.name!r}"
    if name == "functions":
        return f"the function {message.name!r}"
    if name == "training_info":
        return f"training info {index}"
    if name in ("attribute", "attribute_proto"):
        return f"the attribute {message.name!r}"
    if name in ("values", "indices"):
        return f"the {name}"
    if name == "initializer":
        return f"the tensor {message.name!r}"
    if name in ("tensors", "sparse_tensors", "graphs"):
        return f"number {index}"
    return ""


def _messages(model: onnx.ModelProto, path: wire.FieldPath) -> Iterator[Any]:
    """Yields the messages on the way to a place."""
    message: Any = model
    for number, index in path:
        description = message.DESCRIPTOR.fields_by_number[number]
        value = getattr(message, description.name)
        message = value[index] if wire.is_repeated(description) else value
        yield message


@cache
def _ways(message: Descriptor) -> tuple[tuple[int, str, bool], ...]:
    """Returns the fields of a message in which tensors can be, at any depth: number, name, and whether it is repeated."""
    fields: list[FieldDescriptor] = [f for f in message.fields if f.message_type and _holds_tensors(f.message_type)]
    return tuple((f.number, f.name, wire.is_repeated(f)) for f in fields)


@cache
def _holds_tensors(message: Descriptor) -> bool:
    """Whether a message is a tensor or may have one in it; messages may be in messages of their own kind."""
    seen, pending = {message.full_name}, [message]
    while pending:
        current = pending.pop()
        if current.full_name == _TENSOR:
            return True
        for each in current.fields:
            if each.message_type and each.message_type.full_name not in seen:
                seen.add(each.message_type.full_name)
                pending.append(each.message_type)
    return False
