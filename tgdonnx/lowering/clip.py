"""Clip with limits that filters compute, through which the rule of Clip lets no gradient pass.

clip(x, least, most) = min(max(x, least), most)
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input, optional_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerClip(Lowering):
    """Replaces every Clip with a limit that a gradient passes."""

    op_types: ClassVar = frozenset(["Clip"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the limits as Max and Min."""
        least, most = optional_input(node, 1), optional_input(node, 2)
        if not any(limit is not None and self.passes_gradient(limit) for limit in (least, most)):
            return None
        x = first_input(node)
        if least is not None:
            x = emit("Max", x, least)
        return x if most is None else emit("Min", x, most)
