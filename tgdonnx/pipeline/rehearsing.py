"""Everything that `finetune` would do, found out without training: what is read, selected, computed and written."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts import BuildOptions, BuildReport, build_masked
from tgdonnx.data import DataSource
from tgdonnx.evaluating.running import Runners
from tgdonnx.evaluating.shown import ShownData
from tgdonnx.files.model_file import ModelSource, StrPath
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import DryRunReport, Noise2Noise, RunData, TrainOptions, Watch, dry_run
from tgdonnx.finetuning.session import Session
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.masking import MaskOptions, MaskReport, mask_network
from tgdonnx.pipeline.asked import Results, asked_of
from tgdonnx.pipeline.checks import Job, checked
from tgdonnx.pipeline.choosing import with_choice
from tgdonnx.pipeline.examining import FoundArray, found_arrays
from tgdonnx.pipeline.resuming import open_again
from tgdonnx.pipeline.rounds import rehearse_ending
from tgdonnx.selection import Strategy
from tgdonnx.sensitivity import measured


@dataclass(frozen=True)
class PlannedFile:
    """A file or directory that would be written.

    Attributes:
        path: where.
        what: what it is.
        exists: whether something is there now.
    """

    path: str
    what: str
    exists: bool


@dataclass(frozen=True)
class Rehearsal:
    """What `finetune` would do; of several rounds, the first.

    Attributes:
        data: what the training data holds; empty where only a run can tell, as of folders of classes.
        mask: what would train.
        build: what would be built.
        cost: of the run, from one step of it.
        files: what would be written.
        resumed: the steps that the run which would be gone on with holds; None if a new one would be started.
        remarks: what is done to the data, and what is worth knowing about it.
        before: how many seconds all took here that comes before the first step: the choice of what trains with its drop test,
            masks and build. Of the run that is not in ``cost``, nor is what follows training.
    """

    data: tuple[FoundArray, ...]
    mask: MaskReport
    build: BuildReport
    cost: DryRunReport
    files: tuple[PlannedFile, ...]
    resumed: Optional[int]
    remarks: tuple[str, ...]
    before: float


def rehearse(
    model: ModelSource,
    data: Union[RunData, DataSource, Noise2Noise],
    output: StrPath,
    strategy: Optional[Strategy] = None,
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    masking: MaskOptions = MaskOptions(),  # noqa: B008  # frozen
    rounds: int = 1,
    results: Results = Results(),  # noqa: B008  # frozen
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> Rehearsal:
    """Finds out what `tgdonnx.finetune` would do with the same arguments: all but training, in a temporary place.

    One step is done twice, and forgotten. Whatever `tgdonnx.finetune` refuses before training is refused. Of ``watch`` nothing
    but ``on_drop_test`` is called.

    Raises:
        TgdonnxError: as `tgdonnx.finetune`.
    """
    begin = time.monotonic()
    asked = asked_of(
        model,
        data,
        output,
        strategy,
        training,
        building=building,
        masking=masking,
        rounds=rounds,
        results=results,
        watch=watch,
    )
    job = checked(asked)
    asked = with_choice(asked)
    job, before = replace(job, asked=asked), open_network(asked.file)
    assert asked.strategy is not None  # by now, see `choosing`
    remarks = list(asked.choice)
    with scratch_directory() as work:
        chosen = measured(asked.strategy, before, asked.data, asked.building, asked.training, asked.masking.freeze)
        masked = mask_network(before, work / "masked.onnx", chosen, asked.masking)
        wanted, cheapest = read_masked(work / "masked.onnx"), asked.building.in_cheapest_form()
        if job.place.resumed:
            open_again(job.place.of_round(1), wanted, cheapest)
        built, artifacts = build_masked(wanted, work / "artifacts", cheapest)
        session = Session(artifacts.directory, artifacts=artifacts, device=job.device)
        compared = ShownData.of_run(asked.data, asked.training.seed), Runners(artifacts.manifest, job.device)
        seconds = time.monotonic() - begin
        rehearse_ending(job, before, session, artifacts, compared)
        cost = dry_run(artifacts.directory, asked.data, asked.training, on_remark=remarks.append)
    resumed = job.place.steps if job.place.resumed else None
    found = () if isinstance(asked.data.data, Noise2Noise) else found_arrays(asked.data, built.inputs)
    return Rehearsal(found, masked, replace(built, directory=None), cost, _files(job), resumed, tuple(remarks), seconds)


def _files(job: Job) -> tuple[PlannedFile, ...]:
    run = "run directory: artifacts, checkpoints, logs" + ("" if job.place.lasting else "; deleted at the end")
    planned: list[tuple[Optional[StrPath], str]] = [
        (job.asked.output, "tuned model"),
        (job.vendor, "vendor's model, which is in memory"),
        (job.applied, "result of applying the tuned model"),
        (job.page, "page of the run"),
        (job.card, "record of the tuned model"),
        (job.asked.watch.tensorboard, "event files"),
        (job.place.root, run),
    ]
    return tuple(PlannedFile(str(path), what, Path(path).exists()) for path, what in planned if path is not None)
