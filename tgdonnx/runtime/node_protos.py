"""A node of a ModelProto with what is known of what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import onnx
from numpy.typing import NDArray

Shape = tuple[Optional[int], ...]


@dataclass(frozen=True)
class NodeProtoView:
    """A node with what is known of what it reads.

    Attributes:
        node: the node.
        opset: the version of the operator set that its operator is of.
        shapes: by name the sizes of values, None for unknown ones; values of unknown rank are left out.
        constants: by name what small stored tensors hold.
    """

    node: onnx.NodeProto
    opset: int
    shapes: Mapping[str, Shape] = field(repr=False)
    constants: Mapping[str, NDArray[Any]] = field(repr=False)

    @property
    def name(self) -> str:
        """Its name, or that of its first output; empty if it has none."""
        return str(self.node.name or (self.node.output[0] if self.node.output else ""))

    @property
    def label(self) -> str:
        """How a message calls the node."""
        return f"node {self.name!r} ({self.node.op_type})"

    def input(self, index: int) -> str:
        """The name of an input; empty if it is left out."""
        return str(self.node.input[index]) if index < len(self.node.input) else ""

    def shape(self, index: int) -> Optional[Shape]:
        """The shape of an input; None if its rank is not known."""
        return self.shapes.get(self.input(index))

    def constant(self, index: int) -> Optional[NDArray[Any]]:
        """What an input holds, if it is stored and small."""
        return self.constants.get(self.input(index))

    def integers(self, name: str) -> Optional[Sequence[int]]:
        """An attribute of whole numbers, or of one; None if the node does not have it."""
        for attribute in self.node.attribute:
            if attribute.name == name and not attribute.ref_attr_name:
                return list(attribute.ints) if attribute.type == onnx.AttributeProto.INTS else [attribute.i]
        return None

    def graph(self, name: str) -> Optional[onnx.GraphProto]:
        """A body or branch; None if the node does not have it."""
        return next((a.g for a in self.node.attribute if a.name == name and a.HasField("g")), None)
