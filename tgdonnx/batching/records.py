"""``job.json`` in the directory of every job: what it was asked for, what it read, and what came of it.

Format 1: one JSON object with the fields of `JobRecord`. A reader refuses a newer format and ignores keys that it does
not know. It is written when a job starts, and again when it ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Optional

from tgdonnx.batching.identity import Inputs, ReadFile, told_changes
from tgdonnx.batching.jobs import told_difference
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Count, Positive, decode, encode, read_bytes
from tgdonnx.presenting import Presented

FORMAT = 1
RECORD = "job.json"
TUNED = "tuned.onnx"
State = Literal["done", "failed", "stopped", "open"]


@dataclass(frozen=True, repr=False)
class JobResult(Presented):
    """What came of a job.

    Attributes:
        name: of the job.
        state: ``done``; ``failed``, see ``error``; ``stopped``: it can go on; ``open``: it was not begun.
        error: why it failed; else empty.
        metrics: the loss and the metrics of the validation data, and of the vendor's own task, where the epoch is that was
            kept; without such data the loss of the last epoch. None in place of a number that is infinite.
        before: the same of the vendor's model; without validation data the loss of the first epoch.
        steps: steps done.
        seconds: time spent training and validating.
        output: the tuned model; None if there is none.
        proof: the form of its proof, see `tgdonnx.VerifyReport`.
        accepted: whether criteria are met; None if there were none.
        applied: what came of applying it; None if that was not asked for.
        report: its page; None if none was asked for.
        card: its record for machines; None if none was asked for.
        earlier: whether an earlier call did it.
        overhead: seconds that this call took for it besides training and validating.
        remark: what else there is to say; empty if nothing.
    """

    name: str
    state: State
    error: str = ""
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    before: Mapping[str, Optional[float]] = field(default_factory=dict)
    steps: Count = 0
    seconds: AtLeast0 = 0.0
    output: Optional[str] = None
    proof: Optional[str] = None
    accepted: Optional[bool] = None
    applied: Optional[str] = None
    report: Optional[str] = None
    card: Optional[str] = None
    earlier: bool = False
    overhead: AtLeast0 = 0.0
    remark: str = ""

    def at(self, place: Path) -> JobResult:
        """Returns the same where its directory is now, whatever it was called."""
        paths = (self.output, self.applied, self.report, self.card)
        output, applied, report, card = (None if path is None else str(place / Path(path).name) for path in paths)
        return replace(self, output=output, applied=applied, report=report, card=card)


@dataclass(frozen=True)
class JobRecord:
    """What a job is.

    Attributes:
        format: version of this format.
        state: ``running`` until it ends.
        options: what was chosen other than by default; see `tgdonnx.batching.jobs.BatchJob.options`.
        inputs: what was read, by what it is for.
        tgdonnx: the version that did it.
        result: what came of it; None while it runs.
        written: the files that it wrote: the tuned model, results of applying it, its page and its record for machines.
    """

    format: Positive
    state: Literal["running", "done", "failed"]
    options: Mapping[str, str]
    inputs: Mapping[str, tuple[ReadFile, ...]]
    tgdonnx: str
    result: Optional[JobResult] = None
    written: tuple[ReadFile, ...] = ()

    def changes(self, options: Mapping[str, str], inputs: Inputs) -> list[str]:
        """Says what is other now than it was for this job.

        Args:
            options: what is chosen now.
            inputs: what is read now.
        """
        return [*told_difference(self.options, options), *told_changes(self.inputs, inputs)]


def state_of(directory: Path) -> Literal["stopped", "open"]:
    """Returns how far a job is that has no result: whether it was begun."""
    return "stopped" if (directory / RECORD).exists() else "open"


def read_job_record(directory: Path) -> Optional[JobRecord]:
    """Returns the record in the directory of a job; None if there is none.

    Raises:
        ArtifactsError: it is damaged, or of a newer format.
    """
    path = directory / RECORD
    if not path.exists():
        return None
    remedy = "delete its directory, and the job is done again"
    return decode(read_bytes(path, remedy=remedy), JobRecord, str(path), remedy=remedy, newest=FORMAT)


def write_job_record(directory: Path, record: JobRecord) -> None:
    """Writes the record of a job into its directory.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(directory / RECORD, encode(record, indent=1))
