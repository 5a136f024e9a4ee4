"""Which filters made the input maps of layers, for the terminal: lines, and the ways there as trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.tree import Tree

from tgdonnx.reporting.legible import cell, sentence
from tgdonnx.reporting.tables import ranges

if TYPE_CHECKING:  # what prints must not bring the stage along
    from tgdonnx.tracing import LayerTrace, MapTrace, Producer
    from tgdonnx.tracing.path import Step


def print_trace(layers: Sequence[LayerTrace], console: Console) -> None:
    """Prints for each layer its input maps, those with like producers on one line."""
    for layer in layers:
        console.print(cell(layer.node, "bold"), soft_wrap=True)
        if layer.reason is not None:
            console.print(Padding(sentence(layer.reason), (0, 0, 0, 2)))
        for maps, text in _grouped(layer.maps):
            label = "map" if len(maps) == 1 else "maps"
            console.print(Padding(sentence(f"{label} {ranges(maps)}: {text}"), (0, 0, 0, 2)))
        for entry in layer.maps:
            if entry.path:
                tree = Tree(cell(f"{layer.node}, map {entry.map}"))
                _grow(tree, entry.path)
                console.print(tree)


def _grow(tree: Tree, steps: Sequence[Step]) -> None:
    for step in steps:
        text = cell(f"{step.node} {step.op_type}".rstrip())
        if step.filters:
            text.append(f" filters {ranges(step.filters)}", style="bold green")
        _grow(tree.add(text), step.sources)


def _grouped(maps: Sequence[MapTrace]) -> list[tuple[list[int], str]]:
    """Joins neighbouring maps whose producers are alike: the same reason, or filters of the same layers at one offset."""
    groups: list[tuple[object, list[int], list[MapTrace]]] = []
    for entry in maps:
        key: object = entry.reason or tuple((p.node, p.filter - entry.map) for p in entry.producers)
        if groups and groups[-1][0] == key:
            groups[-1][1].append(entry.map)
            groups[-1][2].append(entry)
        else:
            groups.append((key, [entry.map], [entry]))
    return [(indices, _producers(entries)) for _, indices, entries in groups]


def _producers(entries: Sequence[MapTrace]) -> str:
    if entries[0].reason is not None:
        return entries[0].reason
    columns: list[list[Producer]] = [
        [entry.producers[i] for entry in entries] for i in range(len(entries[0].producers))
    ]
    by_node: dict[str, list[int]] = {}
    for column in columns:
        by_node.setdefault(column[0].node, []).extend(producer.filter for producer in column)
    return " + ".join(f"{node}[{ranges(set(filters))}]" for node, filters in by_node.items())
