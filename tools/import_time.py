"""How long it takes until anything happens: starts of the package and of the command line, with the modules that they load.

    python tools/import_time.py [--starts 7] [--write]

Each is started in turn, in processes of their own; the medians are shown, and with ``--write`` go into the guide to numbers.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import onnx
from dncnn import dncnn
from guide_tables import markdown, write_table

TABLE = "starts"
WIDTHS = [16] * 7
_COUNT = "import json, sys; print(json.dumps([len(sys.modules), sum(n.partition('.')[0] == 'tgdonnx' for n in sys.modules)]))"
_ENTRY = f"import sys, tgdonnx.__main__\ntry: tgdonnx.__main__.main()\nfinally: sys.stdout = sys.stderr; {_COUNT}"


@dataclass(frozen=True)
class Start:
    """Something to start: what it is called, the code, and the arguments of the command line."""

    title: str
    code: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """As a process of its own."""
        return [sys.executable, "-c", self.code, *self.arguments]


@dataclass(frozen=True)
class Cost:
    """What a start takes: seconds, and how many modules are loaded then, in all and of tgdonnx."""

    seconds: float
    modules: int
    ours: int


def starts(model: Path) -> list[Start]:
    """Returns what is measured."""
    return [
        Start("python alone", _COUNT),
        Start("`import tgdonnx`", f"import tgdonnx; {_COUNT}"),
        Start("`import tgdonnx.kse`", f"import tgdonnx.kse; {_COUNT}"),
        Start("`tgdonnx --help`", _ENTRY, ("--help",)),
        Start("`tgdonnx guide`", _ENTRY, ("guide",)),
        Start(f"`tgdonnx inspect`, {len(WIDTHS) + 1} layers", _ENTRY, ("inspect", str(model))),
        Start("`tgdonnx finetune --help`", _ENTRY, ("finetune", "--help")),
    ]


def measure(start: Start) -> Cost:
    """Starts it once."""
    begin = time.perf_counter()
    done = subprocess.run(start.command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - begin
    modules, ours = json.loads((done.stdout + done.stderr).strip().splitlines()[-1])
    return Cost(seconds, modules, ours)


@click.command()
@click.option("--starts", "count", type=click.IntRange(1), default=7, show_default=True, help="Of each.")
@click.option("--write", is_flag=True, help="Write the table into the guide to numbers.")
def main(count: int, write: bool) -> None:
    """Measures how long starts take."""
    with tempfile.TemporaryDirectory() as work:
        model = Path(work, "model.onnx")
        onnx.save(dncnn(WIDTHS), model)
        chosen = starts(model)
        found: dict[str, list[Cost]] = {start.title: [] for start in chosen}
        for _ in range(count):
            for start in chosen:
                found[start.title].append(measure(start))
    rows = [
        [title, f"{statistics.median(each.seconds for each in costs):.2f}", str(costs[0].modules), str(costs[0].ours)]
        for title, costs in found.items()
    ]
    print(markdown(TABLE, rows), end="")
    if write:
        write_table(TABLE, rows)


if __name__ == "__main__":
    main()
