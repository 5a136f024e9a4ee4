"""Run commands as a user does, in this process."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from tgdonnx.cli import main


def run(*arguments: object) -> Result:
    """Returns what a command did; anything but an exit is raised."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def run_json(*arguments: object, status: int = 0) -> Any:
    """Returns the one JSON document on stdout of a command."""
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.stderr
    return json.loads(result.stdout)


def save_pairs(path: Path, x_shape: tuple[int, ...], target_shape: tuple[int, ...], **more: Any) -> Path:
    """Saves training data for an input ``x``; ``more`` replaces arrays or adds some."""
    rng = np.random.default_rng(0)
    arrays = {
        "x": rng.standard_normal(x_shape).astype(np.float32),
        "target": rng.standard_normal(target_shape).astype(np.float32),
    }
    np.savez(path, **{**arrays, **more})
    return path


def as_from_a_terminal() -> None:
    """Undoes what nohup, and some CI systems, do to the signals of those that they start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
