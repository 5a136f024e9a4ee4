"""The page itself: it fits, says nothing to the console, connects to nothing, and stays responsive while it trains."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.browser.conftest import Small
from tests.browser.serving import served
from tests.browser.tab import READY, Tab
from tests.reporting.browser import OVERFLOW, Browser, browser

pytestmark = pytest.mark.chromium

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
LONG_TASK = 0.05
"""Seconds from which browsers call a task long."""


def prepare(tab: Tab, small: Small, steps: int) -> None:
    tab.give("artifacts-file", small.zip)
    tab.set(held_out=2)
    tab.give("data-files", small.data)
    tab.set(steps=steps, batch=4)


def layout(tab: Tab, opened: Browser, width: int, scheme: Literal["light", "dark"]) -> dict[str, Any]:
    opened.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    opened.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    found: dict[str, Any] = tab.evaluate(OVERFLOW)
    return found


def test_fits_the_window_says_nothing_and_loads_from_its_host_alone(small: Small, address: str, tmp_path: Path) -> None:
    layouts = {}
    with browser(tmp_path / "profile") as opened:
        tab = Tab(opened, f"{address}?threads=1")
        for width in (420, 1400):
            layouts["empty", width, "light"] = layout(tab, opened, width, "light")
        prepare(tab, small, 3)
        tab.train()
        for width in (420, 1400):
            for scheme in SCHEMES:
                layouts["trained", width, scheme] = layout(tab, opened, width, scheme)
                picture(opened, tmp_path / f"{width}-{scheme}.png")
        told = [event["params"] for event in opened.events if event["method"] == "Network.requestWillBeSent"]
        spoken = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        console = [event for event in opened.events if event["method"] in spoken]
    for (_, width, scheme), found in layouts.items():
        assert found["found"] == []
        assert found["page"] <= width
        assert found["dark"] == (scheme == "dark")
    # The browser's own words, where it is asked for a graphics processor and has none.
    assert {event["params"].get("entry", {}).get("text") for event in console} <= {"No available adapters."}
    asked = {each["request"]["url"] for each in told}
    assert all(url.startswith((address, "blob:", "data:")) for url in asked), asked


def picture(opened: Browser, path: Path) -> None:
    shot = opened.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
    path.write_bytes(base64.b64decode(shot["data"]))


@pytest.mark.parametrize("isolated", [True, False])
def test_threads_come_from_the_host_or_else_from_the_service_worker(
    isolated: bool, small: Small, dist: Path, tmp_path: Path
) -> None:
    with served(dist, isolated=isolated) as url, browser(tmp_path / "profile") as opened:
        tab = Tab(opened, f"{url}?threads=2")
        tab.wait(f"crossOriginIsolated && {READY}")
        assert tab.evaluate("Boolean(navigator.serviceWorker.controller)") is not isolated
        prepare(tab, small, 2)
        tab.train()
        assert "2 threads" in tab.said()["runtime"]


def test_where_neither_isolates_the_page_there_is_one_thread_and_it_says_so(
    small: Small, dist: Path, tmp_path: Path
) -> None:
    with served(dist, isolated=False) as url, browser(tmp_path / "profile") as opened:
        # As in a private window of some browsers.
        forbidden = "delete Navigator.prototype.serviceWorker"
        opened.call("Page.addScriptToEvaluateOnNewDocument", source=forbidden)
        tab = Tab(opened, f"{url}?threads=2")
        prepare(tab, small, 2)
        tab.train()
        assert "1 thread: this host does not isolate the page" in tab.said()["runtime"]


@pytest.mark.parametrize("isolated", [True, False])
def test_neither_the_page_nor_its_worker_may_connect_even_to_their_host(
    isolated: bool, small: Small, dist: Path, tmp_path: Path
) -> None:
    connect = "fetch(ADDRESS).then(() => 'connected', (error) => error.name)"
    with served(dist, isolated=isolated) as url, browser(tmp_path / "profile") as opened:
        tab = Tab(opened, url)
        tab.wait(f"crossOriginIsolated && {READY}")
        # What a worker is asked that is being started is sometimes never answered; now it has said something.
        tab.drop("artifacts-drop", small.artifacts)
        assert tab.said()["status"] == "The artifacts are whole. Now drop data."
        opened.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        assert tab.evaluate(connect.replace("ADDRESS", json.dumps(url))) == "TypeError"
        attached = [event for event in opened.events if event["method"] == "Target.attachedToTarget"]
        workers = [event["params"] for event in attached if event["params"]["targetInfo"]["type"] == "worker"]
        assert len(workers) == 1
        (worker,) = workers
        answer = opened.call(
            "Runtime.evaluate",
            session=worker["sessionId"],
            expression=connect.replace("ADDRESS", json.dumps(url)),
            awaitPromise=True,
            returnByValue=True,
        )
        assert answer["result"]["value"] == "TypeError"


def test_the_thread_of_the_page_has_no_long_task_while_the_worker_trains(small: Small, tab: Tab) -> None:
    prepare(tab, small, 40)
    tasks = tab.main_thread_tasks(tab.train)
    assert len(tasks) > 40
    # Processor time, which a loaded machine does not stretch.
    assert max(tasks) < LONG_TASK


def test_directories_and_files_can_be_dropped(small: Small, tab: Tab) -> None:
    tab.drop("artifacts-drop", small.artifacts)
    assert tab.said()["status"] == "The artifacts are whole. Now drop data."
    tab.drop("data-drop", small.data)
    assert "8 samples to train on, 4 held out" in tab.said()["data-told"]


def test_every_field_and_button_has_a_name_and_can_be_reached_by_keyboard(tab: Tab) -> None:
    tree: list[dict[str, Any]] = tab.accessibility()
    roles = ("button", "textbox", "spinbutton", "slider", "combobox", "progressbar", "status", "img")
    found = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    named = [(role, name) for role, name in found if role in roles and role != "status"]
    assert len(named) > 15
    assert [each for each in named if not each[1]] == []
    hidden = tab.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter((each) => each.tabIndex < 0 || "
        "getComputedStyle(each).visibility === 'hidden' || getComputedStyle(each).display === 'none').map((each) => each.id)"
    )
    assert hidden == []
