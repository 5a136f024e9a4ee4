"""A step of the engine onnxruntime on a GPU: is it right, is it the same every time, what does it cost? One run, one table.

    python tools/check_gpu.py --device cuda -o gpu.json

For both nets of `tools/benchmark.py` and every part of the filters: losses of 8 steps on the device against those on the CPU,
and the weights after them; two runs of 8 steps, and one that is cut off after 4 and goes on, bit for bit; the time of a step on
the device, in turn with PyTorch on the same device where torch is installed, and on the CPU; the memory of the device. Float32
throughout, without TF32. Needs the extra ``gpu``; ends within 8 minutes, or leaves cases out and says so. Exit status 1: a
result is wrong. ``--device cpu`` tries the tool itself.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import onnx
from dncnn import dncnn, random_rows
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tgdonnx import BuildOptions, Filters, LastLayers, Strategy, build, mask
from tgdonnx.artifacts import read_manifest
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState
from tgdonnx.runtime import CPU, Device, load_onnxruntime, usable_device

Array = NDArray[Any]
Step = Callable[[], float]

RATE, STEPS = 1e-4, 8
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-4
"""Of losses, and of the norm of what moved: another device sums in another order, and Adam divides by small numbers."""
STATE = "check.safetensors"
NETS = {
    "DnCNN 8 x 64, 8 x 64 x 64": ((64,) * 7, 1, 64),
    "PET net, 8 x 32 x 32": ((64, 64, 128, 128, 128, 256, 256), 3, 32),
}
RHOS = (1.0, 0.5, 0.3, 0.1)
BATCH = 8


@dataclass(frozen=True)
class Case:
    """A network, and what of it trains."""

    net: str
    trains: str
    strategy: Strategy


@dataclass(frozen=True)
class Result:
    """One row of the table; times in milliseconds, memory of the device in MiB.

    Attributes:
        net: the network.
        trains: which part of it.
        loss: the largest relative difference of losses from those on the CPU.
        weights: the same of the weights after the last step: norm of the difference by norm of what moved.
        same: whether two runs have the same bits.
        resumed: whether a run that was cut off ends with the same bits.
        device: a step on the device.
        torch: a step of PyTorch there; None without it.
        cpu: a step on the CPU.
        memory: what the device holds more of than before; None where it does not say.
    """

    net: str
    trains: str
    loss: float
    weights: float
    same: bool
    resumed: bool
    device: float
    torch: Optional[float]
    cpu: float
    memory: Optional[float]

    @property
    def right(self) -> bool:
        """Whether every result is as it shall be."""
        return self.same and self.resumed and self.loss <= LOSS_TOLERANCE and self.weights <= WEIGHT_TOLERANCE


@dataclass(frozen=True)
class Trained:
    """What some steps came to."""

    losses: list[float]
    weights: dict[str, Array]


def cases() -> list[Case]:
    """Returns what is tried: every net at every rho, and its last three layers."""
    found = []
    for net in NETS:
        model = model_of(net)
        found += [Case(net, f"rho {rho}", Filters(random_rows(model, rho))) for rho in RHOS]
        found.append(Case(net, "last 3 of 8", LastLayers(3)))
    return found


def model_of(net: str) -> onnx.ModelProto:
    """Returns a network with random weights."""
    widths, channels, _ = NETS[net]
    return dncnn(widths, channels=channels)


def batches(net: str) -> list[Array]:
    """Returns a batch for every step: noise, which is input and target at once."""
    _, channels, size = NETS[net]
    rng = np.random.default_rng(1)
    return [rng.standard_normal((BATCH, channels, size, size)).astype(np.float32) for _ in range(STEPS)]


def steps(
    artifacts: Path, device: Device, images: list[Array], checkpoint: Optional[str] = None
) -> tuple[Trained, Session]:
    """Takes a step for every batch; what it comes to is in the checkpoint `STATE`, too."""
    session = Session(artifacts, checkpoint=checkpoint, device=device)
    losses = [session.step([[batch, batch]], RATE)[0] for batch in images]
    session.save(STATE, RunState(0, len(losses), {}))
    return Trained(losses, read_parameters(artifacts, STATE)), session


def differences(found: Trained, expected: Trained, start: dict[str, Array]) -> tuple[float, float]:
    """Returns how far losses are apart, relative, and weights, by the norm of what moved."""
    loss = max(abs(a - b) / abs(b) for a, b in zip(found.losses, expected.losses))
    apart = math.sqrt(sum(float(np.square(found.weights[n] - w).sum()) for n, w in expected.weights.items()))
    moved = math.sqrt(sum(float(np.square(start[n] - w).sum()) for n, w in expected.weights.items()))
    return loss, apart / moved


def same_bits(one: Trained, other: Trained) -> bool:
    """Whether two runs are the same."""
    weights = (one.weights[name].tobytes() == other.weights[name].tobytes() for name in one.weights)
    return one.losses == other.losses and all(weights)


def peer_step(masked: onnx.ModelProto, images: Array, device: Device) -> Optional[Step]:
    """Returns a training step in PyTorch on the device that leaves the same weights alone; None where it has no such device."""
    try:
        import torch  # noqa: TID251  # a peer in the benchmark
        from torch_step import torch_step
    except ImportError:
        return None
    if device.kind == "cuda" and not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    step = torch_step(masked, RATE, str(device))
    return lambda: step(images)


def in_turn(contenders: dict[str, Step], rounds: int) -> dict[str, float]:
    """Returns the median of the milliseconds of a step of each, timed in turn."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            step()
            begin = time.perf_counter()
            for _ in range(3):
                step()
            times[name].append(1e3 * (time.perf_counter() - begin) / 3)
    return {name: statistics.median(values) for name, values in times.items()}


def device_memory(device: Device) -> Optional[float]:
    """Returns the MiB that are in use on the device; None where it does not say."""
    if device.kind != "cuda" or shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", f"--id={device.index}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def check(case: Case, device: Device, rounds: int) -> Result:
    """Builds one case, holds the device against the CPU, and times steps."""
    images = batches(case.net)
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        onnx.save(model_of(case.net), directory / "model.onnx")
        mask(directory / "model.onnx", directory / "masked.onnx", case.strategy)
        artifacts = directory / "artifacts"
        build(directory / "masked.onnx", artifacts, BuildOptions(engine="onnxruntime", form="thin"))
        start = read_parameters(artifacts, read_manifest(artifacts).runtime.checkpoint)
        expected, on_cpu = steps(artifacts, CPU, images)
        before = device_memory(device)
        found, there = steps(artifacts, device, images)
        after = device_memory(device)
        again, _ = steps(artifacts, device, images)
        half, _ = steps(artifacts, device, images[: STEPS // 2])
        rest, _ = steps(artifacts, device, images[STEPS // 2 :], checkpoint=STATE)
        resumed = Trained([*half.losses, *rest.losses], rest.weights)
        contenders: dict[str, Step] = {"device": lambda: there.step([[images[0], images[0]]], RATE)[0]}
        peer = peer_step(onnx.load(directory / "masked.onnx"), images[0], device)
        if peer is not None:
            first = peer()
            assert abs(first - expected.losses[0]) <= LOSS_TOLERANCE * first, (first, expected.losses[0])
            contenders["torch"] = peer
        ms = in_turn(contenders, rounds)
        cpu = in_turn({"cpu": lambda: on_cpu.step([[images[0], images[0]]], RATE)[0]}, 2)["cpu"]
    memory = None if before is None or after is None else after - before
    loss, weights = differences(found, expected, start)
    same, goes_on = same_bits(found, again), same_bits(found, resumed)
    return Result(case.net, case.trains, loss, weights, same, goes_on, ms["device"], ms.get("torch"), cpu, memory)


def show(results: list[Result], device: Device) -> None:
    """Prints the table."""
    table = Table(title=f"Step on {device}, ms, medians; against the CPU")
    for heading in ("net", "trains"):
        table.add_column(heading)
    for heading in (
        "loss",
        "weights",
        "same",
        "resumed",
        str(device),
        "PyTorch",
        "ratio",
        "CPU",
        "CPU / device",
        "MiB",
    ):
        table.add_column(heading, justify="right")
    for each in results:
        table.add_row(
            *(each.net, each.trains, f"{each.loss:.0e}", f"{each.weights:.0e}"),
            *("yes" if each.same else "NO", "yes" if each.resumed else "NO", f"{each.device:.2f}"),
            "-" if each.torch is None else f"{each.torch:.2f}",
            "-" if each.torch is None else f"{each.device / each.torch:.2f}",
            *(f"{each.cpu:.1f}", f"{each.cpu / each.device:.1f}"),
            "-" if each.memory is None else f"{each.memory:.0f}",
        )
    Console(width=150).print(table)


@click.command()
@click.option("--device", "name", default="cuda", show_default=True, help="cuda, or cuda:1; cpu tries the tool itself.")
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="Turns of the timings.")
@click.option("--seconds", type=float, default=420, show_default=True, help="No case is begun after so long.")
@click.option("--quick", is_flag=True, help="Of each net only rho 1 and rho 0.1.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the results as JSON.")
def main(name: str, rounds: int, seconds: float, quick: bool, output: Optional[Path]) -> None:
    """Checks and times training steps on a device."""
    device, begin, results = usable_device(name), time.monotonic(), []
    chosen = [case for case in cases() if not quick or case.trains in ("rho 1.0", "rho 0.1")]
    for case in chosen:
        if time.monotonic() - begin > seconds:
            break
        results.append(check(case, device, rounds))
        print(f"{case.net}, {case.trains}: {'right' if results[-1].right else 'WRONG'}", flush=True)
    show(results, device)
    if len(results) < len(chosen):
        print(f"{len(chosen) - len(results)} cases were left out: {seconds:.0f} s are over")
    if output is not None:
        runtime = load_onnxruntime()
        machine = {"processor": platform.processor() or platform.machine(), "onnxruntime": runtime.__version__}
        content = {"device": str(device), "machine": machine, "results": [asdict(each) for each in results]}
        output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    raise SystemExit(0 if all(each.right for each in results) else 1)


if __name__ == "__main__":
    main()
