"""Sign, Floor, Ceil and Round, whose derivative is zero wherever there is one.

The runtime has no gradient for them and does not know that none is needed. It does know that none passes a Cast to
integers, which these numbers are: so they are cast to int64 and back. Lower them wherever they are: they lie on no gradient
path, but the runtime takes them for a part of one.
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.graphs.operators import STEPS
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerStepFunctions(Lowering):
    """Lets no gradient reach Sign, Floor, Ceil and Round."""

    op_types: ClassVar = STEPS

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the step, and behind it the casts."""
        step = emit(node.op_type, first_input(node))
        return emit.cast(emit.cast(step, ir.DataType.INT64), ir.DataType.FLOAT)
