"""One selection: trained, gone on with, or only read, and its tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import BuildOptions, build, open_artifacts, read_manifest
from tgdonnx.artifacts.manifest import MASKED_MODEL, RUN
from tgdonnx.blending.choosing import choose_blend
from tgdonnx.blending.curve import blend_run
from tgdonnx.comparing.candidates import Candidate
from tgdonnx.comparing.choosing import Entry, best_point, curve_of
from tgdonnx.comparing.preparing import data_for, options_for
from tgdonnx.comparing.report import ARTIFACTS
from tgdonnx.errors import DivergedError, StoppedError
from tgdonnx.exporting import export
from tgdonnx.finetuning import BlendCurve, Epoch, RunData, TrainOptions, Watch, train
from tgdonnx.finetuning.logs import Log
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session
from tgdonnx.layers import open_network

TUNED = "tuned.onnx"


@dataclass(frozen=True)
class Plan:
    """A run that is to be done.

    Attributes:
        candidate: the selection.
        model: the vendor's file.
        directory: of the comparison.
        data: what to train on, and what to look at besides.
        options: how to train, the same for all.
        building: what training minimises, for this selection.
    """

    candidate: Candidate
    model: Path
    directory: Path
    data: RunData
    options: TrainOptions
    building: BuildOptions


def run_candidate(plan: Plan, watch: Watch) -> Entry:
    """Trains one selection, or goes on with it, or only reads what it came to; exports its best point.

    A run is read without a step being done, since `train` has nothing left to do; it checks data and options.

    Raises:
        StoppedError: a signal stopped the run.
        TgdonnxError: as `train`, `build` and `export` do.
    """
    candidate, directory, data, options = plan.candidate, plan.directory, plan.data, plan.options
    folder = directory / candidate.folder
    artifacts = folder / ARTIFACTS
    fitting = options_for(candidate, options)

    def trained() -> tuple[Sequence[Epoch], int, float, int, str]:
        try:
            report = train(
                artifacts,
                data_for(candidate, data),
                fitting,
                resume=(artifacts / RUN).is_file(),
                watch=watch,
            )
        except DivergedError as error:
            state = Session(artifacts).run_state
            if state is None or state.best_step is None:
                raise
            log = Log(artifacts, state)
            return log.epochs, state.step, state.seconds, state.best_step, str(error)
        if report.stop.signal is not None:
            raise StoppedError(
                f"{report.stop.reason} of {candidate.title}; {directory} holds what was done: the same command goes on",
                report.stop.signal,
            )
        return report.epochs, report.steps, report.seconds, report.best.step, ""

    epochs, steps, seconds, kept, problem = trained()
    old = guarded_metric(artifacts)
    best = best_point(curve_of(epochs, old), options.retain_limit)
    if best.step != kept:
        watch.on_remark(
            f"{candidate.title}: under another limit step {kept} was kept, not {best.step}; it is run again"
        )
        build(artifacts / MASKED_MODEL, artifacts, plan.building, overwrite=True)
        epochs, steps, seconds, kept, problem = trained()
        best = best_point(curve_of(epochs, old), options.retain_limit)
        assert best.step == kept
    curve = curve_of(epochs, old)
    tuned = folder / TUNED
    exported = export(artifacts, tuned, overwrite=True)
    manifest = read_manifest(artifacts)
    selection = {**manifest.selection, "regularisers": sorted(candidate.regularisers)}
    changed = _count_changed(plan.model, tuned, [entry.name for entry in exported.changed])
    between = _blended(artifacts, data_for(candidate, data), fitting, kept)
    return Entry(
        *(candidate.name, selection, manifest.rho, changed, steps, seconds, curve, best, curve[-1]),
        str(folder),
        problem,
        between,
        fitting.seed,
    )


def _blended(artifacts: Path, data: RunData, options: TrainOptions, step: int) -> BlendCurve:
    """Returns the curve of a run over its blends; one that was evaluated already is chosen from again."""
    record = read_record(artifacts)
    known = record.blend if record is not None else None
    if known is not None and known.step == step and bool(known.curve[0].retain) == (data.retain is not None):
        chosen, reason = choose_blend(known.curve, options.retain_limit)
        return replace(known, chosen=chosen, reason=reason)
    return blend_run(open_artifacts(artifacts), data, options)


def _count_changed(model: Path, tuned: Path, names: Sequence[str]) -> int:
    """Returns how many numbers of the named tensors differ; of those that were added all."""
    before, after = open_network(model).stored_parameters, open_network(tuned).stored_parameters
    return sum(
        int((before[name].numpy() != after[name].numpy()).sum()) if name in before else after[name].numpy().size
        for name in names
    )


def guarded_metric(artifacts: Path) -> Optional[str]:
    """Returns the metric of the vendor's own task that a limit is about; None if none is measured."""
    record = read_record(artifacts)
    return record.retention.guarded if record is not None and record.retention is not None else None
