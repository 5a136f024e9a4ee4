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


def torch_step(directory: Path) -> Step:
    """Returns a step in PyTorch on the Convs and Relus of ``masked.onnx``, which leaves the same weights alone."""
    import onnx
    import torch  # noqa: TID251 - a peer in the benchmark
    from onnx import numpy_helper

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    masked = onnx.load(directory / "masked.onnx")
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in masked.graph.initializer}
    layers: list[torch.nn.Module] = []
    masks = []
    convs = [node for node in masked.graph.node if node.op_type == "Conv"]
    for node in convs:
        weight, bias = tensors[node.input[1]], tensors[node.input[2]]
        conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
        for parameter, name, values in ((conv.weight, node.input[1], weight), (conv.bias, node.input[2], bias)):
            assert parameter is not None
            parameter.data = torch.from_numpy(values.copy())
            retrain = torch.from_numpy(tensors[f"{name}.retrain_mask"].copy())
            parameter.requires_grad_(bool(retrain.any()))
            if parameter.requires_grad and not retrain.all():
                masks.append((parameter, retrain))
        layers += [conv] if node is convs[-1] else [conv, torch.nn.ReLU(inplace=True)]
    net = torch.nn.Sequential(*layers)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    batch = torch.from_numpy(np.load(directory / "images.npy"))

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(batch), batch)
        loss.backward()
        for parameter, retrain in masks:
            assert parameter.grad is not None
            parameter.grad *= retrain
        optimizer.step()
        return float(loss.detach())

    return step


def peak() -> float:
    """Returns the largest resident size of this process in MiB."""
    # Not that of getrusage, which counts from before the process became its own.
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Serves steps of the artifacts (or, of PyTorch, the masked model) in the directory that the arguments name."""
    kind, directory = sys.argv[1], Path(sys.argv[2])
    step = torch_step(directory) if kind == "torch" else session_step(directory)
    for line in sys.stdin:
        count, loss = int(line), 0.0
        begin = time.perf_counter()
        for _ in range(count):
            loss = step()
        seconds = (time.perf_counter() - begin) / count
        print(json.dumps({"loss": loss, "seconds": seconds, "peak": peak()}), flush=True)


if __name__ == "__main__":
    main()
