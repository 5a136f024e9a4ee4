"""Names: those of the vendor's graph give way to the ones that training needs, and arrays are named after inputs.

Graphs that train have values called ``loss``, ``target`` and ``lazy_reset_grad``; for a parameter ``p`` the runtime finds
``p_grad.accumulation.buffer``, and the engine onnxruntime ``p.after``. Where the vendor has such a name, the value is called
otherwise in the graphs that we make; manifest and vendor's file keep it. Nodes get names of their own where they have none,
or the same as another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count

import onnx_ir as ir

from tgdonnx.artifacts.losses import LOSS
from tgdonnx.graphs.builder import PREFIX
from tgdonnx.graphs.tensor_specs import TARGET

TARGET_INPUT = "target_input"
_OURS = "lazy_reset_grad"

# What our passes write begins with the prefix, and asks what is there; engines give these names without asking.
_NEEDED = re.compile(
    rf"({LOSS}|{TARGET}|.*_grad.*|.*\.after|{PREFIX}(learning_rate|step|batches)|{PREFIX}.*\.(moment\d+|sum|gradient))",
    re.IGNORECASE | re.DOTALL,
)


def rename_conflicting(model: ir.Model) -> dict[str, str]:
    """Renames the values and nodes of a graph, subgraphs included, whose names training needs, in place.

    Args:
        model: a lowered forward graph without a loss.

    Returns:
        For the names of renamed values the new ones.
    """
    _name_nodes(model)
    values = list(_values(model))
    taken = {str(value.name) for value in values}
    renamed: dict[str, str] = {}
    free = (name for number in count() if (name := f"{PREFIX}vendor.{number}") not in taken)
    for value in values:
        old = str(value.name)
        if _NEEDED.fullmatch(old) is None:
            continue
        if old not in renamed:
            renamed[old] = next(free)
        _rename(value, renamed[old])
    return renamed


def array_names(inputs: Sequence[str]) -> tuple[str, ...]:
    """Returns what the arrays for inputs are called: like them, but ``target`` is what the output is compared with.

    >>> array_names(["x", "target"])
    ('x', 'target_input')
    """
    other = TARGET_INPUT
    while other in inputs:
        other += "_"
    return tuple(other if name == TARGET else name for name in inputs)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from (value for value in graph.initializers.values() if value not in graph.inputs)
        yield from (value for node in graph for value in node.outputs if value.name)


def _rename(value: ir.Value, name: str) -> None:
    graph = value.graph if value.is_initializer() else None
    if graph is not None:
        del graph.initializers[str(value.name)]
    value.name = name
    if graph is not None:
        assert value.const_value is not None
        value.const_value.name = name
        graph.register_initializer(value)


def _name_nodes(model: ir.Model) -> None:
    taken: set[str] = set()
    nodes = list(model.graph.all_nodes())
    own = {node.name for node in nodes if node.name}
    for place, node in enumerate(nodes):
        if not node.name or node.name in taken:
            name = f"{PREFIX}node.{place}"
            while name in own or name in taken:
                name += "_"
            node.name = name
        taken.add(node.name)
