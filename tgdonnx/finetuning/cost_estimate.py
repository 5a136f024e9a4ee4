"""What a run will cost, from one step of it; nothing is written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.data import DataSource
from tgdonnx.errors import DivergedError
from tgdonnx.files.model_file import StrPath
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.noise2noise import Noise2Noise
from tgdonnx.finetuning.opening import batch_remarks, class_axes, fitting_batch, open_data, remarks_of
from tgdonnx.finetuning.options import TrainOptions
from tgdonnx.finetuning.reports import DryRunReport
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import training_device
from tgdonnx.runtime.memory import peak_memory


def dry_run(
    directory: StrPath,
    data: Union[RunData, DataSource, Noise2Noise],
    options: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    on_remark: Callable[[str], None] = lambda _: None,
) -> DryRunReport:
    """Does the first step of a run, twice, since the first time is slower, and forgets it; the directory does not change.

    The arguments are those of `tgdonnx.train`.

    Raises:
        ArtifactsError: the directory is not usable.
        DataError: data or an option does not fit.
        DivergedError: the loss is not finite.
        RuntimeMissingError: the runtime is not installed, or there is no such device.
    """
    device = training_device(read_manifest(Path(directory)).runtime, options.device)
    with locked(Path(directory), reading=True):
        session = Session(Path(directory), device=device)
    given, options = options, fitting_batch(session.manifest, options)
    options = options.for_mode(session.manifest.selection.get("mode"))
    training, validating, retention = open_data(session, RunData.of(data), options)
    for remark in (
        *batch_remarks(given, options),
        *class_axes(session.manifest),
        *remarks_of(training, validating, retention),
    ):
        on_remark(remark)
    samples, fixed = len(training), session.manifest.fixed_batch
    count = min(options.accumulate, options.batches_per_epoch(samples, fixed))
    loss: Optional[float] = None
    seconds = wait = 0.0
    for _ in range(2):
        begin, wait = time.monotonic(), 0.0
        stream = training.batches(options.batch, epoch=1, seed=options.seed)
        batches = []
        for _ in range(count):
            asked = time.monotonic()
            batches.append(next(stream))
            wait += time.monotonic() - asked
        losses = session.step(batches, options.peak)
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the loss of the first batch is {losses[-1]}", remedy="look at the data")
        loss = math.fsum(losses) / count if loss is None else loss
        seconds = time.monotonic() - begin
    steps = options.steps_per_epoch(samples, fixed)
    epoch = steps * seconds
    for dataset, has_target in (
        (validating.dataset if validating else None, True),
        (retention.dataset if retention else None, retention is not None and retention.labelled),
    ):
        if dataset is not None:
            begin = time.monotonic()
            batch = next(dataset.batches(options.batch))
            session.evaluate(batch) if has_target else session.predict(batch)
            epoch += (time.monotonic() - begin) * -(-len(dataset) // options.batch)
    assert loss is not None
    return DryRunReport(
        loss,
        seconds,
        wait / seconds,
        steps,
        epoch,
        options.last_step(steps),
        peak_memory(),
        samples,
        len(validating.dataset) if validating else 0,
        len(retention.dataset) if retention else 0,
    )
