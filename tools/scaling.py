"""Time and memory of every command over the number of nodes, so that what grows faster than the model is seen.

    python tools/scaling.py [--nodes 1000,2000,4000] [--networks chain,residual,dense] [--commands inspect,trace,...]

Each command runs in a process of its own, on networks that are made for it; the table has its wall time in seconds and its
largest resident set in MiB, and behind them the exponent of their growth from the first size to the last, less what an empty
command takes: 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

CHANNELS = 4
GROWTH = 2
BLOCK = 100  # layers of a dense block: each reads all before it
FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Usage:
    """What a command took: wall seconds, MiB resident, exit status."""

    seconds: float
    mebibytes: float
    status: int


class Graph:
    """A network under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def conv(self, x: str, filters: int, maps: int) -> str:
        """A 1 x 1 Conv with weights about He's, so that deep nets stay finite."""
        name = f"conv{len(self.nodes)}"
        weight = self._rng.standard_normal((filters, maps, 1, 1)) * math.sqrt(2 / maps) * 0.5
        self.tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}_w"))
        return self.node("Conv", [x, f"{name}_w"], name)

    def node(self, op_type: str, inputs: list[str], name: str = "", **attributes: int) -> str:
        """Any node of one output."""
        name = name or f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_y"], name, **attributes))
        return f"{name}_y"

    def model(self, last: str, maps: int) -> onnx.ModelProto:
        """The whole, with one Conv of ``CHANNELS`` filters at its end."""
        y = self.conv(last, CHANNELS, maps)
        self.nodes[-1].output[0] = "y"
        assert y
        shape = ["N", CHANNELS, "H", "W"]
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", FLOAT, shape)],
            [helper.make_tensor_value_info("y", FLOAT, shape)],
            self.tensors,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(nodes: int) -> onnx.ModelProto:
    """Conv and Relu in turn."""
    graph, x = Graph(), "x"
    while len(graph.nodes) < nodes - 1:
        x = graph.node("Relu", [graph.conv(x, CHANNELS, CHANNELS)])
    return graph.model(x, CHANNELS)


def residual(nodes: int) -> onnx.ModelProto:
    """Blocks of Conv and Relu that are added to one trunk from begin to end."""
    graph, x = Graph(), "x"
    x = graph.conv(x, CHANNELS, CHANNELS)
    while len(graph.nodes) < nodes - 1:
        x = graph.node("Add", [x, graph.node("Relu", [graph.conv(x, CHANNELS, CHANNELS)])])
    return graph.model(x, CHANNELS)


def dense(nodes: int) -> onnx.ModelProto:
    """Blocks of 100 layers of which each reads all before it in the block."""
    graph, x, maps = Graph(), "x", CHANNELS
    while len(graph.nodes) < nodes - 1:
        x, maps = graph.conv(x, CHANNELS, maps), CHANNELS
        parts = [x]
        while len(parts) < BLOCK and len(graph.nodes) < nodes - 3:
            joined = graph.node("Concat", parts, axis=1) if len(parts) > 1 else x
            parts.append(graph.node("Relu", [graph.conv(joined, GROWTH, maps)]))
            maps += GROWTH
        x = graph.node("Concat", parts, axis=1) if len(parts) > 1 else x
        if len(parts) < BLOCK:
            break
    return graph.model(x, maps)


NETWORKS: dict[str, Callable[[int], onnx.ModelProto]] = {"chain": chain, "residual": residual, "dense": dense}

# Each reads what the commands before it in this order wrote.
COMMANDS: dict[str, list[str]] = {
    "nothing": ["--version"],
    "inspect": ["inspect", "model.onnx"],
    "score": ["score", "model.onnx", "-o", "score.json"],
    "trace": ["trace", "model.onnx", "--json"],
    "check": ["check", "model.onnx"],
    "sweep": ["sweep", "model.onnx", "--data", "data.npz", "--phi", "0.3", "--tolerance", "1e30"],
    "apply": ["apply", "model.onnx", "--data", "image.npy", "-o", "applied.npy", "--layout", "CHW"],
    "mask": ["mask", "model.onnx", "--last", "2", "-o", "masked.onnx"],
    "build": ["build", "masked.onnx", "-o", "artifacts"],
    "train": ["train", "artifacts", "--data", "data.npz", "--epochs", "1", "--batch", "2"],
    "export": ["export", "artifacts", "-o", "tuned.onnx"],
    "verify": ["verify", "model.onnx", "tuned.onnx", "--masked", "masked.onnx"],
    "report": ["report", "artifacts", "-o", "report.html"],
}


def measure(arguments: list[str], directory: Path, timeout: float) -> Usage:
    """Runs one command in a process of its own."""
    start = time.monotonic()
    with (directory / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tgdonnx", *arguments], cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - start > timeout:
                process.kill()
            time.sleep(0.005)
    process.returncode = os.waitstatus_to_exitcode(status)
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return Usage(time.monotonic() - start, usage.ru_maxrss / scale, process.returncode)


def prepare(network: str, nodes: int, directory: Path) -> None:
    """Writes a network and data for it."""
    directory.mkdir()
    (directory / "model.onnx").write_bytes(NETWORKS[network](nodes).SerializeToString())
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((2, CHANNELS, 6, 5)).astype(np.float32) for name in ("x", "target")}
    np.savez(directory / "data.npz", **arrays)
    np.save(directory / "image.npy", arrays["x"][0])


def growth(usages: list[float], idle: float, nodes: list[int]) -> str:
    """Returns the exponent of the growth; nothing where the first size does not stand out from an empty command."""
    first, last = usages[0] - idle, usages[-1] - idle
    if len(nodes) < 2 or first <= 0.05 * idle or last <= 0:
        return "-"
    return f"{math.log(last / first) / math.log(nodes[-1] / nodes[0]):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="1000,2000,4000")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()
    nodes = [int(count) for count in options.nodes.split(",")]
    wanted = [name for name in COMMANDS if name == "nothing" or name in options.commands.split(",")]
    for network in options.networks.split(","):
        found: dict[str, list[Usage]] = {name: [] for name in wanted}
        with tempfile.TemporaryDirectory() as work:
            for count in nodes:
                directory = Path(work, str(count))
                prepare(network, count, directory)
                for name in wanted:
                    found[name].append(measure(COMMANDS[name], directory, options.timeout))
                    if found[name][-1].status not in (0, 1):
                        tail = (directory / "log.txt").read_text(errors="replace")[-300:]
                        print(f"{network} {count} {name}: exit {found[name][-1].status}: {tail}", file=sys.stderr)
        print(f"\n{network:10}" + "".join(f"{count:>20,}" for count in nodes) + f"{'growth: s':>12}{'MiB':>7}")
        idle = found["nothing"][-1]
        for name, usages in found.items():
            cells = "".join(f"{usage.seconds:>11.1f} s {usage.mebibytes:>5.0f} M" for usage in usages)
            time_growth = growth([usage.seconds for usage in usages], idle.seconds, nodes)
            memory_growth = growth([usage.mebibytes for usage in usages], idle.mebibytes, nodes)
            print(f"{name:10}{cells}{time_growth:>12}{memory_growth:>7}")


if __name__ == "__main__":
    main()
