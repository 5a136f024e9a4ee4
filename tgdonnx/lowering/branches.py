"""If with a condition that is known before the model runs: the branch that is taken takes its place.

What is stored in that branch keeps its name, so it trains like the rest. Where two branches of the model use one name, the
later of them gets another.
"""

from __future__ import annotations

from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.builder import fresh_name
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.operators import is_standard


class InlineKnownBranches(ir.passes.InPlacePass):
    """Replaces every If of the main graph whose condition is constant, nested ones too; needs shapes inferred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        node = _next(model.graph)
        while node is not None:
            _inline(node, model.graph)
            modified = True
            node = _next(model.graph)
        return ir.passes.PassResult(model, modified=modified)


def _next(graph: ir.Graph) -> Optional[ir.Node]:
    return next((node for node in graph if branch_taken(node) is not None), None)


def branch_taken(node: ir.Node) -> Optional[ir.Graph]:
    """Returns the branch that an If takes whatever the input of the model; None if it depends, or the node is no If."""
    if not is_standard(node, "If") or not node.inputs or node.inputs[0] is None:
        return None
    condition = known_array(node.inputs[0])
    if condition is None or condition.size != 1:
        return None
    return node.attributes["then_branch" if condition.all() else "else_branch"].as_graph()


def _inline(node: ir.Node, graph: ir.Graph) -> None:
    branch = branch_taken(node)
    assert branch is not None
    taken = {str(value.name) for value in (*graph.inputs, *graph.initializers.values())}
    taken |= {str(value.name) for other in graph for value in other.outputs}
    results, nodes = list(branch.outputs), list(branch)
    branch.outputs.clear()
    for value in list(branch.initializers.values()):
        del branch.initializers[str(value.name)]
        if value.name in taken:
            value.name = fresh_name(graph, str(value.name))
        graph.register_initializer(value)
    branch.remove(nodes)
    for inner in nodes:
        for value in inner.outputs:
            if value.name in taken:
                value.name = fresh_name(graph, str(value.name))
        graph.insert_before(node, inner)
    for old, result in zip(node.outputs, results):
        # The result may be a value of the main graph, or the output of the model: either keeps its name.
        copy = ir.node("Identity", [result])
        graph.insert_before(node, copy)
        name, copy.outputs[0].shape, copy.outputs[0].type = old.name, old.shape or result.shape, old.type or result.type
        old.replace_all_uses_with(copy.outputs[0], replace_graph_outputs=True)
        copy.outputs[0].name = name
    graph.remove(node, safe=True)
