"""One contender of `tools/benchmark.py`, in a process of its own: takes training steps when it is told to.

It reads a number of steps from each line of standard input, takes them, and answers with a line of JSON: the loss of the last
one, the mean seconds of one, and the largest resident size so far in MiB. Only what it trains with must be installed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Step = Callable[[], float]

RATE = 1e-6


def session_step(directory: Path) -> Step:
    """Returns a step of an artifacts directory."""
    from tgdonnx.finetuning.session import Session

    images = np.load(directory.parent / "images.npy")
    session = Session(directory)
    return lambda: session.step([[images, images]], RATE)[0]


def peer_step(directory: Path) -> Step:
    """Returns a step in PyTorch on ``masked.onnx``."""
    import onnx
    import torch  # noqa: TID251 - a peer in the benchmark
    from torch_step import torch_step

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    step = torch_step(onnx.load(directory / "masked.onnx"), RATE, "cpu")
    images = np.load(directory / "images.npy")
    return lambda: step(images)


def peak() -> float:
    """Returns the largest resident size of this process in MiB."""
    # Not that of getrusage, which counts from before the process became its own.
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Serves steps of the artifacts (or, of PyTorch, the masked model) in the directory that the arguments name."""
    kind, directory = sys.argv[1], Path(sys.argv[2])
    step = peer_step(directory) if kind == "torch" else session_step(directory)
    for line in sys.stdin:
        count, loss = int(line), 0.0
        begin = time.perf_counter()
        for _ in range(count):
            loss = step()
        seconds = (time.perf_counter() - begin) / count
        print(json.dumps({"loss": loss, "seconds": seconds, "peak": peak()}), flush=True)


if __name__ == "__main__":
    main()
