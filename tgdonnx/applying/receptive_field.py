"""The receptive field of a network, computed from its graph.

Every value that depends on the image gets, for each of its axes, a `Reach` if it is an axis of space, else None. An operator
that has no rule, that looks at the whole image, or whose result depends on where in the image it is, has no receptive field:
then the network runs on whole images only, and the reason is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Optional, Union

import onnx_ir as ir

from tgdonnx.applying import rules
from tgdonnx.applying.node_view import Axes, NotLocal, ReceptiveView
from tgdonnx.applying.reach import Reach, ReceptiveField
from tgdonnx.graphs.captured import captured_values, inner_graphs
from tgdonnx.graphs.operators import SIZES, is_standard, opset_of
from tgdonnx.layers import Network


def receptive_field(
    network: Network, images: Mapping[ir.Value, Mapping[int, int]], output: ir.Value
) -> Union[ReceptiveField, str]:
    """Returns the receptive field of an output, or why there is none.

    Args:
        network: the model.
        images: for each input that is an image its axes of space, and which axes these are of what is cut into tiles, as in
            ``{2: 2, 3: 3}``; all of them have the same axes there, and are cut at the same places.
        output: of the model.
    """
    try:
        return _field(network, images, output)
    except NotLocal as reason:
        return str(reason)


def _field(network: Network, images: Mapping[ir.Value, Mapping[int, int]], output: ir.Value) -> ReceptiveField:
    known: dict[ir.Value, Axes] = {}
    for image, space in images.items():
        rank = len(network.sizes.shapes[image]) if image in network.sizes.shapes else 1 + max(space)
        known[image] = tuple(Reach(space[place]) if place in space else None for place in range(rank))
    sized: set[ir.Value] = set()
    opset, needed = opset_of(network.graph), _needed(output)
    for node in network.graph:
        if node not in needed:
            continue
        inputs = [value for value in node.inputs if value is not None]
        depends = any(value in known for value in inputs)
        if is_standard(
            node, SIZES
        ):  # they give no pixels; what is computed from them depends on how large the image is
            sized.update(node.outputs if depends or any(value in sized for value in inputs) else ())
        elif not depends:
            if inner_graphs(node):
                raise NotLocal(f"node {network.node_names[node]!r} is {node.op_type}, which can do anything")
            sized.update(node.outputs if any(value in sized for value in inputs) else ())
        else:
            _visit(network, node, known, sized, opset)
    if output not in known:
        raise NotLocal("the output does not depend on the image")
    return _result(known, output, {axis for space in images.values() for axis in space.values()})


def _needed(output: ir.Value) -> set[ir.Node]:
    """Returns the nodes that an output depends on: what others do is none of its business."""
    needed: set[ir.Node] = set()
    pending = [output]
    while pending:
        node = pending.pop().producer()
        if node is not None and node not in needed:
            needed.add(node)
            pending += [value for value in (*node.inputs, *captured_values(node)) if value is not None]
    return needed


def _visit(network: Network, node: ir.Node, known: dict[ir.Value, Axes], sized: set[ir.Value], opset: int) -> None:
    rule = rules.RULES.get(node.op_type) if is_standard(node) else None
    name = network.node_names[node]
    if rule is None:
        raise NotLocal(f"node {name!r} is {node.op_type}, which may look at the whole image")
    view = ReceptiveView(node, opset, network, known, sized)
    try:
        axes = rule(view)
    except NotLocal as reason:
        raise NotLocal(f"node {name!r} ({node.op_type}) {reason}") from None
    for value in node.outputs:
        known[value] = axes


def _result(known: Mapping[ir.Value, Axes], output: ir.Value, space: Set[int]) -> ReceptiveField:
    found: dict[int, Reach] = {}
    axes: dict[int, int] = {}
    for place, reach in enumerate(known[output]):
        if reach is not None:
            found[reach.axis], axes[reach.axis] = reach, place
    lacking: Optional[int] = next((axis for axis in sorted(space) if axis not in found), None)
    if lacking is not None:
        raise NotLocal(f"axis {lacking} of the image is no axis of the output")
    steps = dict.fromkeys(space, 1)
    for entries in known.values():
        for reach in entries:
            if reach is not None:
                steps[reach.axis] = math.lcm(steps[reach.axis], reach.scale.numerator)
    return ReceptiveField(found, axes, steps)
