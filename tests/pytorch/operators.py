"""The interpreter with its table filled."""

from tests.pytorch import control, convolution, elementwise, moving, reductions
from tests.pytorch.interpreter import OPERATORS, gradients, run, tensor_of

__all__ = [
    "OPERATORS",
    "control",
    "convolution",
    "elementwise",
    "gradients",
    "moving",
    "reductions",
    "run",
    "tensor_of",
]
