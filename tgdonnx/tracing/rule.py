"""What a tracing rule is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import onnx_ir as ir

from tgdonnx.tracing.origins import OriginIds, OriginTable

# (node, origins of its inputs, table) -> origins of its first output. An input that is left out has the origin of a
# constant. A rule raises UntraceableError when it cannot tell.
Rule = Callable[[ir.Node, Sequence[OriginIds], OriginTable], OriginIds]


class UntraceableError(Exception):
    """This node's output depends on its inputs in a way that the rule cannot follow; the message says why."""


def int_attribute(node: ir.Node, name: str, default: Optional[int] = None) -> Optional[int]:
    """Returns an integer attribute, or ``default``."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
