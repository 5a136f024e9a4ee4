"""The bar of apply: on stderr of a terminal while it takes long, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.cli.commands import run
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx.cli import progress

NETWORK = "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }"


@pytest.fixture
def arguments(tmp_path: Path) -> tuple[object, ...]:
    """Applies a model to two images by four tiles each."""
    model = save(text_model(NETWORK, w=(1, 1, 3, 3), b=(1,)), tmp_path / "model.onnx")
    (tmp_path / "in").mkdir()
    for name in ("first", "second"):
        np.save(tmp_path / "in" / f"{name}.npy", np.zeros((1, 1, 20, 20), np.float32))
    return ("apply", model, "--data", tmp_path / "in", "-o", tmp_path / "out", "--tile", "12x12", "--overwrite")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool, float], io.StringIO]:
    """Gives stderr as a terminal or a pipe, with so many seconds until a bar is worth it."""

    def given(terminal: bool, moment: float) -> io.StringIO:
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=100, color_system=None, legacy_windows=False)
        monkeypatch.setattr(progress, "stderr", lambda: console)
        monkeypatch.setattr(progress, "_MOMENT", moment)
        return text

    return given


def test_long_work_shows_how_many_runs_are_done_and_on_what(
    on: Callable[[bool, float], io.StringIO], arguments: tuple[object, ...]
) -> None:
    shown = on(True, 0)
    result = run(*arguments)
    assert result.exit_code == 0
    assert "8/8" in shown.getvalue()
    assert "second.npy" in shown.getvalue()
    assert shown.getvalue().rstrip().endswith("\x1b[2K")  # it is gone when all is done
    assert "8/8" not in result.stdout


def test_what_takes_a_moment_shows_no_bar(
    on: Callable[[bool, float], io.StringIO], arguments: tuple[object, ...]
) -> None:
    shown = on(True, 60)
    assert run(*arguments).exit_code == 0
    assert shown.getvalue() == ""


def test_a_pipe_gets_no_bar(on: Callable[[bool, float], io.StringIO], arguments: tuple[object, ...]) -> None:
    shown = on(False, 0)
    result = run(*arguments)
    assert result.exit_code == 0
    assert shown.getvalue() == ""  # nor an empty line
    assert "/8" not in result.stdout + result.stderr
