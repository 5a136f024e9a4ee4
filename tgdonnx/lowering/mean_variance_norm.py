"""MeanVarianceNormalization: (x - mean) / std over some axes, by default all but the channels.

The schema adds 1e-9 to the standard deviation. Here its square is added to the variance, which is the same where the
variance is zero or large, and leaves a finite gradient where it is zero.
"""

from __future__ import annotations

from typing import ClassVar, final

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.instance_norm import standardised


@final
class LowerMeanVarianceNormalization(Lowering):
    """Replaces MeanVarianceNormalization."""

    op_types: ClassVar = frozenset(["MeanVarianceNormalization"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the normalisation as reductions and arithmetic."""
        axes = list(node.attributes.get_ints("axes", [0, 2, 3]))
        return standardised(emit, first_input(node), axes, 1e-18)
