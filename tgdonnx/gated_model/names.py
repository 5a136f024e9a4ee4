"""How what is added to a gated model is called: everything begins with one prefix that nothing of the vendor's begins with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Optional

import onnx

from tgdonnx.layers.names import graphs_of


def prefix_for(proto: onnx.ModelProto) -> str:
    """Returns the prefix of all that is added to a model: ``gate/``, or ``gate2/`` and so on where that is taken."""
    taken = set(_names(proto))
    return next(prefix for prefix in _prefixes() if not any(name.startswith(prefix) for name in taken))


def prefix_in_use(proto: onnx.ModelProto) -> Optional[str]:
    """Returns the prefix of what gate added to a model, the last in use, since it took one that was free; None of none."""
    taken = {name for node in proto.graph.node for name in (node.name, *node.output)}
    used = list(itertools.takewhile(lambda prefix: any(name.startswith(prefix) for name in taken), _prefixes()))
    return used[-1] if used else None


def _prefixes() -> Iterator[str]:
    """Yields ``gate/``, ``gate2/``, ``gate3/`` and so on."""
    return (f"gate{number if number > 1 else ''}/" for number in itertools.count(1))


def names_in(proto: onnx.ModelProto) -> set[str]:
    """Returns the names of all values of a model, those in subgraphs included."""
    return set(_names(proto))


def _names(proto: onnx.ModelProto) -> Iterator[str]:
    for graph in graphs_of(proto.graph):
        for each in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            yield each.name
        for sparse in graph.sparse_initializer:
            yield sparse.values.name
        for node in graph.node:
            yield node.name
            yield from node.output
