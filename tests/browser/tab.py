"""The page for training in a tab: what a person does there, and what the page says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from tests.reporting.browser import Browser

READY = "document.documentElement?.dataset.ready"
"""What is true in the page once it hears."""
_KEPT = """new Promise((resolve, reject) => {
  const request = indexedDB.open("tgdonnx", 1);
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const all = request.result.transaction("runs").objectStore("runs").getAll();
    all.onsuccess = () => {
      request.result.close();
      resolve(all.result.map(({losses, evaluations, best}) =>
        ({losses, evaluations, best: best && {step: best.step, loss: best.loss}})));
    };
  };
})"""


class Tab:
    """The page, open in a browser."""

    def __init__(self, browser: Browser, address: str, downloads: Optional[Path] = None) -> None:
        """Opens the page and waits until it is ready.

        Args:
            browser: the browser.
            address: of the page.
            downloads: where files are saved.
        """
        self._browser = browser
        if downloads is not None:
            browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.downloads = downloads
        browser.call("Page.navigate", url=address)
        self.wait(READY)

    def evaluate(self, expression: str) -> Any:
        """Returns what an expression is in the page."""
        answer = self._browser.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Waits until an expression is true, or the page has a problem that it does not speak of."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < until, f"not after {seconds} s: {condition}; {self.said()}"
            time.sleep(0.05)

    def said(self) -> dict[str, str]:
        """Returns what the page says."""
        ids = ("runtime", "status", "problem", "artifacts-told", "artifacts-note", "data-told", "kept", "loss-before")
        ids += ("loss-after", "metric-before", "metric-after", "metric-name")
        texts: dict[str, str] = self.evaluate(
            f"Object.fromEntries({json.dumps(ids)}.map((id) => [id, document.getElementById(id).textContent]))"
        )
        return texts

    def give(self, field: str, *paths: Path) -> None:
        """Chooses files, or a directory, in a file field, and waits until the page has read them."""
        root = self._browser.call("DOM.getDocument")["root"]["nodeId"]
        node = self._browser.call("DOM.querySelector", nodeId=root, selector=f"#{field}")["nodeId"]
        self.evaluate("document.getElementById('status').textContent = ''")
        self._browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])
        self.wait("!/^$|^Reading/.test(document.getElementById('status').textContent)")

    def drop(self, zone: str, *paths: Path) -> None:
        """Drops files or directories on a zone, and waits until the page has read them."""
        at = self.evaluate(
            f"(() => {{ const zone = document.getElementById('{zone}'); zone.scrollIntoView({{block: 'center'}}); "
            "const {x, y} = zone.getBoundingClientRect(); return {x: x + 5, y: y + 5}; })()"
        )
        self.evaluate("document.getElementById('status').textContent = ''")
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self._browser.call("Input.dispatchDragEvent", type=kind, data=data, **at)
        self.wait("!/^$|^Reading/.test(document.getElementById('status').textContent)")

    def set(self, **values: object) -> None:
        """Fills fields in; underscores stand for hyphens."""
        for name, value in values.items():
            field = f"document.getElementById({json.dumps(name.replace('_', '-'))})"
            self.evaluate(f"{field}.value = {json.dumps(str(value))}; {field}.dispatchEvent(new Event('input'))")

    def click(self, button: str) -> None:
        """Presses a button that can be pressed."""
        assert not self.evaluate(f"document.getElementById('{button}').disabled"), (button, self.said())
        self.evaluate(f"document.getElementById('{button}').click()")

    def kept(self) -> list[dict[str, Any]]:
        """Returns losses, evaluations, and the best step, of the runs that are kept in the browser."""
        runs: list[dict[str, Any]] = self.evaluate(_KEPT)
        return runs

    def train(self, button: str = "start", seconds: float = 120) -> None:
        """Trains to the end."""
        self.click(button)
        self.wait("/^Training is|^It did not/.test(document.getElementById('status').textContent)", seconds)

    def main_thread_tasks(self, act: Callable[[], None]) -> list[float]:
        """Returns the seconds of processor time that each task of the page's own thread took while something was done."""
        categories = ["toplevel", "disabled-by-default-devtools.timeline"]
        self._browser.call(
            "Tracing.start",
            transferMode="ReportEvents",
            traceConfig={"includedCategories": categories, "excludedCategories": ["*"]},
        )
        act()
        self._browser.call("Tracing.end")
        self.wait("true")
        events: list[dict[str, Any]] = []
        while not any(event["method"] == "Tracing.tracingComplete" for event in self._browser.events):
            self.wait("true")
        for event in self._browser.events:
            if event["method"] == "Tracing.dataCollected":
                events += event["params"]["value"]
        names = {
            (event["pid"], event["tid"]): event["args"]["name"] for event in events if event["name"] == "thread_name"
        }
        page = [thread for thread, name in names.items() if name == "CrRendererMain"]
        tasks = [event for event in events if event["name"] == "RunTask" and (event["pid"], event["tid"]) in page]
        # Of some that took microseconds no processor time is told.
        return [event["tdur"] / 1e6 for event in tasks if "tdur" in event]

    def accessibility(self) -> list[dict[str, Any]]:
        """Returns what assistive technology is told of the page: nodes with roles and names."""
        self._browser.call("Accessibility.enable")
        nodes: list[dict[str, Any]] = self._browser.call("Accessibility.getFullAXTree")["nodes"]
        return nodes

    def save(self, button: str) -> bytes:
        """Saves a file; returns its bytes."""
        assert self.downloads is not None
        before = set(self.downloads.iterdir())
        self.click(button)
        until = time.monotonic() + 60
        while not (new := [p for p in set(self.downloads.iterdir()) - before if p.suffix != ".crdownload"]):
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)
        self.wait("/is saved/.test(document.getElementById('status').textContent)")
        (path,) = new
        data = path.read_bytes()
        path.unlink()
        return data
