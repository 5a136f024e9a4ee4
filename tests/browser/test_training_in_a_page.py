"""Training from the page: the same losses as Python has, and a file that is what Python would export."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.browser.conftest import Small
from tests.browser.order import batches
from tests.browser.tab import Tab
from tests.reporting.browser import browser
from tests.support.sessions import open_session
from tgdonnx.engines.onnxruntime.session import StepSession
from tgdonnx.engines.onnxruntime.state import STATE, read_state

pytestmark = pytest.mark.chromium

STEPS, BATCH, RATE, SEED, BLEND = 50, 3, 1e-3, 5, 0.35
HELD = [3, 7, 11]
"""Of 12 samples, the last of every four."""


@dataclass(frozen=True)
class Trained:
    """What the page made."""

    losses: list[float]
    evaluations: list[dict[str, Any]]
    tuned: bytes
    between: bytes
    state: bytes
    said: dict[str, str]


@pytest.fixture(scope="module", params=["directory", "zip"])
def trained(
    request: pytest.FixtureRequest, small: Small, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    root = tmp_path_factory.mktemp("page")
    (root / "downloads").mkdir()
    with browser(root / "profile") as opened:
        # Threads with the directory, one thread with the zip.
        threads = 2 if request.param == "directory" else 1
        tab = Tab(opened, f"{address}?threads={threads}", root / "downloads")
        if request.param == "directory":
            tab.give("artifacts-folder", small.artifacts)
        else:
            tab.give("artifacts-file", small.zip)
        tab.set(held_out=len(HELD))
        tab.give("data-files", small.data)
        tab.set(steps=STEPS, batch=BATCH, rate=RATE, seed=SEED, evaluate_every=25)
        tab.train()
        said = tab.said()
        assert "Training is done" in said["status"], said
        (run,) = tab.kept()
        tab.set(which="last")
        tuned, state = tab.save("save-tuned"), tab.save("save-state")
        tab.set(blend=BLEND)
        between = tab.save("save-tuned")
        assert f"{threads} thread" in said["runtime"]
    return Trained(run["losses"], run["evaluations"], tuned, between, state, said)


@pytest.fixture(scope="module")
def in_python(small: Small) -> tuple[list[float], list[float]]:
    """Losses of the same steps in Python, and losses of held-out samples after 25 and 50."""
    manifest = json.loads((small.artifacts / "manifest.json").read_text())
    names = [[entry["name"] for entry in manifest[key]] for key in ("inputs", "trained")]
    session = StepSession(small.artifacts, STATE, *names)
    samples = [i for i in range(len(small.x)) if i not in HELD]
    losses, held = [], []
    for step, chosen in enumerate(batches(samples, BATCH, SEED, STEPS), start=1):
        losses.append(float(session.step([[small.x[chosen], small.target[chosen]]], RATE)[0]))
        if step % 25 == 0:
            held.append(
                float(np.mean([session.evaluate([small.x[[i]], small.target[[i]]])[0] for i in HELD])),
            )
    return losses, held


def test_the_losses_of_fifty_steps_are_those_of_python(
    trained: Trained, in_python: tuple[list[float], list[float]]
) -> None:
    losses, _ = in_python
    assert len(trained.losses) == STEPS
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-5)
    assert losses[-1] < 0.5 * losses[0]


def test_so_are_those_of_held_out_samples(trained: Trained, in_python: tuple[list[float], list[float]]) -> None:
    _, held = in_python
    assert [each["step"] for each in trained.evaluations] == [25, 50]
    np.testing.assert_allclose([each["loss"] for each in trained.evaluations], held, rtol=1e-5)


@pytest.mark.parametrize("blend", [1, BLEND])
def test_the_saved_file_is_verified_and_is_what_python_exports_of_the_state(
    blend: float, trained: Trained, small: Small, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.onnx"
    saved.write_bytes(trained.tuned if blend == 1 else trained.between)
    report = tgdonnx.verify(small.vendor, saved)
    assert report.ok, report.violations
    assert report.proof == "recomputed"
    artifacts = tmp_path / "artifacts"
    shutil.copytree(small.artifacts, artifacts)
    (artifacts / STATE).write_bytes(trained.state)
    tgdonnx.export(artifacts, tmp_path / "exported.onnx", blend=blend)
    assert saved.read_bytes() == (tmp_path / "exported.onnx").read_bytes()
    onnx.checker.check_model(onnx.load(saved), full_check=True)


def test_the_saved_state_is_a_checkpoint_that_python_goes_on_from(
    trained: Trained, small: Small, tmp_path: Path
) -> None:
    (tmp_path / STATE).write_bytes(trained.state)
    state, start = read_state(tmp_path / STATE), read_state(small.artifacts / STATE)
    assert state.updates == STEPS
    assert {name: array.shape for name, array in state.tensors.items()} == {
        name: array.shape for name, array in start.tensors.items()
    }
    assert any(not np.array_equal(array, start.tensors[name]) for name, array in state.tensors.items())


def test_the_metric_before_is_that_of_the_vendors_file(trained: Trained, small: Small) -> None:
    output = open_session(onnx.load(small.vendor)).run(None, {"x": small.x[HELD]})[0]
    errors = np.sqrt(((output - small.target[HELD]) ** 2).mean(axis=(1, 2, 3)))
    assert trained.said["metric-name"] == "PSNR"
    assert float(trained.said["metric-before"]) == pytest.approx(float(np.mean(-20 * np.log10(errors))), rel=1e-3)
    assert float(trained.said["metric-after"]) > float(trained.said["metric-before"])
