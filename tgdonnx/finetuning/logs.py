"""What a run writes down while it goes on: ``log.jsonl``, and its epochs as a table, ``log.csv``.

``log.jsonl`` has one JSON object per line, told apart by ``event``:

    step         epoch, step, loss, learning_rate, seconds, wait; of several outputs that train ``losses``, that of each
    epoch        the fields of `Epoch`, at the start and after every epoch
    validation   the same, after a validation within an epoch
    stop         step, rule, reason

A resumed run drops the lines of what its checkpoint does not hold, so no line is there twice and none is missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union

import msgspec

from tgdonnx.artifacts.manifest import LOG, LOG_TABLE
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.access import reading, writing
from tgdonnx.files.durability import on_disk
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Count, encode
from tgdonnx.finetuning.reports import Epoch, Stop, StopRule
from tgdonnx.finetuning.state import RunState

_MOST = 2**20  # bytes of a line


class StepEntry(msgspec.Struct, tag_field="event", tag="step", frozen=True, omit_defaults=True):
    """A step: its number and epoch, the loss before its update, its learning rate, and its seconds, of which it waited.

    Where several outputs train, ``losses`` has the loss of each by its name.
    """

    epoch: Count
    step: Count
    loss: float
    learning_rate: AtLeast0
    seconds: AtLeast0
    wait: AtLeast0
    losses: Mapping[str, float] = {}


class _Evaluated(msgspec.Struct, tag_field="event", frozen=True):
    """The fields of `Epoch`."""

    epoch: Count
    step: Count
    loss: Optional[float]
    validation: Optional[float]
    seconds: AtLeast0
    metrics: Mapping[str, Optional[float]]
    retain: Mapping[str, Optional[float]]
    images_per_second: Optional[AtLeast0]
    wait: Optional[AtLeast0]

    def to_epoch(self) -> Epoch:
        """Returns it as a run tells it."""
        return Epoch(**{each.name: getattr(self, each.name) for each in fields(Epoch)})


class EpochEntry(_Evaluated, tag="epoch", frozen=True):
    """What was found after an epoch, or at the start."""


class ValidationEntry(_Evaluated, tag="validation", frozen=True):
    """What was found at a validation within an epoch."""


class StopEntry(msgspec.Struct, tag_field="event", tag="stop", frozen=True):
    """Why a run ended, after which step."""

    step: Count
    rule: StopRule
    reason: str


Entry = Union[StepEntry, EpochEntry, ValidationEntry, StopEntry]
_DECODER: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


@dataclass(frozen=True)
class Line:
    """A line of the log.

    Attributes:
        number: counted from 1.
        text: without the end of the line.
        entry: what it says; None if it is not as we write lines.
        problem: why not.
    """

    number: int
    text: bytes = field(repr=False)
    entry: Optional[Entry]
    problem: str = ""


def read_log(directory: Path) -> Iterator[Line]:
    """Yields the lines of the log of a run, none where there is no log.

    Raises:
        ArtifactsError: it cannot be read.
    """
    path = directory / LOG
    if not path.exists():
        return
    if not path.is_file():
        raise ArtifactsError(
            f"{path} is no file", remedy="delete it, and its run goes on without what was logged before"
        )
    with reading(path, ArtifactsError), path.open("rb") as file:
        for number, text in enumerate(_lines(file), 1):
            yield _line(number, text)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yields lines; of one that is too long to be ours only its beginning."""
    while True:
        text = file.readline(_MOST)
        if not text:
            return
        whole = text.endswith(b"\n")
        while not whole:
            more = file.readline(_MOST)
            whole = not more or more.endswith(b"\n")
        yield text.rstrip(b"\r\n")


def _line(number: int, text: bytes) -> Line:
    try:
        return Line(number, text, _DECODER.decode(text))
    except (ValueError, RecursionError) as error:
        return Line(number, text, None, str(error))


class Log:
    """The two files.

    Attributes:
        losses: the loss of every step that they hold.
        epochs: every epoch, and every validation within one.
    """

    def __init__(self, directory: Path, state: RunState) -> None:
        """Opens the files, and drops what came after ``state``.

        Raises:
            ArtifactsError: a line of what ``state`` holds is damaged; a line that was cut off at the end is not one of those.
            OutputError: the files cannot be written.
        """
        self._path, self._table = directory / LOG, directory / LOG_TABLE
        self.losses: list[float] = []
        self.epochs: list[Epoch] = []
        kept = []
        damaged: Optional[Line] = None
        for line in read_log(directory):
            entry = line.entry
            if entry is None:
                damaged = damaged or line
                continue
            if isinstance(entry, StepEntry) and entry.step <= state.step:
                self.losses.append(entry.loss)
            elif isinstance(entry, _Evaluated) and entry.step <= state.recorded:
                self.epochs.append(entry.to_epoch())
            else:
                continue
            if damaged is not None:
                raise ArtifactsError(
                    f"line {damaged.number} of {self._path} is damaged ({damaged.problem}); mend that line, or delete the "
                    "file, and the run goes on without what was logged before"
                )
            kept.append(line.text)
        write_bytes(self._path, b"".join(text + b"\n" for text in kept))
        self._write_table()

    def add_step(self, entry: StepEntry) -> None:
        """Notes a step."""
        self.losses.append(entry.loss)
        self._write(entry)

    def add_epoch(self, epoch: Epoch, *, whole: bool) -> None:
        """Notes an epoch, or (not ``whole``) a validation within one."""
        self.epochs.append(epoch)
        kind = EpochEntry if whole else ValidationEntry
        self._write(kind(**{each.name: getattr(epoch, each.name) for each in fields(Epoch)}))
        self._write_table()

    def add_stop(self, step: int, stop: Stop) -> None:
        """Notes why the run ended."""
        self._write(StopEntry(step, stop.rule, stop.reason))

    def sync(self) -> None:
        """Puts the lines on the disk; before a checkpoint is written, so that none is missing after a power cut."""
        with self._appending() as file:
            on_disk(file.fileno(), self._path)

    def _write(self, entry: Entry) -> None:
        with self._appending() as file:
            file.write(encode(entry))

    @contextmanager
    def _appending(self) -> Iterator[BinaryIO]:
        with writing(self._path), self._path.open("ab") as file:
            yield file

    def _write_table(self) -> None:
        rows = [_row(epoch) for epoch in self.epochs]
        names = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch", "step", "loss", "validation"]
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_bytes(self._table, text.getvalue().encode())


def _row(epoch: Epoch) -> dict[str, Any]:
    row = asdict(epoch)
    metrics, retain = row.pop("metrics"), row.pop("retain")
    row.update({f"validation {name}": value for name, value in metrics.items()})
    row.update({f"retain {name}": value for name, value in retain.items()})
    return row
