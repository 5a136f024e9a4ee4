"""What is saved is of the step with the lowest loss of held-out samples, or of the last: as a person chooses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.browser.conftest import Small
from tests.browser.tab import Tab
from tgdonnx.engines.onnxruntime.session import StepSession
from tgdonnx.engines.onnxruntime.state import BEST_STATE, STATE, read_state

pytestmark = pytest.mark.chromium

STEPS = 24
HELD = [5, 11]


def held_out_loss(small: Small, directory: Path, checkpoint: str) -> float:
    manifest = json.loads((directory / "manifest.json").read_text())
    names = [[entry["name"] for entry in manifest[key]] for key in ("inputs", "trained")]
    session = StepSession(directory, checkpoint, *names)
    return float(np.mean([session.evaluate([small.x[[i]], small.target[[i]]])[0] for i in HELD]))


def test_the_best_step_is_saved_unless_the_last_is_chosen(tab: Tab, small: Small, tmp_path: Path) -> None:
    tab.give("artifacts-folder", small.artifacts)
    tab.set(held_out=len(HELD))
    tab.give("data-files", small.data)
    assert tab.evaluate("document.getElementById('which').disabled")
    # Steps this large make it worse again.
    tab.set(steps=STEPS, batch=4, rate=1, evaluate_every=2)
    tab.train()
    (run,) = tab.kept()
    losses = {each["step"]: each["loss"] for each in run["evaluations"]}
    best = min(losses, key=lambda step: losses[step])
    assert best < STEPS
    assert run["best"] == {"step": best, "loss": losses[best]}
    shown = "document.getElementById('which').selectedOptions[0].textContent"
    assert tab.evaluate(shown) == f"step {best}, the lowest held-out loss"
    assert float(tab.said()["loss-after"]) == pytest.approx(losses[best], rel=1e-3)
    for which, name, step in (("best", BEST_STATE, best), ("last", STATE, STEPS)):
        tab.set(which=which)
        tab.wait(f"Number(document.getElementById('loss-after').textContent) / {losses[step]} - 1 < 1e-3")
        artifacts = Path(shutil.copytree(small.artifacts, tmp_path / which))
        tuned, state = tab.save("save-tuned"), tab.save("save-state")
        (artifacts / name).write_bytes(state)
        assert read_state(artifacts / name).updates == step
        assert held_out_loss(small, artifacts, name) == pytest.approx(losses[step], rel=1e-4)
        tgdonnx.export(artifacts, tmp_path / f"{which}.onnx")
        assert tuned == (tmp_path / f"{which}.onnx").read_bytes()


def test_without_held_out_samples_the_last_step_is_saved(tab: Tab, small: Small) -> None:
    tab.give("artifacts-folder", small.artifacts)
    tab.set(held_out=0)
    tab.give("data-files", small.data)
    tab.set(steps=3, batch=4)
    tab.train()
    (run,) = tab.kept()
    assert run["best"] is None
    assert tab.evaluate("document.getElementById('which').disabled")
    assert tab.evaluate("document.getElementById('which').value") == "last"
