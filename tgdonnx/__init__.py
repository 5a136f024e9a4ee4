"""Adapt other people's ONNX conv nets on the machine where they run, and change nothing else.

The verbs of the command line as functions, each returning a frozen dataclass:

    score, trace, inspect     what is in a model
    check                     can it be trained here, operator by operator
    sweep                     the drop test over phi, and the phi that it recommends
    mask                      choose filters, write a masked model
    build, train, export      artifacts for ONNX Runtime, training, the tuned model
    apply                     a model on a whole image or volume, by tiles
    verify                    proof that nothing but retrained filters changed
    finetune                  all of it in one go
    compare                   several selections at equal budget, on new and old data
    report                    a run as one HTML page
"""

from tgdonnx.applying import ApplyReport, apply
from tgdonnx.artifacts import BuildReport, build
from tgdonnx.checking import CheckReport, check
from tgdonnx.comparing import CompareReport, compare
from tgdonnx.data import DataOptions, Scaling
from tgdonnx.errors import TgdonnxError
from tgdonnx.finetuning import Noise2Noise, Progress, TrainOptions, TrainReport, train
from tgdonnx.inspection import InspectReport, inspect
from tgdonnx.masks import MaskReport, mask
from tgdonnx.pipeline import FinetuneReport, finetune
from tgdonnx.regrowing import Rebirth
from tgdonnx.reporting import PageReport, report
from tgdonnx.scoring import ScoreReport, score
from tgdonnx.selection import AllLayers, Filters, FirstLayers, LastLayers, Percentile, Phi, Strategy
from tgdonnx.sweeping import SweepReport, sweep
from tgdonnx.tracing import TraceReport, trace
from tgdonnx.verification import VerifyReport, verify
from tgdonnx.writeback import ExportReport, export

__all__ = [
    "AllLayers",
    "ApplyReport",
    "BuildReport",
    "CheckReport",
    "CompareReport",
    "DataOptions",
    "ExportReport",
    "Filters",
    "FinetuneReport",
    "FirstLayers",
    "InspectReport",
    "LastLayers",
    "MaskReport",
    "Noise2Noise",
    "PageReport",
    "Percentile",
    "Phi",
    "Progress",
    "Rebirth",
    "Scaling",
    "ScoreReport",
    "Strategy",
    "SweepReport",
    "TgdonnxError",
    "TraceReport",
    "TrainOptions",
    "TrainReport",
    "VerifyReport",
    "apply",
    "build",
    "check",
    "compare",
    "export",
    "finetune",
    "inspect",
    "mask",
    "report",
    "score",
    "sweep",
    "trace",
    "train",
    "verify",
]
