"""What a run has left in its directory: how far it is, and whether it is over."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import read_manifest
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning.logs import StepEntry, read_log
from tgdonnx.finetuning.reports import Stop
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import read_state
from tgdonnx.finetuning.stopping import reason_to_stop


def steps_kept(directory: Path) -> int:
    """Returns how many steps the checkpoints of a directory hold, the larger number of the two; 0 if none was trained.

    Of one that cannot be read the log has to say.
    """
    steps, engine = 0, read_manifest(directory).runtime
    for name in (engine.checkpoint, engine.best_checkpoint):
        if (directory / name).is_file():
            try:
                state = read_state(directory, name)
                steps = max(steps, state.step if state is not None else 0)
            except ArtifactsError:
                with suppress(ArtifactsError):
                    steps = max(steps, sum(isinstance(line.entry, StepEntry) for line in read_log(directory)))
    return steps


def why_over(directory: Path) -> Optional[Stop]:
    """Returns why the run in a directory is over, by its own options; None if it is not, or if there is none.

    Raises:
        ArtifactsError: its record or its checkpoint is damaged.
        RuntimeMissingError: the runtime of the engine, which reads that, is not installed.
    """
    manifest, record = read_manifest(directory), read_record(directory)
    if record is None or not (directory / manifest.runtime.checkpoint).is_file():
        return None
    state = read_state(directory, manifest.runtime.checkpoint)
    if state is None:
        return None
    per_epoch = record.options.steps_per_epoch(record.data.per_epoch, manifest.fixed_batch)
    return reason_to_stop(state, record.options, per_epoch, record.retention.guarded if record.retention else None)
