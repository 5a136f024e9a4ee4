"""Seconds of a training step in Chromium and in Python, on one machine: interleaved, so that what else it does falls on both.

    python tools/browser_speed.py ARTIFACTS DATA.npz --batch 8 --steps 20 --rounds 5

ARTIFACTS are of the engine onnxruntime, DATA holds arrays named like the inputs. The page of samples/browser has to be built.
Wall-clock medians over rounds, and processor time of all of Chromium and of all of Python, each with one thread and with two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.serving import served
from tests.browser.tab import Tab
from tests.reporting.browser import browser
from tgdonnx.engines.onnxruntime.state import STATE, read_state

PAGE = Path(__file__).parents[1] / "samples" / "browser" / "dist"
TICK = os.sysconf("SC_CLK_TCK")
Steps = Callable[[int], tuple[float, float]]
"""Trains some steps; returns seconds and processor seconds of each."""


def in_python(artifacts: Path, arrays: dict[str, Any], batch: int, threads: int) -> Steps:
    """Returns what trains with plain onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(artifacts / "step.onnx"), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    state = dict(read_state(artifacts / STATE).tensors)
    done = 0

    def train(steps: int) -> tuple[float, float]:
        nonlocal done
        begin, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            done += 1
            fed = {name: array[:batch] for name, array in arrays.items()}
            numbers = {"tgdonnx::learning_rate": np.array(1e-4, np.float32), "tgdonnx::step": np.array(done, np.int64)}
            results = dict(zip(names, session.run(None, {**fed, **numbers, **state})))
            state.update({name: results[f"{name}.after"] for name in state})
        return (time.perf_counter() - begin) / steps, (time.process_time() - processor) / steps

    return train


def in_chromium(stack: ExitStack, artifacts: Path, data: Path, batch: int, threads: int) -> Steps:
    """Returns what trains in the page, in a browser of its own."""
    address = stack.enter_context(served(PAGE, isolated=True))
    room = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
    opened = stack.enter_context(browser(room / "profile"))
    tab = Tab(opened, f"{address}?threads={threads}")
    tab.give("artifacts-folder", artifacts)
    tab.set(held_out=0)
    tab.give("data-files", data)
    tab.set(batch=batch, rate=1e-4, keep_every=10**6)
    done = 0

    def train(steps: int) -> tuple[float, float]:
        nonlocal done
        done += steps
        tab.set(steps=done)
        processor = _processor_seconds(room)
        tab.train("go-on" if done > steps else "start")
        used = (_processor_seconds(room) - processor) / steps
        said = tab.said()["status"]
        assert "Training is done" in said, tab.said()
        return float(said.split(";")[1].split()[0]), used

    return train


def _processor_seconds(profile: Path) -> float:
    """Returns what the processes of a browser, which is a process group of its own, have taken."""
    processes = [
        (_read(each / "cmdline"), _read(each / "stat").rsplit(b")", 1)[-1].split())
        for each in Path("/proc").glob("[0-9]*")
    ]
    groups = {numbers[2] for command, numbers in processes if str(profile).encode() in command and numbers}
    ticks = [int(numbers[11]) + int(numbers[12]) for _, numbers in processes if numbers and numbers[2] in groups]
    return sum(ticks) / TICK


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def main() -> None:
    """Prints the medians as a table and as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifacts", type=lambda path: Path(path).resolve())
    parser.add_argument("data", type=lambda path: Path(path).resolve())
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    arrays = dict(np.load(given.data))
    with ExitStack() as stack:
        ways = {f"Python, {n}": in_python(given.artifacts, arrays, given.batch, n) for n in (1, 2)}
        ways |= {f"Chromium, {n}": in_chromium(stack, given.artifacts, given.data, given.batch, n) for n in (1, 2)}
        for train in ways.values():
            train(given.steps)  # compiles, warms up
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(given.rounds):
            for name, train in ways.items():
                found[name].append(train(given.steps))
    medians = {
        name: {"seconds": statistics.median(wall), "processor": statistics.median(processor)}
        for name, (wall, processor) in ((name, list(zip(*each))) for name, each in found.items())
    }
    for name, each in medians.items():
        print(f"{name:12} threads  {1e3 * each['seconds']:8.1f} ms   processor {1e3 * each['processor']:8.1f} ms")
    print(json.dumps(medians))


if __name__ == "__main__":
    main()
