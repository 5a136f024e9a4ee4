"""What a run writes down while it goes on: ``log.jsonl``, and its epochs as a table, ``log.csv``.

``log.jsonl`` has one JSON object per line, told apart by ``event``:

    step         epoch, step, loss, learning_rate, seconds, wait
    epoch        the fields of `Epoch`, at the start and after every epoch
    validation   the same, after a validation within an epoch
    stop         step, rule, reason

A resumed run drops the lines of what its checkpoint does not hold, so no line is there twice and none is missing.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from tgdonnx.artifacts.manifest import LOG, LOG_TABLE
from tgdonnx.errors import OutputError
from tgdonnx.finetuning.reports import Epoch, Stop
from tgdonnx.finetuning.state import RunState
from tgdonnx.modelfile import write_bytes

_FIELDS = tuple(field.name for field in fields(Epoch))


class Log:
    """The two files.

    Attributes:
        losses: the loss of every step that they hold.
        epochs: every epoch, and every validation within one.
    """

    def __init__(self, directory: Path, state: RunState) -> None:
        """Opens the files, and drops what came after ``state``."""
        self._path, self._table = directory / LOG, directory / LOG_TABLE
        self.losses: list[float] = []
        self.epochs: list[Epoch] = []
        kept = []
        text = self._path.read_text("utf-8", errors="replace") if self._path.is_file() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                event, step = entry["event"], entry["step"]
            except (ValueError, KeyError, TypeError):
                continue  # cut off in the middle
            if event == "step" and step <= state.step:
                self.losses.append(entry["loss"])
            elif event in ("epoch", "validation") and step <= state.recorded:
                self.epochs.append(Epoch(**{name: entry[name] for name in _FIELDS}))
            else:
                continue
            kept.append(line)
        write_bytes(self._path, "".join(line + "\n" for line in kept).encode())
        self._write_table()

    def add_step(
        self, *, epoch: int, step: int, loss: float, learning_rate: float, seconds: float, wait: float
    ) -> None:
        """Notes a step: its number, loss and learning rate, how long it took, and how long it waited for data."""
        self.losses.append(loss)
        entry = {"epoch": epoch, "step": step, "loss": loss, "learning_rate": learning_rate}
        self._write({"event": "step", **entry, "seconds": seconds, "wait": wait})

    def add_epoch(self, epoch: Epoch, *, whole: bool) -> None:
        """Notes an epoch, or (not ``whole``) a validation within one."""
        self.epochs.append(epoch)
        self._write({"event": "epoch" if whole else "validation", **asdict(epoch)})
        self._write_table()

    def add_stop(self, step: int, stop: Stop) -> None:
        """Notes why the run ended."""
        self._write({"event": "stop", "step": step, "rule": stop.rule, "reason": stop.reason})

    def sync(self) -> None:
        """Puts the lines on the disk; before a checkpoint is written, so that none is missing after a power cut."""
        with self._appending() as file:
            os.fsync(file.fileno())

    def _write(self, entry: Mapping[str, Any]) -> None:
        with self._appending() as file:
            file.write(json.dumps(entry) + "\n")

    @contextmanager
    def _appending(self) -> Iterator[TextIO]:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                yield file
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror or error}") from error

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
