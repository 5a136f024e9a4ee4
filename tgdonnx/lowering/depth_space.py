"""DepthToSpace and SpaceToDepth, as swaps of neighbouring axes.

The channels of the small image are ordered (c, row, column) in mode CRD, and (row, column, c) in mode DCR, which is the
default; SpaceToDepth has a mode in new operator sets only.
"""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute, int64
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.pixel_shuffle import pixel_shuffle, pixel_unshuffle


class LowerDepthSpace(Lowering):
    """Replaces DepthToSpace and SpaceToDepth nodes."""

    op_types = frozenset({"DepthToSpace", "SpaceToDepth"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the swaps."""
        a = Arithmetic(emit)
        return a.tidy(_lowered(a, node))


def _lowered(a: Arithmetic, node: ir.Node) -> ir.Value:
    x, block = first_input(node), attribute(node, "blocksize", 1)
    if x.shape is not None and len(x.shape) != 4:
        raise a.refusal(f"has an input of rank {len(x.shape)}; it must be 4", "export the model again")
    channels, height, width = (a.size(x, axis) for axis in (1, 2, 3))
    area, block_last = int64(block * block), attribute(node, "mode", "DCR") == "CRD"
    if node.op_type == "DepthToSpace":
        channels = a.divide(channels, area)
        x = x if block_last else _swap_channels(a, x, area, channels)
        return pixel_shuffle(a, x, channels=channels, factors=[block, block], sizes=[height, width])
    sizes = [a.divide(size, int64(block)) for size in (height, width)]
    x = pixel_unshuffle(a, x, channels=channels, factors=[block, block], sizes=sizes)
    if block_last:
        return x
    return a.reshape(_swap_channels(a, x, channels, area), [0, a.compute("Mul", channels, area), *sizes])


def _swap_channels(a: Arithmetic, x: ir.Value, slow: Number, fast: Number) -> ir.Value:
    """Reorders channels from (slow, fast) to (fast, slow); the result has the axes N, fast, slow, pixel."""
    return a.emit("Transpose", a.reshape(x, [0, slow, fast, -1]), perm=[0, 2, 1, 3])
