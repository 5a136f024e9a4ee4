"""Training on the machine where the model is deployed.

``training``: from data and options to a report; ``loop``: step, record, save. Around them, one idea each:

    options         what a user chooses               state         where a run stands; what a resumed run must share
    schedules       learning rates                    run_record    run.json: what a run is
    session         the runtime, and checkpoints      logs          log.jsonl and log.csv
    evaluation      loss and metrics of a data set    tensorboard   the same for TensorBoard
    metrics         PSNR, SSIM, RMSE, accuracy, Dice  reports       what a run tells
    retention       the vendor's own task             interruption  signals that stop a run
    cost_estimate   what a run will cost              stopping      the other reasons to stop
    disk_space      room on the disk for it           data          what a run reads
    agreement       images without targets, mixed     watching      who looks on
    kept            what a run has left               recording     what is written down when a run starts
"""

from tgdonnx.finetuning.agreement import with_agreement
from tgdonnx.finetuning.cost_estimate import dry_run
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.disk_space import Need, needs_of_run, require_space
from tgdonnx.finetuning.kept import steps_kept, why_over
from tgdonnx.finetuning.metrics import METRICS, MetricName
from tgdonnx.finetuning.noise2noise import Noise2Noise
from tgdonnx.finetuning.options import DEFAULT_AGREE_SHARE, TrainOptions
from tgdonnx.finetuning.reports import Best, BlendCurve, BlendPoint, DryRunReport, Epoch, Progress, Stop, TrainReport
from tgdonnx.finetuning.schedules import SCHEDULES, ScheduleName
from tgdonnx.finetuning.training import train
from tgdonnx.finetuning.watching import Watch

__all__ = [
    "DEFAULT_AGREE_SHARE",
    "METRICS",
    "SCHEDULES",
    "Best",
    "BlendCurve",
    "BlendPoint",
    "DryRunReport",
    "Epoch",
    "MetricName",
    "Need",
    "Noise2Noise",
    "Progress",
    "RunData",
    "ScheduleName",
    "Stop",
    "TrainOptions",
    "TrainReport",
    "Watch",
    "dry_run",
    "needs_of_run",
    "require_space",
    "steps_kept",
    "train",
    "why_over",
    "with_agreement",
]
