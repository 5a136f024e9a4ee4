"""Training on the machine where the model is deployed.

``training``: from data and options to a report; ``loop``: step, record, save. Around them, one idea each:

    options         what a user chooses               state         where a run stands; what a resumed run must share
    data            arrays matched to inputs          record        run.json: what a run is
    schedules       learning rates                    logs          log.jsonl and log.csv
    session         the runtime, and checkpoints      tensorboard   the same for TensorBoard
    evaluation      loss and metrics of a data set    reports       what a run tells
    metrics         PSNR, SSIM, RMSE, accuracy, Dice  interruption  signals that stop a run
    retention       the vendor's own task             stopping      the other reasons to stop
    rehearsal       what a run will cost              agreement     images without targets, mixed into the data
"""

from tgdonnx.finetuning.agreement import with_agreement
from tgdonnx.finetuning.data import Dataset, DataSource, open_dataset
from tgdonnx.finetuning.metrics import METRICS, MetricName
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.rehearsal import dry_run
from tgdonnx.finetuning.reports import Best, DryRunReport, Epoch, Progress, Stop, TrainReport
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName
from tgdonnx.finetuning.training import train

__all__ = [
    "METRICS",
    "SCHEDULES",
    "Best",
    "DataSource",
    "Dataset",
    "DryRunReport",
    "Epoch",
    "MetricName",
    "Progress",
    "ScheduleName",
    "Stop",
    "TrainOptions",
    "TrainReport",
    "dry_run",
    "open_dataset",
    "train",
    "with_agreement",
]
