"""What a node says: attributes, with the defaults that ONNX gives them, and inputs that may be left out."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cache
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.operators import is_standard, schema_of


def name_of(node: ir.Node) -> str:
    """Returns how a message calls a node: its name in the vendor's file, or that of its first output if it has none."""
    return str(node.meta.get("name") or node.name or node.outputs[0].name)


def operator_of(node: ir.Node) -> str:
    """Returns how a message calls the operator of a node."""
    return node.op_type if is_standard(node) else f"{node.domain}.{node.op_type}"


def first_input(node: ir.Node) -> ir.Value:
    """Returns the first input of a node, which the operator requires."""
    return required_input(node, 0)


def required_input(node: ir.Node, place: int) -> ir.Value:
    """Returns an input that the operator requires."""
    value = node.inputs[place]
    assert value is not None
    return value


def optional_input(node: ir.Node, place: int) -> Optional[ir.Value]:
    """Returns an input, or None where the node has none there."""
    return node.inputs[place] if place < len(node.inputs) else None


def refusal(node: ir.Node, reason: str, remedy: str) -> UntrainableError:
    """Returns the error that says why a node stands in the way of training, and what would help."""
    name = name_of(node)
    message = f"node {name!r} ({operator_of(node)}) {reason}"
    return UntrainableError(message, remedy=remedy, node=name, op_type=node.op_type)


@dataclass(frozen=True)
class NodeView(abc.ABC):
    """A node as the rules of an analysis see it; the analysis says what is known of the tensors that it reads.

    An attribute that the node leaves out has the default that ONNX gives it in the operator set of the node. Where that set
    does not know it, or gives none, the caller says what its absence means.

    Attributes:
        node: the node.
        opset: the version of the default operator set.
    """

    node: ir.Node
    opset: int

    @abc.abstractmethod
    def content(self, value: ir.Value, what: str) -> NDArray[Any]:
        """Returns what a value holds.

        Args:
            value: an input of the node.
            what: its meaning, for the message.

        Raises:
            Exception: of the type of the analysis; the value is not known before the model runs.
        """

    def has(self, place: int) -> bool:
        """Whether the node has an input there."""
        return optional_input(self.node, place) is not None

    def input(self, place: int) -> ir.Value:
        """Returns an input that the operator requires."""
        return required_input(self.node, place)

    def stored(self, place: int, name: str) -> Optional[NDArray[Any]]:
        """Returns what an input holds, or the attribute that older operator sets have for it; None if there is neither.

        Raises:
            Exception: as `content`.
        """
        value = optional_input(self.node, place)
        if value is not None:
            return self.content(value, name)
        attribute = self.node.attributes.get(name)
        return None if attribute is None else np.asarray(attribute.value)

    def stored_integers(self, place: int, name: str) -> Optional[list[int]]:
        """Returns the same as a list of integers."""
        array = self.stored(place, name)
        return None if array is None else [int(number) for number in array.reshape(-1)]

    def integer(self, name: str, absent: int = 0) -> int:
        """Returns an integer attribute."""
        attribute = self._attribute(name)
        return absent if attribute is None else int(attribute.as_int())

    def integers(self, name: str) -> Optional[list[int]]:
        """Returns an attribute that is a list of integers; None where its absence means what the operator says."""
        attribute = self._attribute(name)
        return None if attribute is None else [int(number) for number in attribute.as_ints()]

    def text(self, name: str, absent: str = "") -> str:
        """Returns an attribute that is a word."""
        attribute = self._attribute(name)
        return absent if attribute is None else attribute.as_string()

    def _attribute(self, name: str) -> Optional[ir.Attr]:
        given = self.node.attributes.get(name)
        return _default(self.node.op_type, self.opset, name) if given is None and is_standard(self.node) else given


@cache
def _default(op_type: str, version: int, name: str) -> Optional[ir.Attr]:
    """Returns the default of an attribute in an operator set, if it has one."""
    schema = schema_of(op_type, version)
    if schema is None or name not in schema.attributes:
        return None
    proto = schema.attributes[name].default_value
    if proto.type == onnx.AttributeProto.UNDEFINED:
        return None
    attribute = ir.from_proto(proto)
    assert isinstance(attribute, ir.Attr)
    return attribute
