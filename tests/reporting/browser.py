"""Headless Chromium, driven through a pipe: what a page looks like, how wide it is, what it says to the console and loads.

Its DevTools protocol: JSON messages that end in a zero byte, on file descriptors 3 (to the browser) and 4 (from it).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, Optional

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Starts a program with two files on the numbers that it expects; first out of each other's way.
_ON_3_AND_4 = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
SILENCE = 180
"""Seconds after which a browser that says nothing has died or lost what it was asked."""
OVERFLOW = """(() => {
  const width = document.documentElement.clientWidth, found = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('svg') && element.tagName !== 'svg') continue;
    const box = element.getBoundingClientRect();
    if ((box.right > width + 0.5 || box.left < -0.5) && !element.closest('.scroll'))
      found.push(element.tagName + '.' + element.className.toString() + ' ' + Math.round(box.right));
  }
  return {inner: innerWidth, page: document.documentElement.scrollWidth, found,
          dark: matchMedia('(prefers-color-scheme: dark)').matches,
          paper: getComputedStyle(document.body).backgroundColor};
})()"""


@dataclass
class Page:
    """A page that is open.

    Attributes:
        console: what it said to the console, and what the browser said about it.
        requests: the addresses that it asked for.
        layout: what `OVERFLOW` finds.
        picture: of the whole page, PNG.
        paper: as printed on A4, PDF.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    layout: Mapping[str, Any] = field(default_factory=dict)
    picture: bytes = b""
    paper: bytes = b""


class Browser:
    """A browser with one tab."""

    def __init__(self, to_browser: int, answers: BufferedReader) -> None:
        self._write, self._read = to_browser, answers
        self._count, self._rest = 0, b""
        self._events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path, width: int, scheme: Literal["light", "dark"]) -> Page:
        """Opens a page as it is at some width and in some scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self._events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())
        page = Page()
        page.layout = self.call("Runtime.evaluate", expression=OVERFLOW, returnByValue=True)["result"]["value"]
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        page.picture = base64.b64decode(shot["data"])
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        page.paper = base64.b64decode(printed["data"])
        for event in self._events:
            if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                page.console.append(json.dumps(event["params"]))
            if event["method"] == "Network.requestWillBeSent":
                page.requests.append(event["params"]["request"]["url"])
        return page

    @property
    def events(self) -> list[dict[str, Any]]:
        """What the browser told since the last page was opened."""
        return self._events

    def call(self, method: str, session: Optional[str] = None, **parameters: Any) -> dict[str, Any]:
        """Returns what the browser answers to a method of its protocol; ``session``: of another target than the tab."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = session or self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], SILENCE)[0], f"the browser said nothing for {SILENCE} s"
            block = self._read.read1(2**20)
            assert block, "the browser closed the pipe"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        content: dict[str, Any] = json.loads(message)
        return content


@contextmanager
def browser(profile: Path, flags: Sequence[str] = ()) -> Iterator[Browser]:
    """Starts Chromium with a profile of its own; ``flags``: besides those that all tests have."""
    program = os.environ.get("TGDONNX_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "these tests need Chromium: apt-get install chromium, or name it in TGDONNX_CHROMIUM"
    child_reads, to_browser = os.pipe()
    from_browser, child_writes = os.pipe()
    command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
    with (profile.parent / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, str(child_reads), str(child_writes), *command],
            pass_fds=(child_reads, child_writes),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    os.close(child_reads)
    os.close(child_writes)
    try:
        with os.fdopen(from_browser, "rb") as answers:
            yield Browser(to_browser, answers)
    finally:
        os.close(to_browser)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
