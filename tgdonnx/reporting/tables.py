"""Tables for the terminal. They fit the console: a narrow one gets fewer columns, never a broken line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tgdonnx.reporting.legible import cell, legible, sentence

if TYPE_CHECKING:  # a table of one stage must not bring the other stages along
    from tgdonnx.inspection import InspectReport, LayerSummary
    from tgdonnx.masking import MaskReport
    from tgdonnx.scoring import ScoreReport
    from tgdonnx.sweeping import SweepPoint, SweepReport

_BARS = " ▁▂▃▄▅▆▇█"
_BINS = 8
_WIDE = 110
_SHAPE_WIDTH = 11


def histogram(values: NDArray[np.float64]) -> str:
    """Returns a histogram of numbers in [0, 1] in 8 characters; any bin that is not empty shows."""
    counts, _ = np.histogram(np.clip(values, 0, 1), bins=_BINS, range=(0, 1))
    top = max(int(counts.max()), 1)
    return "".join(_BARS[int(np.ceil(count / top * (len(_BARS) - 1)))] for count in counts)


def shorten(name: str, width: int) -> str:
    """Returns a name that fits ``width``: of a long one its end, which tells layers apart."""
    name = legible(name)
    return name if len(name) <= width else "…" + name[1 - width :]


def quantity(number: float) -> str:
    """Returns a number with three digits and a unit prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or prefix == "T":
            return f"{number:.3g}{prefix}"
        number /= 1000
    raise AssertionError("unreachable")


def ranges(numbers: Iterable[int]) -> str:
    """Returns whole numbers in short: 0-3, 7, 9-11."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(str(end) for end in part) for part in parts)


def print_inspection(report: InspectReport, console: Console) -> None:
    """Prints one row per layer, and below it what is frozen and why."""
    console.print(cell(report.model, "bold"), soft_wrap=True)
    console.print(
        Text(f"opset {report.opset}, IR {report.ir_version}, {report.nodes:,} nodes, {len(report.layers)} layers")
    )
    if report.gate is not None:
        console.print(cell(f"gated: {report.gate}"), soft_wrap=True)
    for direction, values in (("in   ", report.inputs), ("out  ", report.outputs)):
        console.print(cell(direction + ", ".join(values)))
    wide = console.width >= _WIDE
    fixed = sum(macs for layer in report.layers if (macs := layer.macs) is not None)
    known = all(layer.macs is not None for layer in report.layers)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), caption_justify="left")
    over = max((len(layer.output_shape) for layer in report.layers), default=0) - _SHAPE_WIDTH
    name_width = max(8, console.width - (101 if wide else 61) - max(0, over))
    table.add_column(Text.assemble("layer\n", ("weight", "dim")), no_wrap=True, max_width=name_width)
    if wide:
        table.add_column("op", no_wrap=True)
    table.add_column(Text.assemble("shape\n", ("output", "dim")), no_wrap=True)
    if wide:
        table.add_column("group", justify="right", no_wrap=True)
    table.add_column("MACs" if known else "MACs/pos", justify="right", no_wrap=True)
    if wide:
        table.add_column("KSE min", justify="right", no_wrap=True)
    table.add_column("med", justify="right", no_wrap=True)
    if wide:
        table.add_column("max", justify="right", no_wrap=True)
    table.add_column("0 KSE 1", no_wrap=True, min_width=_BINS)
    table.add_column(f"maps<{report.phi:g}", justify="right", no_wrap=True)
    table.add_column("retrain", justify="right", no_wrap=True)
    for layer in report.layers:
        table.add_row(*_inspection_row(layer, wide=wide, known=known, name_width=name_width))
    console.print(table)
    retrain = sum(layer.retrain for layer in report.layers)
    filters = sum(layer.filters for layer in report.layers)
    total = f"{quantity(fixed)} MACs per sample, " if known else ""
    which = (
        f"would retrain at phi = {report.phi:g}" if report.selection is None else "retrain, by the masks in the file"
    )
    console.print(Text(f"{total}{retrain} of {filters} filters {which}", style="bold"))
    console.print(
        Text(
            "KSE: how much an input map says, 0 nothing, 1 most. A filter would retrain if all maps that it has a part in "
            f"score below phi. MACs: multiply-accumulates per {'sample' if known else 'position of the output'}.",
            style="dim",
        )
    )
    _print_reasons("Filters frozen whatever their score", (layer.frozen for layer in report.layers), console)
    _print_reasons("Input maps without producers", (layer.untraced for layer in report.layers), console)
    _print_notes([(layer.node, note) for layer in report.layers for note in layer.notes], console)


def _inspection_row(layer: LayerSummary, *, wide: bool, known: bool, name_width: int) -> list[Text]:
    scored = layer.kse.size > 0
    low, middle, high = np.quantile(layer.kse, (0, 0.5, 1)) if scored else (np.nan,) * 3
    shape = "×".join(str(dim) for dim in layer.shape) or "?"
    macs = layer.macs if known and layer.macs is not None else layer.macs_per_position
    shape = shape if wide or layer.group == 1 else f"{shape} g{layer.group}"
    cells = [layer.op_type] if wide else []
    cells += [str(layer.group)] if wide else []
    cells += [quantity(macs) if layer.shape else "?"]
    cells += [f"{low:.2f}" if scored else "?"] if wide else []
    cells += [f"{middle:.2f}" if scored else "?"]
    cells += [f"{high:.2f}" if scored else "?"] if wide else []
    cells += [histogram(layer.kse) if scored else ""]
    cells += [f"{layer.below_phi}/{layer.kse.size}"]
    cells += [f"{layer.retrain}/{layer.filters}" if layer.shape else "?"]
    texts = [cell(text) for text in cells]
    if layer.retrain:
        texts[-1].stylize("bold green")
    texts[-3].stylize("cyan")
    texts.insert(len(texts) - len(cells) + wide, _stacked(shape, layer.output_shape))
    return [_stacked(shorten(layer.node, name_width), shorten(layer.weight or "", name_width)), *texts]


def _stacked(above: str, below: str) -> Text:
    return Text.assemble(cell(above), "\n", cell(below, "dim"))


def print_scores(report: ScoreReport, console: Console) -> None:
    """Prints one row per layer."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("layer", no_wrap=True, max_width=max(8, console.width - 50))
    for title in ("maps", "min", "median", "max"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("0 KSE 1", no_wrap=True, min_width=_BINS)
    for layer in report.layers:
        name = shorten(layer.node, max(8, console.width - 50))
        if layer.kse.size:
            low, middle, high = np.quantile(layer.kse, (0, 0.5, 1))
            numbers = [str(layer.maps), f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}", histogram(layer.kse)]
            table.add_row(*map(cell, (name, *numbers)))
        else:
            table.add_row(*map(cell, (name, "?", "?", "?", "?", "")))
    console.print(table)
    _print_notes([(layer.node, note) for layer in report.layers for note in layer.notes], console)


def print_masks(report: MaskReport, console: Console) -> None:
    """Prints what a masked model trains."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("tensor", no_wrap=True, max_width=max(12, console.width - 40))
    table.add_column("filters", justify="right", no_wrap=True)
    table.add_column("retrain", justify="right", no_wrap=True)
    table.add_column("maps", justify="right", no_wrap=True)
    for entry in report.params:
        if entry.retrain or entry.maps:
            name = shorten(entry.name, max(12, console.width - 40))
            numbers = (str(entry.filters), str(len(entry.retrain)), str(len(entry.maps) or ""))
            table.add_row(*map(cell, (name, *numbers)))
    console.print(table)
    if report.selection.get("mode") == "regrow":
        samples = report.selection["samples"]
        where = "random input" if samples is None else f"{samples} samples"
        console.print(
            Text(
                f"{report.selection['reborn']} filters are reinitialised ({report.selection['rebirth']}); at the start the "
                f"output differs from the vendor's by {report.selection['change']:.3g} on {where}"
            )
        )
    if report.added:
        weights = sum(path.weights for path in report.added)
        console.print(Text(f"{len(report.added)} side paths are added, of {weights:,} weights; nothing else trains"))
    console.print(Text(f"{report.rho:.2%} of the weights train", style="bold"))
    stays = "has no side path" if report.added else "stays frozen"
    notes = [(entry.name, entry.note) for entry in report.params if entry.note]
    _print_notes([*notes, *((name, f"{stays}: {why}") for name, why in report.frozen.items())], console)


def print_sweep(report: SweepReport, console: Console) -> None:
    """Prints one row per phi, and below the table the recommended one."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    agreement = any(point.agreement is not None for point in report.points)
    for title in ("phi", "filters", "weights", "parameters", "change", *["same class"] * agreement):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for point in report.points:
        chosen = point.phi == report.recommended
        table.add_row(*_sweep_row(point, report, agreement=agreement), style="bold green" if chosen else None)
    console.print(table)
    console.print(
        Text(
            f"Dropped are filters, weights of layers, and these with biases and norms; on {report.samples} of "
            f"{report.available} samples. Change: RMS by the standard deviation of the vendor's output."
        )
    )
    left_out = report.notes if report.recommended is not None else report.notes[:-1]
    for note in left_out:
        console.print(sentence(note))
    if report.recommended is None:
        console.print(sentence(report.notes[-1], "bold"))
    else:
        within = f"up to it the output changes by at most {report.tolerance:g}, the tolerance"
        console.print(Text(f"recommended: phi {report.recommended:g} ({within})", style="bold"))


def _sweep_row(point: SweepPoint, report: SweepReport, *, agreement: bool) -> list[Text]:
    cells = [f"{point.phi:g}", f"{point.filters}/{report.filters}", f"{point.weights / report.weights:.1%}"]
    cells += [f"{point.parameters / report.parameters:.1%}"]
    cells += ["beyond measure" if point.change is None else f"{point.change:.3g}"]
    cells += ["" if point.agreement is None else f"{point.agreement:.1%}"] if agreement else []
    cells += ["recommended" if point.phi == report.recommended else ""]
    return [cell(text) for text in cells]


def _print_notes(notes: Sequence[tuple[str, str]], console: Console) -> None:
    names: dict[str, list[str]] = {}
    for name, note in notes:
        names.setdefault(note, []).append(name)
    _print_list("Notes", [f"{note} ({_some(places)})" for note, places in names.items()], console)


def _some(names: Sequence[str]) -> str:
    shown = 4
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _print_reasons(title: str, reasons: Iterable[dict[str, int]], console: Console) -> None:
    total: Counter[str] = Counter()
    for counts in reasons:
        total.update(counts)
    _print_list(title, [f"{count}: {reason}" for reason, count in total.most_common()], console)


def _print_list(title: str, lines: Sequence[str], console: Console) -> None:
    shown = 12
    if lines:
        console.print()
        console.print(Text(title, style="bold"))
        for line in lines[:shown]:
            console.print(Padding(sentence(line), (0, 0, 0, 2)))
        if len(lines) > shown:
            console.print(Text(f"  and {len(lines) - shown} more; the JSON document lists all", style="dim"))
