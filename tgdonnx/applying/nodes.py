"""A node, with what is known of receptive fields where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.applying.reach import Reach
from tgdonnx.layers import Network

Axes = tuple[Optional[Reach], ...]


class NotLocal(Exception):  # noqa: N818  # no error: the network runs on whole images then
    """Says why a node has no receptive field."""


@dataclass(frozen=True)
class View:
    """A node, and what is known where it stands.

    Attributes:
        network: the model.
        node: the node.
        known: the axes of values that depend on the image.
        sized: values that depend on how large it is.
        opset: the version of the operator set.
    """

    network: Network
    node: ir.Node
    known: Mapping[ir.Value, Axes]
    sized: Set[ir.Value]
    opset: int

    def image(self, position: int = 0) -> Axes:
        """Returns the axes of an input that must depend on the image, where every other must not."""
        for index, value in enumerate(self.node.inputs):
            if value is not None and (value in self.known) != (index == position):
                raise NotLocal("combines several images, or computes an argument from one")
        value = self.node.inputs[position]
        assert value is not None
        return self.known[value]

    def stored(self, position: int, name: Optional[str] = None) -> Optional[NDArray[Any]]:
        """Returns the numbers of an input that is stored in the file, or of an attribute; None if there is none."""
        value = self.node.inputs[position] if position < len(self.node.inputs) else None
        if value is None:
            attribute = self.node.attributes.get(name or "")
            return None if attribute is None else np.asarray(attribute.value)
        if value in self.sized or value not in self.network.sizes.contents:
            raise NotLocal("takes an argument that depends on the size of the image")
        return self.network.sizes.contents[value]

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Returns the shape of a stored value."""
        if value in self.sized or value not in self.network.sizes.shapes:
            raise NotLocal("takes a tensor whose shape is not known, or depends on that of the image")
        return self.network.sizes.shapes[value]

    def integer(self, name: str, default: int) -> int:
        """Returns an attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else int(attribute.as_int())

    def integers(self, name: str, default: list[int]) -> list[int]:
        """Returns an attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else [int(i) for i in attribute.as_ints()]

    def text(self, name: str, default: str) -> str:
        """Returns an attribute."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.as_string()
