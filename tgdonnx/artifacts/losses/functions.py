"""The losses, one row each: formulas, options, messages and tasks follow from this table.

To add one, write its nodes and its row in `tgdonnx.artifacts.losses.pointwise`, or in a module as
`tgdonnx.artifacts.losses.ssim` is, and put the row here.
"""

from __future__ import annotations

from tgdonnx.artifacts.losses.function import LossFunction
from tgdonnx.artifacts.losses.pointwise import BCE, CE, CHARBONNIER, L1, MSE
from tgdonnx.artifacts.losses.ssim import SSIM

FUNCTIONS: tuple[LossFunction, ...] = (MSE, L1, BCE, CE, CHARBONNIER, SSIM)

BY_NAME = {each.name: each for each in FUNCTIONS}
LOSSES = tuple(BY_NAME)
RANGED_LOSSES = tuple(each.name for each in FUNCTIONS if each.is_ranged)
