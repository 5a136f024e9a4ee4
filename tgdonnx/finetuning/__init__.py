"""Training on the machine where the model is deployed.

``agreement``: images without targets mixed into them; ``schedules``:
learning rates; ``session``: the runtime's module, optimizer and checkpoints; ``training``: the loop.
"""

from tgdonnx.finetuning.agreement import with_agreement
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName
from tgdonnx.finetuning.training import Best, Epoch, Progress, TrainOptions, TrainReport, train

__all__ = [
    "SCHEDULES",
    "Best",
    "Epoch",
    "Progress",
    "ScheduleName",
    "TrainOptions",
    "TrainReport",
    "train",
    "with_agreement",
]
