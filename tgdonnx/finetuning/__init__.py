"""Training on the machine where the model is deployed.

``data``: arrays matched to the model's inputs; ``agreement``: images without targets mixed into them; ``schedules``:
learning rates; ``session``: the runtime's module, optimizer and checkpoints; ``training``: the loop.
"""

from tgdonnx.finetuning.agreement import with_agreement
from tgdonnx.finetuning.data import Dataset, DataSource, open_dataset
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName
from tgdonnx.finetuning.training import Best, Epoch, Progress, TrainOptions, TrainReport, train

__all__ = [
    "SCHEDULES",
    "Best",
    "DataSource",
    "Dataset",
    "Epoch",
    "Progress",
    "ScheduleName",
    "TrainOptions",
    "TrainReport",
    "open_dataset",
    "train",
    "with_agreement",
]
