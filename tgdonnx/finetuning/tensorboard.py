"""Scalars for TensorBoard, by tensorboardX, which needs neither torch nor tensorflow; the only module that imports it."""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tgdonnx.errors import OutputError, RuntimeMissingError
from tgdonnx.files.access import writing
from tgdonnx.finetuning.reports import Epoch


def require_board(directory: Path) -> None:
    """Checks that event files can be written, without writing any.

    Raises:
        RuntimeMissingError: tensorboardX is not installed.
        OutputError: the directory cannot be written.
    """
    _library()
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise OutputError(f"{there} is a file; event files need a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"the directory {there} is not writable", remedy="change its permissions or choose another")


def _library() -> Any:
    try:
        return importlib.import_module("tensorboardX")
    except ImportError as error:
        raise RuntimeMissingError(
            f"event files (`tensorboard`) need tensorboardX ({error})", remedy="pip install 'tgdonnx[tensorboard]'"
        ) from error


class Board:
    """An event file in a directory that TensorBoard shows."""

    def __init__(self, directory: Path, step: int) -> None:
        """Starts a file; of older ones in the directory, TensorBoard will leave out what came after ``step``.

        Raises:
            RuntimeMissingError: tensorboardX is not installed.
            OutputError: the directory cannot be written.
        """
        library = _library()
        with writing(directory):
            # Without a suffix, of files that are started in the same second the later replaces the earlier.
            suffix = f".{secrets.token_hex(4)}"
            self._writer = library.SummaryWriter(
                str(directory), purge_step=step + 1 if step else None, filename_suffix=suffix
            )

    def add_step(self, step: int, loss: float, learning_rate: float, losses: Mapping[str, float]) -> None:
        """Notes a step; ``losses`` are those of several outputs that train."""
        self._writer.add_scalar("train/loss", loss, step)
        self._writer.add_scalar("train/learning_rate", learning_rate, step)
        for name, value in losses.items():
            self._writer.add_scalar(f"train/{name} loss", value, step)

    def add_epoch(self, epoch: Epoch) -> None:
        """Notes what was found after an epoch."""
        found = {"validation/loss": epoch.validation}
        found.update({f"validation/{name}": value for name, value in epoch.metrics.items()})
        found.update({f"retain/{name}": value for name, value in epoch.retain.items()})
        found.update({"train/images_per_second": epoch.images_per_second, "train/wait": epoch.wait})
        for name, value in found.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch.step)
        self._writer.flush()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
