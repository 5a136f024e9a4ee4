"""Losses, as nodes at the end of the graph.

Each takes an output y of the model and a new graph input, its target t, and gives a scalar. Losses of values compare element by
element, by their mean; losses of masks take targets in 0 to 1; losses of class indices take targets, int64, without the
output's axis of classes. What each computes stands at its class; sums of them with weights, as in ``0.8*l1+0.2*ssim``, are
losses too, and what is minimised may be a sum over several outputs, as in ``boxes: l1, scores: 2*bce``.

Where the model ends in Sigmoid (losses of masks) or in Softmax over the axis of classes, the logits are what goes into it.
Otherwise the output itself is taken for logits. The axis of classes is 1, or the last where the model says so; see
`tgdonnx.artifacts.losses.logits.class_axis`.

``functions``: the table of losses; ``function``: what each is; ``pointwise``, ``ssim``, ``overlap``, ``cross_entropy``: their
nodes; ``means``, ``classes``, ``logits``: what these share; ``formula``: sums of them; ``criterion``: of several outputs;
``adding``: at the end of a graph.
"""

from tgdonnx.artifacts.losses.adding import LOSS, AddedLoss, add_loss, add_losses
from tgdonnx.artifacts.losses.criterion import Criterion, Part, parse_criterion
from tgdonnx.artifacts.losses.formula import Loss, Term, parse_loss
from tgdonnx.artifacts.losses.function import Targets
from tgdonnx.artifacts.losses.functions import FUNCTIONS, LOSSES, RANGED_LOSSES
from tgdonnx.artifacts.losses.logits import ClassAxis, before, class_axis

__all__ = [
    "FUNCTIONS",
    "LOSS",
    "LOSSES",
    "RANGED_LOSSES",
    "AddedLoss",
    "ClassAxis",
    "Criterion",
    "Loss",
    "Part",
    "Targets",
    "Term",
    "add_loss",
    "add_losses",
    "before",
    "class_axis",
    "parse_criterion",
    "parse_loss",
]
