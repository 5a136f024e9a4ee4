"""LRN over an even number of channels, which ONNX Runtime does not run: an element over a power of the squares around it.

    y[c] = x[c] / (bias + alpha / size * sum of x[i]^2, i from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2))^beta

The sum is a 1x1 convolution of the squares with a band matrix of ones.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.nodes import first_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerLRN(Lowering):
    """Replaces LRN of even sizes."""

    op_types: ClassVar = frozenset(["LRN"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the sum of squares as a Conv, and the rest as arithmetic."""
        x, size = first_input(node), node.attributes["size"].as_int()
        if size % 2:
            return None
        rank = emit.rank(x)
        channels = x.shape[1] if x.shape is not None and rank > 1 else None
        if not isinstance(channels, int) or rank < 3:
            raise emit.refusal(
                f"has an input of shape {x.shape}, of which the channels must be known and at least one axis follow",
                "declare the shapes of the inputs of the model",
            )
        offsets = np.arange(channels)[None] - np.arange(channels)[:, None]
        band = (offsets >= -((size - 1) // 2)) & (offsets <= size // 2)
        weight = band.astype(np.float32).reshape(channels, channels, *(1,) * (rank - 2))
        scale = node.attributes.get_float("alpha", 1e-4) / size
        total = emit("Mul", emit("Conv", emit("Mul", x, x), emit.constant(weight)), emit.scalar(scale))
        base = emit("Add", total, emit.scalar(node.attributes.get_float("bias", 1.0)))
        return emit("Mul", x, emit("Pow", base, emit.scalar(-node.attributes.get_float("beta", 0.75))))
