"""Filters inside the branches of an If, moved out to the main graph, from where the branches read them."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from tgdonnx.graphs.captured import inner_graphs


class HoistFromBranches(ir.passes.InPlacePass):
    """Moves initializers of the graphs inside If to the main graph.

    Args:
        names: of those that shall be moved. A name that several graphs have stays where it is.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._names = frozenset(names)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        found: dict[str, list[ir.Graph]] = {}
        for node in model.graph.all_nodes():
            if node.op_type == "If":
                for graph in inner_graphs(node):
                    for name in self._names & set(graph.initializers):
                        found.setdefault(name, []).append(graph)
        moved = {name: graphs[0] for name, graphs in found.items() if len(graphs) == 1}
        for name, graph in moved.items():
            if name not in model.graph.initializers:
                model.graph.register_initializer(graph.initializers.pop(name))
        return ir.passes.PassResult(model, modified=bool(moved))
