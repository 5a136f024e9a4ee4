"""Adapt other people's ONNX conv nets on the machine where they run, and change nothing else.

The verbs of the command line as functions, each returning a frozen dataclass:

    score, trace, inspect     what is in a model
    check                     can it be trained here, operator by operator
    examine                   does data fit a model: all that is wrong with it, and the call that trains on it
    sweep                     the drop test over phi, and the phi that it recommends
    mask                      choose filters, write a masked model
    build, train, export      artifacts for ONNX Runtime, training, the tuned model
    blend                     a run between what it started from and what it came to
    gate                      the vendor's model and a tuned one in one file, and what chooses between them
    apply                     a model on images and volumes, by tiles
    verify                    proof that nothing but retrained filters changed
    finetune                  all of it in one go
    compare                   several selections at equal budget, on new and old data
    batch                     many fine-tunings, each done once
    report                    a run as one HTML page
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tgdonnx.adapting import Adapter
    from tgdonnx.applying import ApplyOptions, ApplyReport, apply
    from tgdonnx.artifacts.build import BuildReport, build
    from tgdonnx.artifacts.options import BuildOptions
    from tgdonnx.batching.batch import BatchReport, batch
    from tgdonnx.batching.jobs import BatchJob, ByDropTest, JobResults
    from tgdonnx.batching.records import JobResult
    from tgdonnx.blending.blend import blend
    from tgdonnx.checking import CheckReport, check
    from tgdonnx.comparing import CompareReport, Trials, compare
    from tgdonnx.data import DataOptions, Scaling
    from tgdonnx.errors import TgdonnxError
    from tgdonnx.exporting import ExportReport, export
    from tgdonnx.finetuning import (
        BlendCurve,
        BlendPoint,
        Noise2Noise,
        Progress,
        RunData,
        TrainOptions,
        TrainReport,
        Watch,
        dry_run,
        train,
    )
    from tgdonnx.gating.gate import GateData, GateReport, gate
    from tgdonnx.gating.separation import Separation
    from tgdonnx.inspection import InspectReport, inspect
    from tgdonnx.masking import MaskOptions, MaskReport, mask
    from tgdonnx.pipeline import FinetuneReport, Results, finetune
    from tgdonnx.pipeline.examining import DataReport, examine
    from tgdonnx.pipeline.rehearsing import Rehearsal, rehearse
    from tgdonnx.regrowing import Reinitialization
    from tgdonnx.reporting.page import PageReport, report
    from tgdonnx.scoring import ScoreOptions, ScoreReport, score
    from tgdonnx.selection import (
        AllLayers,
        Filters,
        FirstLayers,
        FisherFilters,
        LastLayers,
        Percentile,
        Phi,
        RandomFilters,
        SteepestFilters,
        Strategy,
    )
    from tgdonnx.sweeping.sweep import SweepReport, sweep
    from tgdonnx.tracing import TraceReport, trace
    from tgdonnx.verifying.verification import VerifyReport, verify

    __version__: str

__all__ = [
    "Adapter",
    "AllLayers",
    "ApplyOptions",
    "ApplyReport",
    "BatchJob",
    "BatchReport",
    "BlendCurve",
    "BlendPoint",
    "BuildOptions",
    "BuildReport",
    "ByDropTest",
    "CheckReport",
    "CompareReport",
    "DataOptions",
    "DataReport",
    "ExportReport",
    "Filters",
    "FinetuneReport",
    "FirstLayers",
    "FisherFilters",
    "GateData",
    "GateReport",
    "InspectReport",
    "JobResult",
    "JobResults",
    "LastLayers",
    "MaskOptions",
    "MaskReport",
    "Noise2Noise",
    "PageReport",
    "Percentile",
    "Phi",
    "Progress",
    "RandomFilters",
    "Rehearsal",
    "Reinitialization",
    "Results",
    "RunData",
    "Scaling",
    "ScoreOptions",
    "ScoreReport",
    "Separation",
    "SteepestFilters",
    "Strategy",
    "SweepReport",
    "TgdonnxError",
    "TraceReport",
    "TrainOptions",
    "TrainReport",
    "Trials",
    "VerifyReport",
    "Watch",
    "apply",
    "batch",
    "blend",
    "build",
    "check",
    "compare",
    "dry_run",
    "examine",
    "export",
    "finetune",
    "gate",
    "inspect",
    "mask",
    "rehearse",
    "report",
    "score",
    "sweep",
    "trace",
    "train",
    "verify",
]

_PLACES = {
    "tgdonnx.adapting": ("Adapter",),
    "tgdonnx.applying": ("ApplyOptions", "ApplyReport", "apply"),
    "tgdonnx.artifacts": ("BuildOptions", "BuildReport", "build"),
    "tgdonnx.batching": ("BatchJob", "BatchReport", "ByDropTest", "JobResult", "JobResults", "batch"),
    "tgdonnx.blending.blend": ("blend",),
    "tgdonnx.checking": ("CheckReport", "check"),
    "tgdonnx.comparing": ("CompareReport", "Trials", "compare"),
    "tgdonnx.data": ("DataOptions", "Scaling"),
    "tgdonnx.errors": ("TgdonnxError",),
    "tgdonnx.finetuning": (
        *("BlendCurve", "BlendPoint", "Noise2Noise", "Progress", "RunData", "TrainOptions", "TrainReport", "Watch"),
        *("dry_run", "train"),
    ),
    "tgdonnx.gating.gate": ("GateData", "GateReport", "gate"),
    "tgdonnx.gating.separation": ("Separation",),
    "tgdonnx.inspection": ("InspectReport", "inspect"),
    "tgdonnx.masking": ("MaskOptions", "MaskReport", "mask"),
    "tgdonnx.pipeline": ("FinetuneReport", "Results", "finetune"),
    "tgdonnx.pipeline.examining": ("DataReport", "examine"),
    "tgdonnx.pipeline.rehearsing": ("Rehearsal", "rehearse"),
    "tgdonnx.regrowing": ("Reinitialization",),
    "tgdonnx.reporting.page": ("PageReport", "report"),
    "tgdonnx.scoring": ("ScoreOptions", "ScoreReport", "score"),
    "tgdonnx.selection": (
        *("AllLayers", "Filters", "FirstLayers", "FisherFilters", "LastLayers", "Percentile", "Phi", "RandomFilters"),
        *("SteepestFilters", "Strategy"),
    ),
    "tgdonnx.sweeping": ("SweepReport", "sweep"),
    "tgdonnx.tracing": ("TraceReport", "trace"),
    "tgdonnx.verifying.verification": ("VerifyReport", "verify"),
    "tgdonnx.exporting": ("ExportReport", "export"),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Nothing is imported before it is asked for: that takes a second, in which the command line wants to be there already, to
    # answer Ctrl-C with an exit status instead of a traceback from the middle of an import.
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("tgdonnx")
    elif name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        try:
            value = importlib.import_module(f"tgdonnx.{name}")
        except ModuleNotFoundError as error:
            if not f"tgdonnx.{name}".startswith(str(error.name)):
                raise  # a library that is missing
            raise AttributeError(f"module 'tgdonnx' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
