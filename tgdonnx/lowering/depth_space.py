"""DepthToSpace and SpaceToDepth, as swaps of neighbouring axes.

With block size b the channels are ordered (c, row, column) in mode CRD, (row, column, c) in mode DCR and in SpaceToDepth.
"""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute, int64
from tgdonnx.lowering.emitting import Emitter, Lowering, first_input
from tgdonnx.lowering.interleaving import deinterleave, interleave


class LowerDepthSpace(Lowering):
    """Replaces DepthToSpace and SpaceToDepth nodes."""

    op_types = frozenset({"DepthToSpace", "SpaceToDepth"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the swaps."""
        return _lowered(Arithmetic(emit), node)


def _lowered(a: Arithmetic, node: ir.Node) -> ir.Value:
    x, block = first_input(node), attribute(node, "blocksize", 1)
    if x.shape is None or len(x.shape) != 4:
        raise a.refusal(
            "has an input whose rank is not known, or is not 4", "declare the shapes of the inputs of the model"
        )
    channels, height, width = (a.size(x, axis) for axis in (1, 2, 3))
    area = int64(block * block)
    if node.op_type == "DepthToSpace":
        channels = a.divide(channels, area)
        if attribute(node, "mode", "DCR") == "DCR":
            x = _swap_channels(a, x, area, channels)
        return interleave(a, x, channels=channels, factors=[block, block], sizes=[height, width])
    sizes = [a.divide(size, int64(block)) for size in (height, width)]
    x = deinterleave(a, x, channels=channels, factors=[block, block], sizes=sizes)
    return a.reshape(_swap_channels(a, x, channels, area), [0, a.compute("Mul", channels, area), *sizes])


def _swap_channels(a: Arithmetic, x: ir.Value, slow: Number, fast: Number) -> ir.Value:
    """Reorders channels from (slow, fast) to (fast, slow); the result has the axes N, fast, slow, pixel."""
    return a.emit("Transpose", a.reshape(x, [0, slow, fast, -1]), perm=[0, 2, 1, 3])
