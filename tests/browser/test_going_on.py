"""A run goes on after the browser was killed, and after it was stopped: with the losses of one that never was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.browser.conftest import Small
from tests.browser.tab import Tab
from tests.reporting.browser import browser

pytestmark = pytest.mark.chromium

STEPS = 40


def prepare(tab: Tab, small: Small) -> None:
    tab.give("artifacts-folder", small.artifacts)
    tab.set(held_out=2)
    tab.give("data-files", small.data)


def begin(tab: Tab) -> None:
    tab.set(steps=STEPS, batch=4, evaluate_every=10, keep_every=7, schedule="cosine")


@pytest.fixture(scope="module")
def uninterrupted(small: Small, address: str, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    with browser(tmp_path_factory.mktemp("whole") / "profile") as opened:
        tab = Tab(opened, f"{address}?threads=1")
        prepare(tab, small)
        begin(tab)
        tab.train()
        (run,) = tab.kept()
    assert len(run["losses"]) == STEPS
    losses: list[float] = run["losses"]
    return losses


def test_a_killed_browser_goes_on_where_the_state_was_kept_with_the_same_losses(
    small: Small, address: str, uninterrupted: list[float], tmp_path: Path
) -> None:
    with browser(tmp_path / "profile") as opened:
        tab = Tab(opened, f"{address}?threads=1")
        prepare(tab, small)
        begin(tab)
        tab.click("start")
        tab.wait("document.getElementById('progress').value >= 16")
    # The context has killed it: no page was told.
    with browser(tmp_path / "profile") as opened:
        tab = Tab(opened, f"{address}?threads=1")
        (kept,) = tab.kept()
        assert 14 <= len(kept["losses"]) < STEPS
        prepare(tab, small)
        assert f"step {len(kept['losses'])} of {STEPS}" in tab.said()["kept"]
        tab.train("go-on")
        (run,) = tab.kept()
    assert run["losses"] == uninterrupted
    assert [each["step"] for each in run["evaluations"]] == [10, 20, 30, 40]


def test_a_stopped_run_goes_on_with_the_same_losses(tab: Tab, small: Small, uninterrupted: list[float]) -> None:
    prepare(tab, small)
    begin(tab)
    tab.click("start")
    tab.wait("document.getElementById('progress').value >= 5")
    tab.click("stop")
    tab.wait("/^Training is stopped/.test(document.getElementById('status').textContent)")
    (stopped,) = tab.kept()
    assert 5 <= len(stopped["losses"]) < STEPS
    tab.train("go-on")
    (run,) = tab.kept()
    assert run["losses"] == uninterrupted


def test_a_kept_run_is_of_its_data_alone(tab: Tab, small: Small, tmp_path: Path) -> None:
    prepare(tab, small)
    tab.set(steps=3, batch=4)
    tab.train()
    np.savez(tmp_path / "other.npz", x=small.x + 1, target=small.target)
    tab.give("data-files", tmp_path / "other.npz")
    assert "is of other data" in tab.said()["kept"]
    assert tab.evaluate("document.getElementById('go-on').disabled")
