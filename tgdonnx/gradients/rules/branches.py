"""If: the gradient of the branch that was taken.

What the branches read from outside gets its gradient from an If on the same condition: in each branch, the nodes of that
branch once more, and the way back through them. Where a branch does not depend on a value, its gradient is zero there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tgdonnx.gradients.demand import WHOLE
from tgdonnx.gradients.rule import Gradient, Step, restricted, rule
from tgdonnx.gradients.shapes import zeros_like

_BRANCHES = ("then_branch", "else_branch")


@rule("If", every_output=True)
def _if(step: Step) -> Mapping[ir.Value, Gradient]:
    wanted = [source for source in step.demands if isinstance(source, ir.Value)]
    back = {name: _back(step, step.node.attributes[name].as_graph(), wanted) for name in _BRANCHES}
    results = step.build.several("If", [step.input(0)], back, len(wanted))
    found: dict[ir.Value, Gradient] = {}
    for value, result in zip(wanted, results):
        result.type = value.type
        demand = step.demand(value)
        found[value] = result if demand == WHOLE else restricted(step.build, result, demand)
    return found


def _back(step: Step, branch: ir.Graph, wanted: Sequence[ir.Value]) -> ir.Graph:
    """Returns a graph that computes a branch once more, and gives out the gradients of the wanted values."""
    graph = branch.clone(allow_outer_scope_values=True)
    build = step.build.inside(graph)
    for node in graph.all_nodes():
        node.name = ""
        for value in node.outputs:
            build.rename(value)
    for value in list(graph.initializers.values()):
        build.rename(value)
    seeds: dict[ir.Value, ir.Value] = {}
    for place, value in enumerate(graph.outputs):
        if step.gradients[place] is not None:
            # Two outputs may be one value; their gradients add up.
            gradient = step.gradient(place)
            seeds[value] = gradient if value not in seeds else build("Add", seeds[value], gradient)
    found = step.propagate(build, list(graph), seeds, wanted, {})
    results = []
    for value, total in zip(wanted, found):
        build.about(str(value.name))
        results.append(build("Identity", zeros_like(build, value) if total is None else total))
    graph.outputs[:] = results
    for result, value in zip(results, wanted):
        result.type, result.shape = value.type, value.shape
    graph.extend(build.nodes)
    return graph
