"""Reverse-mode differentiation of an ONNX graph into ONNX nodes.

From the loss back to what is wanted, node by node, each by the rule of its operator (`tgdonnx.gradients.rules`); a value
that several nodes read sums what comes from each. Only what lies between the loss and the wanted values is looked at, and
of each value only what is wanted of its gradient (`tgdonnx.gradients.demand`). No runtime is needed.

Griewank and Walther, Evaluating Derivatives, SIAM 2008, chapter 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

import tgdonnx.gradients.rules  # noqa: F401  # fills the table
from tgdonnx.errors import UntrainableError
from tgdonnx.gradients.builder import Builder
from tgdonnx.gradients.demand import WHOLE, Demand, demands_of
from tgdonnx.gradients.rule import Entry, Gradient, Step, entry_of, restricted
from tgdonnx.gradients.rules.passing import ends_path
from tgdonnx.gradients.shapes import zeros_like

ENDS = frozenset(
    [
        *("And", "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Constant"),
        *("ConstantOfShape", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN"),
        *("Less", "LessOrEqual", "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "RandomNormal"),
        *("RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Round", "Shape", "Sign", "Size", "Xor"),
    ]
)
"""Operators whose outputs a small change of their inputs does not change, or which count as constants: no gradient passes."""


def differentiate(
    model: ir.Model,
    loss: ir.Value,
    wanted: Sequence[ir.Value],
    *,
    gates: Optional[Mapping[ir.Value, NDArray[Any]]] = None,
) -> tuple[ir.Value, ...]:
    """Adds nodes that compute gradients to the main graph, in place.

    Args:
        model: sorted topologically, with shapes inferred as far as they are known; opset 17 or newer.
        loss: a scalar of the graph.
        wanted: initializers or inputs of the graph, or values in it.
        gates: for outputs of nodes an array that broadcasts against them, by which their gradient is multiplied before it goes
            on (the TGD layer of the paper: identity forward, mask backward). The result is no gradient of the loss then.

    Returns:
        The gradients of the loss by the wanted values, in their order and shapes; zero where the loss does not depend on one.

    Raises:
        UntrainableError: a node on the way has no gradient, or none that could be written; the message names it.
    """
    graph = model.graph
    nodes = list(graph)
    path = _path(nodes, loss, wanted)
    demands = demands_of(nodes, wanted, path)
    build = Builder(graph)
    build.about("loss")
    dtype = (loss.dtype or ir.DataType.FLOAT).numpy()
    found: dict[ir.Value, tuple[list[ir.Value], ...]] = {loss: ([build.constant(np.array(1, dtype))],)}
    for node in reversed(nodes):
        if node not in path:
            continue
        gradients = tuple(
            _gated(build, _total(build, found.pop(value, None), value), (gates or {}).get(value))
            for value in node.outputs
        )
        if all(gradient is None for gradient in gradients):
            continue
        build.about(str(node.outputs[0].name))
        carried = path[node]
        wants = tuple(
            demands.get(value) if place in carried and value is not None else None
            for place, value in enumerate(node.inputs)
        )
        step = Step(node, build, gradients, wants, demands.get(node.outputs[0], WHOLE))
        for place, gradient in _entry(node).rule(step).items():
            _add(build, found, node.inputs[place], gradient, wants[place])
    results = []
    for value in wanted:
        build.about(str(value.name))
        total = _total(build, found.get(value), value)
        results.append(total[0] if total is not None else zeros_like(build, value))
    graph.extend(build.nodes)
    for value, result in zip(wanted, results):
        result.shape, result.type = value.shape, value.type
    return tuple(results)


def _path(nodes: Sequence[ir.Node], loss: ir.Value, wanted: Sequence[ir.Value]) -> dict[ir.Node, tuple[int, ...]]:
    """Returns the nodes between the wanted values and the loss, with the inputs through which a gradient passes each."""
    moving: set[Optional[ir.Value]] = set(wanted)
    carried: dict[ir.Node, tuple[int, ...]] = {}
    for node in nodes:
        places = tuple(place for place in carrying(node) if node.inputs[place] in moving)
        if places:
            carried[node] = places
            moving.update(node.outputs)
    needed: set[Optional[ir.Value]] = {loss}
    path: dict[ir.Node, tuple[int, ...]] = {}
    for node in reversed(nodes):
        if node in carried and any(value in needed for value in node.outputs):
            path[node] = carried[node]
            needed.update(node.inputs[place] for place in carried[node])
    return path


def carrying(node: ir.Node) -> tuple[int, ...]:
    """Returns the inputs of a node through which a gradient passes, whether or not there is a rule for it."""
    default = node.domain in ("", "ai.onnx")
    if default and (node.op_type in ENDS or ends_path(node)):
        return ()
    entry = entry_of(node)
    present = tuple(place for place, value in enumerate(node.inputs) if value is not None)
    if entry is None or entry.carries is None:
        return present
    return tuple(place for place in entry.carries if place in present)


def _entry(node: ir.Node) -> Entry:
    entry = entry_of(node)
    if entry is None:
        name = node.meta.get("name") or node.name or node.outputs[0].name
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise UntrainableError(
            f"node {str(name)!r} ({operator}) lies between a retrained filter and the output, and has no gradient; retrain "
            "filters behind it only, for example with --last; if there are none, ask for a model without it"
        )
    return entry


def _add(
    build: Builder,
    found: dict[ir.Value, tuple[list[ir.Value], ...]],
    value: Optional[ir.Value],
    gradient: Gradient,
    demand: Optional[Demand],
) -> None:
    """Adds a gradient to those of a value, part by part."""
    assert value is not None
    assert demand is not None
    parts = restricted(build, gradient, demand) if isinstance(gradient, ir.Value) else tuple(gradient)
    assert len(parts) == len(demand), f"{len(parts)} parts of {value.name}, expected {len(demand)}"
    for sums, part in zip(found.setdefault(value, tuple([] for _ in demand)), parts):
        sums.append(part)


def _total(
    build: Builder, parts: Optional[tuple[list[ir.Value], ...]], value: ir.Value
) -> Optional[tuple[ir.Value, ...]]:
    """Returns the sum of the gradients of each part; None where there are none."""
    if parts is None:
        return None
    build.about(str(value.name))
    return tuple(sums[0] if len(sums) == 1 else _added(build, sums) for sums in parts)


def _gated(
    build: Builder, parts: Optional[tuple[ir.Value, ...]], gate: Optional[NDArray[Any]]
) -> Optional[tuple[ir.Value, ...]]:
    if parts is None or gate is None:
        return parts
    return tuple(build("Mul", part, build.constant(gate)) for part in parts)


def _added(build: Builder, values: Sequence[ir.Value]) -> ir.Value:
    total = values[0]
    for value in values[1:]:
        total = build("Add", total, value)
    return total
