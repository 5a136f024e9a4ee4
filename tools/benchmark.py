"""The training step of thin artifacts, against plain and masked ONNX Runtime training and against PyTorch.

All run in one process, in turn, on the same weights and the same batch; their losses are compared before anything is timed.
``plain`` trains everything with the runtime's own nodes; ``masked`` and ``thin`` are the two forms of `tgdonnx build`;
``PyTorch`` multiplies gradients by the masks, or turns requires_grad off where whole layers are frozen. With ``readers`` the
kernels that read retrained filters train too. Peak memory is that of a process of its own for each. Afterwards scoring,
tracing, building and exporting are timed as a model grows.

Needs the extras ``train`` and ``bench``.
"""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import onnx
from dncnn import dncnn, random_rows
from guide_tables import NUMBERS, write_table
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tgdonnx import (
    AllLayers,
    BuildOptions,
    Filters,
    LastLayers,
    MaskOptions,
    Phi,
    Strategy,
    build,
    export,
    mask,
    score,
    trace,
)
from tgdonnx.engines.onnxruntime_training.files import CHECKPOINT
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState
from tgdonnx.selection import Mode

Array = NDArray[Any]
Step = Callable[[], float]

RATE = 1e-6
STEPS_PER_TURN = 3
# Idle threads of the runtime and of PyTorch spin for some milliseconds after a step; they shall not disturb who is next.
PAUSE = 0.05
FORMS = ("plain", "masked", "thin")
PET = Path(__file__).parents[1] / "samples" / "pet" / "networks" / "v1-net.onnx"


@dataclass(frozen=True)
class Net:
    """A network to train, and the batch; one with random weights if no file is given."""

    name: str
    widths: tuple[int, ...]
    channels: int
    size: int
    batch: int = 8
    file: Optional[Path] = None

    def model(self) -> onnx.ModelProto:
        """Returns it."""
        return dncnn(self.widths, channels=self.channels) if self.file is None else onnx.load(self.file)

    def images(self) -> Array:
        """Returns a batch of noise, input and target at once."""
        shape = (self.batch, self.channels, self.size, self.size)
        return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


NETS = (
    Net("DnCNN 8 x 64, 8 x 64 x 64", (64,) * 7, 1, 64),
    Net("PET net, 8 x 32 x 32", (64, 64, 128, 128, 128, 256, 256), 3, 32),
    Net("PET net, trained", (), 3, 32, file=PET),
)


@dataclass(frozen=True)
class Case:
    """A network, and what of it trains."""

    net: Net
    trains: str
    strategy: Strategy
    mode: Mode = "paper"


@dataclass(frozen=True)
class Result:
    """One row of the table; times in milliseconds, memory in MiB, state (checkpoint with optimizer state) in kB."""

    net: str
    trains: str
    rho: float
    milliseconds: Mapping[str, float]
    peak: Mapping[str, float]
    state: Mapping[str, float]

    def ratio(self, form: str, to: str) -> float:
        """Returns how long a step takes, relative to another; NaN where that was not timed."""
        return self.milliseconds[form] / self.milliseconds.get(to, math.nan)


def cases(net: Net) -> list[Case]:
    """Returns what trains of a network: in one of a file by score, in others at random."""
    if net.file is not None:
        modes: tuple[Mode, ...] = ("paper", "readers")
        return [Case(net, f"phi 0.3, {mode}", Phi(0.3), mode) for mode in modes]
    rows = {rho: Filters(random_rows(net.model(), rho)) for rho in (1.0, 0.5, 0.3, 0.1)}
    readers = [Case(net, f"rho {rho}, readers", rows[rho], "readers") for rho in (0.3, 0.1)]
    return [*(Case(net, f"rho {rho}", rows[rho]) for rho in rows), *readers, Case(net, "last 3 of 8", LastLayers(3))]


def make_artifacts(directory: Path, model: onnx.ModelProto, case: Case) -> float:
    """Builds all forms; returns rho."""
    onnx.save(model, directory / "model.onnx")
    mask(directory / "model.onnx", directory / "everything.onnx", AllLayers())
    build(directory / "everything.onnx", directory / "plain")
    report = mask(directory / "model.onnx", directory / "masked.onnx", case.strategy, MaskOptions(mode=case.mode))
    build(directory / "masked.onnx", directory / "masked", BuildOptions(form="masked"))
    build(directory / "masked.onnx", directory / "thin", BuildOptions(form="thin"))
    return report.rho


def torch_step(model: onnx.ModelProto, masked: onnx.ModelProto, images: Array) -> Step:
    """Returns a training step in PyTorch that leaves the same weights alone."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in masked.graph.initializer}
    layers: list[torch.nn.Module] = []
    masks = []
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
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
    batch = torch.from_numpy(images)

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


def peak_memory(directory: Path, images: Array) -> float:
    """Returns the largest resident size, in MiB, of a process that takes three steps."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_peak, (directory, images)))


def _peak(directory: Path, images: Array) -> float:
    session = Session(directory)
    for _ in range(3):
        session.step([[images, images]], RATE)
    # Not of getrusage, which counts from before the process became its own.
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(case: Case, rounds: int, with_torch: bool) -> Result:
    """Builds one case, compares losses, and times steps in turn; PyTorch is left out of networks in files."""
    model, images = case.net.model(), case.net.images()
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        rho = make_artifacts(directory, model, case)
        steps: dict[str, Step] = {}
        for form in FORMS:
            session = Session(directory / form)
            steps[form] = lambda session=session: session.step([[images, images]], RATE)[0]  # type: ignore[misc]
        if with_torch and case.net.file is None:
            steps["PyTorch"] = torch_step(model, onnx.load(directory / "masked.onnx"), images)
        losses = {name: step() for name, step in steps.items()}
        assert np.allclose(list(losses.values()), losses["plain"], rtol=1e-5), losses
        state = {form: _state_size(directory / form, images) for form in FORMS}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                time.sleep(PAUSE)
                step()
                begin = time.perf_counter()
                for _ in range(STEPS_PER_TURN):
                    step()
                times[name].append((time.perf_counter() - begin) / STEPS_PER_TURN)
        del steps
        gc.collect()
        peak = {form: peak_memory(directory / form, images) for form in FORMS}
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    return Result(case.net.name, case.trains, rho, milliseconds, peak, state)


def _state_size(directory: Path, images: Array) -> float:
    """Returns the size, in kB, of a checkpoint with the optimizer's state."""
    session = Session(directory)
    session.step([[images, images]], RATE)
    session.save(CHECKPOINT, RunState(0, 1, {}))
    return (directory / CHECKPOINT).stat().st_size / 1e3


def growth(layers: int) -> dict[str, float]:
    """Returns the seconds that each stage takes on a chain of Convs of 16 filters."""
    seconds = {}
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        onnx.save(dncnn([16] * (layers - 1)), directory / "model.onnx")
        stages: dict[str, Callable[[], object]] = {
            "score": lambda: score(directory / "model.onnx"),
            "trace": lambda: trace(directory / "model.onnx"),
            "mask": lambda: mask(directory / "model.onnx", directory / "masked.onnx", LastLayers(layers // 2)),
            "build masked": lambda: build(directory / "masked.onnx", directory / "masked"),
            "build thin": lambda: build(directory / "masked.onnx", directory / "thin", BuildOptions(form="thin")),
            "export": lambda: export(directory / "thin", directory / "tuned.onnx"),
        }
        for name, stage in stages.items():
            begin = time.perf_counter()
            stage()
            seconds[name] = time.perf_counter() - begin
    return seconds


def show(results: list[Result], grown: Mapping[int, Mapping[str, float]]) -> None:
    """Prints the tables."""
    console = Console()
    table = Table(title="Training step, ms, medians")
    names = list(results[0].milliseconds)
    others = [name for name in names if name != "thin"]
    for heading in ("net", "trains", *names, *(f"thin / {name}" for name in others), "peak MiB", "state / plain"):
        table.add_column(heading, justify="left" if heading in ("net", "trains") else "right")
    for result in results:
        table.add_row(
            result.net,
            result.trains,
            *(f"{result.milliseconds.get(name, math.nan):.0f}" for name in names),
            *(f"{result.ratio('thin', name):.2f}" for name in others),
            " / ".join(f"{result.peak[form]:.0f}" for form in FORMS),
            f"{result.state['thin'] / result.state['plain']:.2f}",
        )
    console.print(table)
    table = Table("layers", *next(iter(grown.values())), title="Seconds, as a chain of Convs with 16 filters grows")
    for layers, seconds in grown.items():
        table.add_row(str(layers), *(f"{value:.2f}" for value in seconds.values()))
    console.print(table)


def write(results: list[Result], grown: Mapping[int, Mapping[str, float]], guide: Path = NUMBERS) -> None:
    """Writes the tables into the guide to numbers."""
    steps, readers = [], []
    for result in results:
        ms = {name: f"{value:.0f}" for name, value in result.milliseconds.items()}
        state = f"{result.state['thin'] / result.state['plain']:.2f}"
        if "readers" in result.trains:
            cells = (f"{result.rho:.2f}", ms["masked"], ms["thin"], f"{result.ratio('thin', 'masked'):.2f}")
            readers.append([result.net, result.trains, *cells, state])
        else:
            ratios = (f"{result.ratio('thin', name):.2f}" if name in ms else "-" for name in ("plain", "PyTorch"))
            peak = " / ".join(f"{result.peak[form]:.0f}" for form in FORMS)
            times = (ms.get(name, "-") for name in (*FORMS, "PyTorch"))
            steps.append([result.net, result.trains, *times, *ratios, peak, state])
    write_table("training steps", steps, guide)
    write_table("steps with readers", readers, guide)
    stages = [[str(layers), *(f"{value:.2f}" for value in seconds.values())] for layers, seconds in grown.items()]
    write_table("stages", stages, guide)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds and cases; ends in two minutes.")
@click.option("--rounds", type=int, help="Turns of each; 15, or 4 with --quick.")
@click.option("--torch/--no-torch", "with_torch", default=True, help="Whether PyTorch is among them.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the results as JSON.")
@click.option("--write", "to_guide", is_flag=True, help="Write the tables into the guide to numbers; of all cases.")
def main(quick: bool, rounds: Optional[int], with_torch: bool, output: Optional[Path], to_guide: bool) -> None:
    """Times training steps, and the other stages."""
    if to_guide and (quick or not with_torch):
        raise click.UsageError("--write is for all cases and with PyTorch")
    rounds = rounds or (4 if quick else 15)
    chosen = [case for net in NETS for case in cases(net) if not quick or case.trains in ("rho 1.0", "rho 0.1")]
    results = [measure(case, rounds, with_torch) for case in track(chosen, "Cases", console=Console(stderr=True))]
    grown = {layers: growth(layers) for layers in ((10, 100) if quick else (10, 100, 500, 1000, 2000))}
    show(results, grown)
    if to_guide:
        write(results, grown)
    if output is not None:
        machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
        content = {"machine": machine, "steps": [asdict(result) for result in results], "seconds": grown}
        output.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
