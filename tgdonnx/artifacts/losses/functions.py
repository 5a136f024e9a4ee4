"""The losses, one row each: formulas, options, messages and tasks follow from this table.

To add one, write it as a class in `tgdonnx.artifacts.losses.pointwise`, or in a module as `tgdonnx.artifacts.losses.ssim` is,
and put it here. The fields of the class are the parameters that a user may give.
"""

from __future__ import annotations

from tgdonnx.artifacts.losses.cross_entropy import Ce, ClassFocal
from tgdonnx.artifacts.losses.function import LossFunction
from tgdonnx.artifacts.losses.overlap import ClassDice, Dice
from tgdonnx.artifacts.losses.pointwise import L1, Bce, Charbonnier, Focal, Huber, Mse, Pinball
from tgdonnx.artifacts.losses.ssim import Ssim

FUNCTIONS: tuple[type[LossFunction], ...] = (
    Mse, L1, Huber, Charbonnier, Pinball, Ssim, Bce, Focal, Dice, Ce, ClassFocal, ClassDice
)  # fmt: skip

BY_NAME = {each.name: each for each in FUNCTIONS}
LOSSES = tuple(BY_NAME)
RANGED_LOSSES = tuple(each.name for each in FUNCTIONS if each.is_ranged)
