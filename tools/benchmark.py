"""The training step of thin artifacts by both engines, against plain and masked ONNX Runtime training and against PyTorch.

Every contender is a process of its own (`benchmark_worker.py`), on the same weights and the same batch. They take steps in
turn, a few each; their losses are compared before anything is timed. A ratio is the median over the turns of the two times
in one turn, so that what slows the machine for a while slows both.

    plain         onnxruntime-training, everything trains, in the masked form
    masked, thin  onnxruntime-training, the two forms of `tgdonnx build`
    onnxruntime   the engine of that name, thin, by another interpreter where --stock names one
    PyTorch       gradients times the masks, or requires_grad off where whole layers are frozen

With ``readers`` the kernels that read retrained filters train too. Small batches compare the two forms of engine onnxruntime.
Afterwards scoring, tracing, building and exporting are timed as a model grows.

Needs the extras ``train`` and ``bench``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import click
import numpy as np
import onnx
from dncnn import dncnn, random_rows
from guide_tables import NUMBERS, markdown, write_table
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

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
from tgdonnx.engines import ENGINES
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState
from tgdonnx.selection import Mode

Array = NDArray[Any]

RATE = 1e-6
STEPS_PER_TURN = 3
# Idle threads of the runtime and of PyTorch spin for some milliseconds after a step; they shall not disturb who is next.
PAUSE = 0.05
ROOT = Path(__file__).parents[1]
PET = ROOT / "samples" / "pet" / "networks" / "v1-net.onnx"

OPTIONS: dict[str, BuildOptions] = {
    "plain": BuildOptions(form="masked", engine="onnxruntime-training"),
    "masked": BuildOptions(form="masked", engine="onnxruntime-training"),
    "thin": BuildOptions(form="thin", engine="onnxruntime-training"),
    "onnxruntime": BuildOptions(form="thin", engine="onnxruntime"),
    "onnxruntime, masked": BuildOptions(form="masked", engine="onnxruntime"),
}
"""How the artifacts of each contender are built; PyTorch has none."""
TORCH = "PyTorch"
FORMS = ("plain", "masked", "thin", "onnxruntime")


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


DNCNN = Net("DnCNN 8 x 64, 8 x 64 x 64", (64,) * 7, 1, 64)
PET_NET = Net("PET net, 8 x 32 x 32", (64, 64, 128, 128, 128, 256, 256), 3, 32)
NETS = (DNCNN, PET_NET, Net("PET net, trained", (), 3, 32, file=PET))


@dataclass(frozen=True)
class Case:
    """A network, what of it trains, and who trains it."""

    net: Net
    trains: str
    strategy: Strategy
    mode: Mode = "paper"
    contenders: tuple[str, ...] = (*FORMS, TORCH)

    @property
    def key(self) -> str:
        """The name of the case."""
        return f"{self.net.name}, batch {self.net.batch}, {self.trains}"


@dataclass(frozen=True)
class Result:
    """One row of a table; of each contender the milliseconds of a step in each turn and the peak in MiB; state in kB."""

    net: str
    batch: int
    trains: str
    rho: float
    turns: Mapping[str, Sequence[float]]
    peak: Mapping[str, float]
    state: Mapping[str, float]

    def milliseconds(self, name: str) -> float:
        """Returns the median time of a step; NaN where that was not timed."""
        return statistics.median(self.turns[name]) if name in self.turns else math.nan

    def ratio(self, name: str, to: str) -> float:
        """Returns how long a step takes, relative to another in the same turn; NaN where one was not timed."""
        if name not in self.turns or to not in self.turns:
            return math.nan
        return statistics.median(a / b for a, b in zip(self.turns[name], self.turns[to]))

    @property
    def is_of_small_batch(self) -> bool:
        """Whether the two forms of engine onnxruntime are compared."""
        return "onnxruntime, masked" in self.turns


def cases(net: Net) -> list[Case]:
    """Returns what trains of a network: in one of a file by score, in others at random."""
    if net.file is not None:
        modes: tuple[Mode, ...] = ("paper", "readers")
        return [Case(net, f"phi 0.3, {mode}", Phi(0.3), mode, FORMS) for mode in modes]
    rows = {rho: Filters(random_rows(net.model(), rho)) for rho in (1.0, 0.5, 0.3, 0.1)}
    readers = [Case(net, f"rho {rho}, readers", rows[rho], "readers", FORMS) for rho in (0.3, 0.1)]
    small = [
        Case(
            Net(net.name, net.widths, net.channels, net.size, batch),
            "rho 0.3",
            rows[0.3],
            contenders=("onnxruntime, masked", "onnxruntime"),
        )
        for batch in (1, 2)
    ]
    return [
        *(Case(net, f"rho {rho}", rows[rho]) for rho in rows),
        Case(net, "last 3 of 8", LastLayers(3)),
        *readers,
        *small,
    ]


def make_artifacts(directory: Path, case: Case) -> float:
    """Builds what the contenders of a case train; returns rho."""
    onnx.save(case.net.model(), directory / "model.onnx")
    np.save(directory / "images.npy", case.net.images())
    mask(directory / "model.onnx", directory / "everything.onnx", AllLayers())
    report = mask(directory / "model.onnx", directory / "masked.onnx", case.strategy, MaskOptions(mode=case.mode))
    for name in case.contenders:
        if name in OPTIONS:
            source = "everything.onnx" if name == "plain" else "masked.onnx"
            build(directory / source, directory / name, OPTIONS[name])
    return report.rho


class Contender:
    """A process that takes training steps when it is told to."""

    def __init__(self, name: str, directory: Path, stock: str) -> None:
        """Starts it.

        Args:
            name: of the contender.
            directory: what `make_artifacts` made.
            stock: the interpreter for engine onnxruntime.
        """
        python = stock if name.startswith("onnxruntime") else sys.executable
        kind, place = ("torch", directory) if name == TORCH else ("session", directory / name)
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("benchmark_worker.py")), kind, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def take(self, steps: int) -> dict[str, float]:
        """Lets it take steps; returns the loss of the last, the mean seconds of one, and its peak memory so far in MiB."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer


def measure(case: Case, rounds: int, with_torch: bool, stock: str) -> Result:
    """Builds one case, compares losses, and times steps in turn."""
    with tempfile.TemporaryDirectory() as work, ExitStack() as stack:
        directory = Path(work)
        rho = make_artifacts(directory, case)
        names = [name for name in case.contenders if with_torch or name != TORCH]
        processes = {name: stack.enter_context(Contender(name, directory, stock)) for name in names}
        losses = {name: process.take(1)["loss"] for name, process in processes.items()}
        assert np.allclose(list(losses.values()), losses[names[0]], rtol=1e-5), losses
        turns: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, process in processes.items():
                time.sleep(PAUSE)
                process.take(1)
                turns[name].append(1e3 * process.take(STEPS_PER_TURN)["seconds"])
        peak = {name: process.take(1)["peak"] for name, process in processes.items()}
        stack.close()
        state = {name: _state_size(directory / name, case.net.images()) for name in ("plain", "thin") if name in names}
    return Result(case.net.name, case.net.batch, case.trains, rho, turns, peak, state)


def _state_size(directory: Path, images: Array) -> float:
    """Returns the size, in kB, of a checkpoint with the optimizer's state."""
    session = Session(directory)
    session.step([[images, images]], RATE)
    checkpoint = ENGINES["onnxruntime-training"].checkpoint
    session.save(checkpoint, RunState(0, 1, {}))
    return (directory / checkpoint).stat().st_size / 1e3


def growth(layers: int) -> dict[str, float]:
    """Returns the seconds that each stage takes on a chain of Convs of 16 filters, of which half train in every layer."""
    seconds = {}
    with tempfile.TemporaryDirectory() as work:
        directory = Path(work)
        model = dncnn([16] * (layers - 1))
        onnx.save(model, directory / "model.onnx")
        rows = Filters(random_rows(model, 0.5))

        def built(name: str) -> Callable[[], object]:
            return lambda: build(directory / "masked.onnx", directory / name, OPTIONS[name])

        stages: dict[str, Callable[[], object]] = {
            "score": lambda: score(directory / "model.onnx"),
            "trace": lambda: trace(directory / "model.onnx"),
            "mask": lambda: mask(directory / "model.onnx", directory / "masked.onnx", rows),
            "build masked": built("masked"),
            "build thin": built("thin"),
            "build onnxruntime": built("onnxruntime"),
            "export": lambda: export(directory / "onnxruntime", directory / "tuned.onnx"),
        }
        for name, stage in stages.items():
            begin = time.perf_counter()
            stage()
            seconds[name] = time.perf_counter() - begin
    return seconds


def tables(results: Sequence[Result], grown: Mapping[int, Mapping[str, float]]) -> dict[str, list[list[str]]]:
    """Returns the rows of the tables in the guide to numbers, by their names."""
    rows: dict[str, list[list[str]]] = {"training steps": [], "steps with readers": [], "small batches": []}
    for result in results:
        first = [result.net, result.trains]
        if result.is_of_small_batch:
            pair = ("onnxruntime, masked", "onnxruntime")
            cells = [str(result.batch), *(f"{result.milliseconds(name):.1f}" for name in pair)]
            rows["small batches"].append([*first, *cells, _ratio(result, *reversed(pair))])
            continue
        state = f"{result.state['thin'] / result.state['plain']:.2f}"
        times = {name: _number(result.milliseconds(name)) for name in (*FORMS, TORCH)}
        if "readers" in result.trains:
            ratios = [_ratio(result, "thin", "masked"), _ratio(result, "onnxruntime", "thin")]
            shown = [times[name] for name in ("masked", "thin", "onnxruntime")]
            rows["steps with readers"].append([*first, f"{result.rho:.2f}", *shown, *ratios, state])
        else:
            pairs = (("thin", "plain"), ("onnxruntime", "thin"), ("onnxruntime", TORCH))
            peak = " / ".join(f"{result.peak[form]:.0f}" for form in FORMS)
            ratios = [_ratio(result, *pair) for pair in pairs]
            rows["training steps"].append([*first, *times.values(), *ratios, peak, state])
    rows["stages"] = [
        [str(layers), *(f"{value:.2f}" for value in seconds.values())] for layers, seconds in grown.items()
    ]
    return rows


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _ratio(result: Result, name: str, to: str) -> str:
    value = result.ratio(name, to)
    return "-" if math.isnan(value) else f"{value:.2f}"


def show(rows: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Prints the tables."""
    for name, cells in rows.items():
        if cells:
            click.echo(f"{name}\n\n{markdown(name, cells)}")


def write(rows: Mapping[str, Sequence[Sequence[str]]], guide: Path = NUMBERS) -> None:
    """Writes the tables into the guide to numbers."""
    for name, cells in rows.items():
        write_table(name, cells, guide)


def _read(path: Path) -> tuple[dict[str, Result], dict[int, dict[str, float]]]:
    """Returns what is in a file of results: those of cases, and of growth."""
    if not path.exists():
        return {}, {}
    content = json.loads(path.read_text("utf-8"))
    grown = {int(layers): seconds for layers, seconds in content["seconds"].items()}
    return {key: Result(**fields) for key, fields in content["steps"].items()}, grown


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds and cases; ends in two minutes.")
@click.option("--rounds", type=int, help="Turns of each; 15, or 4 with --quick.")
@click.option("--only", default="", help="Of the cases those whose name has this in it; 'stages' for the stages.")
@click.option("--torch/--no-torch", "with_torch", default=True, help="Whether PyTorch is among them.")
@click.option("--stock", default=sys.executable, help="The Python with stock onnxruntime, for the engine of that name.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A file of results; what is in it is not measured again."
)
@click.option("--write", "to_guide", is_flag=True, help="Write the tables into the guide to numbers; of all cases.")
def main(
    quick: bool, rounds: Optional[int], only: str, with_torch: bool, stock: str, output: Optional[Path], to_guide: bool
) -> None:
    """Times training steps, and the other stages."""
    if to_guide and (quick or not with_torch):
        raise click.UsageError("--write is for all cases and with PyTorch")
    rounds = rounds or (4 if quick else 15)
    every = [case for net in NETS for case in cases(net) if not quick or case.trains in ("rho 1.0", "rho 0.1")]
    sizes = (10, 100) if quick else (10, 100, 500, 1000, 2000)
    results, grown = ({}, {}) if output is None else _read(output)

    def keep() -> None:
        if output is not None:
            machine = {"processor": platform.processor() or platform.machine(), "python": platform.python_version()}
            steps = {key: asdict(result) for key, result in results.items()}
            output.write_text(
                json.dumps({"machine": machine, "steps": steps, "seconds": grown}, indent=1) + "\n", "utf-8"
            )

    chosen = [case for case in every if case.key not in results and only in case.key]
    for case in track(chosen, "Cases", console=Console(stderr=True)):
        results[case.key] = measure(case, rounds, with_torch, stock)
        keep()
    for layers in sizes:
        if layers not in grown and only in ("", "stages"):
            grown[layers] = growth(layers)
            keep()
    missing = [case.key for case in every if case.key not in results]
    rows = tables([results[case.key] for case in every if case.key in results], dict(sorted(grown.items())))
    show(rows)
    if to_guide:
        if missing or len(grown) < len(sizes):
            raise click.UsageError(f"--write is for all cases; not measured: {', '.join(missing) or 'stages'}")
        write(rows)


if __name__ == "__main__":
    main()
