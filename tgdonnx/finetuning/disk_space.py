"""Is there room on the disk for what a run will write? Asked before its first step, since a full disk is met hours later.

A checkpoint holds the parameters, and for adamw two moments of each besides. There are two of them, and a third while one is
replaced. The estimate leaves out what is small, so it refuses only what cannot fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tgdonnx.errors import OutputError
from tgdonnx.finetuning.session import Session

_LOG_LINE = 150  # bytes; a step has one


@dataclass(frozen=True)
class Need:
    """What will be written.

    Attributes:
        path: the directory where.
        size: in bytes.
        what: what it is, for the message.
    """

    path: Path
    size: int
    what: str


def needs_of_run(session: Session, steps: Optional[int]) -> tuple[Need, ...]:
    """Returns what a run will add to its directory.

    Args:
        session: its parameters.
        steps: steps that are left; None if only time limits them.
    """
    directory, engine = session.directory, session.manifest.runtime
    checkpoint = session.parameter_bytes * (3 if session.manifest.options.optimizer == "adamw" else 1)
    there = [path for path in (directory / engine.checkpoint, directory / engine.best_checkpoint) if path.is_file()]
    added = max(checkpoint, 3 * checkpoint - sum(path.stat().st_size for path in there))
    return Need(directory, added, "checkpoints"), Need(directory, (steps or 0) * _LOG_LINE, "log")


def require_space(needs: Sequence[Need]) -> None:
    """Checks that disks have room.

    Raises:
        OutputError: one has not.
    """
    disks: dict[int, list[Need]] = {}
    for need in needs:
        disks.setdefault(need.path.stat().st_dev, []).append(need)
    for together in disks.values():
        free, wanted = shutil.disk_usage(together[0].path).free, sum(need.size for need in together)
        if wanted > free:
            parts = ", ".join(f"{need.what} {need.size:,}" for need in together if need.size)
            raise OutputError(
                f"the disk of {together[0].path} has {free:,} bytes free, and {wanted:,} will be written ({parts})",
                remedy="make room, or choose another place",
            )
