"""Rounding to a grid, with a straight-through gradient; see `tgdonnx.lowering.quantized` for why, and whose it is.

    y = (limit(round(x / s) + z, least, most) - z) s        dX = dY where the limits change nothing, else 0

The forward graph has it as one node of our own, whose second output tells where the limits change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.lowering.fake_quantize import DOMAIN, FAKE_QUANTIZE


@rule(FAKE_QUANTIZE, carries=(0,), domain=DOMAIN)
def _fake_quantize(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Mul", step.dy, step.build.cast(step.node.outputs[1], step.x))}
