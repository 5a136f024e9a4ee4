"""What comes of all stages in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tgdonnx.applying import ApplyReport
from tgdonnx.artifacts import BuildReport
from tgdonnx.evaluating.judging import Verdict
from tgdonnx.exporting import ExportReport
from tgdonnx.finetuning import BlendCurve, TrainReport
from tgdonnx.masking import MaskReport
from tgdonnx.presenting import Presented
from tgdonnx.reporting.page import PageReport
from tgdonnx.verifying.verification import VerifyReport


@dataclass(frozen=True)
class Round:
    """The reports of the stages of a round; ``verify`` compares with the file that the round started from.

    ``blend`` is the curve that its blend was chosen from; None if that was not asked for.
    """

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    blend: Optional[BlendCurve] = None


@dataclass(frozen=True, repr=False)
class FinetuneReport(Presented):
    """The reports of the stages; of several rounds, those of the last.

    Attributes:
        mask: what trains.
        build: the artifacts.
        train: the run.
        export: what was written.
        verify: the proof against the vendor's file, over all rounds.
        earlier: the rounds before.
        note: why there were fewer rounds than asked for; None if there were not.
        apply: what came of applying the tuned model; None if that was not asked for.
        report: the page that was written, of the last round; None if none was asked for.
        blend: the curve that the blend was chosen from; None if that was not asked for.
        vendor: the vendor's file, where the model was given in memory and so was written; else None.
        acceptance: whether the criteria are met; None if there were none.
    """

    mask: MaskReport
    build: BuildReport
    train: TrainReport
    export: ExportReport
    verify: VerifyReport
    earlier: tuple[Round, ...] = ()
    note: Optional[str] = None
    apply: Optional[ApplyReport] = None
    report: Optional[PageReport] = None
    blend: Optional[BlendCurve] = None
    vendor: Optional[str] = None
    acceptance: Optional[Verdict] = None
