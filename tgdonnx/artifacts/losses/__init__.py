"""Losses, as nodes at the end of the graph.

Each takes the model's output y and a new graph input ``target``, t, and gives the scalar ``loss``, a mean over all elements:

    mse          mean((y - t)^2)
    l1           mean(|y - t|)
    bce          mean(log(1 + exp(x)) - x t), x the logits: binary cross-entropy, in a form that does not overflow
    ce           softmax cross-entropy over the axis of classes of the logits; t holds class indices, int64, without that axis
    charbonnier  mean(sqrt((y - t)^2 + eps^2)), eps = 0.001 times the range of the data
    ssim         1 - mean SSIM; see `tgdonnx.artifacts.losses.ssim`

or their sum with weights, as in ``0.8*l1+0.2*ssim``. Where the model ends in Sigmoid (bce) or in Softmax over the axis of
classes (ce), the logits are what goes into it. Otherwise the output itself is taken for logits. The axis of classes is 1, or
the last where the model says so; see `tgdonnx.artifacts.losses.logits.class_axis`.

``functions``: the table of losses; ``function``: what a row says; ``pointwise``, ``ssim``: their nodes; ``formula``: sums of
them; ``adding``: at the end of a graph.
"""

from tgdonnx.artifacts.losses.adding import LOSS, add_loss
from tgdonnx.artifacts.losses.formula import Loss, Term, parse_loss
from tgdonnx.artifacts.losses.functions import FUNCTIONS, LOSSES, RANGED_LOSSES
from tgdonnx.artifacts.losses.logits import before, class_axis

__all__ = [
    "FUNCTIONS",
    "LOSS",
    "LOSSES",
    "RANGED_LOSSES",
    "Loss",
    "Term",
    "add_loss",
    "before",
    "class_axis",
    "parse_loss",
]
