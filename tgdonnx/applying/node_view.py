"""A node, with what is known of receptive fields where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Optional

import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.applying.reach import Reach
from tgdonnx.graphs.nodes import NodeView
from tgdonnx.layers import Network

Axes = tuple[Optional[Reach], ...]


class NotLocal(Exception):  # noqa: N818  # no error: the network runs on whole images then
    """Says why a node has no receptive field."""


@dataclass(frozen=True)
class ReceptiveView(NodeView):
    """A node, and what is known where it stands.

    Attributes:
        network: the model.
        known: the axes of values that depend on the image.
        sized: values that depend on how large it is.
    """

    network: Network
    known: Mapping[ir.Value, Axes]
    sized: Set[ir.Value]

    def image(self, position: int = 0) -> Axes:
        """Returns the axes of an input that must depend on the image, where every other must not."""
        for index, value in enumerate(self.node.inputs):
            if value is not None and (value in self.known) != (index == position):
                raise NotLocal("combines several images, or computes an argument from one")
        return self.known[self.input(position)]

    def content(self, value: ir.Value, what: str) -> NDArray[Any]:  # noqa: ARG002  # the message needs no more
        """Returns the numbers of an input that is stored in the file."""
        if value in self.sized or value not in self.network.sizes.contents:
            raise NotLocal("takes an argument that depends on the size of the image")
        return self.network.sizes.contents[value]

    def shape(self, value: ir.Value) -> tuple[int, ...]:
        """Returns the shape of a stored value."""
        if value in self.sized or value not in self.network.sizes.shapes:
            raise NotLocal("takes a tensor whose shape is not known, or depends on that of the image")
        return self.network.sizes.shapes[value]
