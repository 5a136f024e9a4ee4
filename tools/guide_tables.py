"""The tables in the guide to numbers: each stands between marks, and the tool that measures it writes it there.

<!-- table: starts -->
| what is started | ...
<!-- /table -->
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

NUMBERS = Path(__file__).parents[1] / "tgdonnx" / "guides" / "numbers.md"

TABLES: dict[str, tuple[str, ...]] = {
    "vendor models": (
        "model",
        "weights that train",
        "build",
        "loss against the vendor's output",
        "loss, 3 steps",
        "verify",
    ),
    "refused models": ("model", "what check says"),
    "training steps": (
        "net",
        "trains",
        "plain",
        "masked",
        "thin",
        "onnxruntime",
        "PyTorch",
        "thin / plain",
        "onnxruntime / thin",
        "onnxruntime / PyTorch",
        "peak: plain / masked / thin / onnxruntime",
        "state",
    ),
    "steps with readers": (
        "net",
        "trains",
        "part of the weights",
        "masked",
        "thin",
        "onnxruntime",
        "thin / masked",
        "onnxruntime / thin",
        "state",
    ),
    "small batches": ("net", "trains", "batch", "masked", "thin", "thin / masked"),
    "where a step goes": (
        "net",
        "trains",
        "step",
        "convolutions",
        "products",
        "copies",
        "others",
        "between",
        "convolutions and products alone",
        "alone / step",
        "GFLOP/s alone",
    ),
    "builders": ("net", "trains", "by the runtime's builder", "by our gradient graph", "ratio"),
    "stages": ("layers", "score", "trace", "mask", "build masked", "build thin", "build onnxruntime", "export"),
    "arm64": ("machine", "processor, onnxruntime", "loss, first and last step", "rows changed", "proved by the other"),
    "starts": ("what is started", "seconds", "modules", "of tgdonnx"),
}
"""The columns of every table by its name."""


def read_table(name: str, guide: Path = NUMBERS) -> list[list[str]]:
    """Returns the rows of a table, without its head.

    Raises:
        ValueError: its marks are not there, once; its head is another; or a row has not as many cells.
    """
    lines = _place(name, guide.read_text("utf-8")).group(2).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    columns = list(TABLES[name])
    if rows[:1] != [columns] or lines[1:2] != ["|" + "---|" * len(columns)]:
        raise ValueError(f"the table {name!r} in {guide} has another head than {columns}")
    if wrong := [row for row in rows[2:] if len(row) != len(columns)]:
        raise ValueError(f"rows of the table {name!r} in {guide} have not {len(columns)} cells: {wrong}")
    return rows[2:]


def write_table(name: str, rows: Sequence[Sequence[str]], guide: Path = NUMBERS) -> None:
    """Writes rows in the place of those that are there.

    Raises:
        ValueError: the marks are not there, once, or a row has not as many cells as there are columns.
    """
    if wrong := [row for row in rows if len(row) != len(TABLES[name])]:
        raise ValueError(f"rows for the table {name!r} have not {len(TABLES[name])} cells: {wrong}")
    text = guide.read_text("utf-8")
    place = _place(name, text)
    guide.write_text(text[: place.start(2)] + markdown(name, rows) + text[place.end(2) :], "utf-8")


def markdown(name: str, rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as Markdown."""
    columns = TABLES[name]
    lines = [_line(columns), "|" + "---|" * len(columns), *map(_line, rows)]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _place(name: str, text: str) -> re.Match[str]:
    found = list(re.finditer(rf"^(<!-- table: {re.escape(name)} -->\n)(.*?)^(<!-- /table -->)$", text, re.M | re.S))
    if len(found) != 1:
        raise ValueError(f"expected the marks of the table {name!r} once, found them {len(found)} times")
    return found[0]
