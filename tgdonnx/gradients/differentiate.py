"""Reverse-mode differentiation of an ONNX graph into ONNX nodes.

From the loss back to what is wanted, node by node, each by the rule of its operator (`tgdonnx.gradients.rules`); a value
that several nodes read sums what comes from each. Only what lies between the loss and the wanted values is looked at, and
of each value only what is wanted of its gradient (`tgdonnx.gradients.demand`). No runtime is needed.

Griewank and Walther, Evaluating Derivatives, SIAM 2008, chapter 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

import tgdonnx.gradients.rules  # noqa: F401  # fills the table
from tgdonnx.gradients.demand import WHOLE, Demand, demands_of
from tgdonnx.gradients.rule import RULES, Entry, Gradient, Rules, Step, entry_of, restricted
from tgdonnx.gradients.shapes import zeros_like
from tgdonnx.graphs.builder import Builder
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.nodes import refusal
from tgdonnx.graphs.operators import schema_of
from tgdonnx.graphs.paths import Source, path_between, source_value

Gates = Mapping[ir.Value, NDArray[Any]]


def differentiate(
    model: ir.Model,
    loss: ir.Value,
    wanted: Sequence[ir.Value],
    *,
    gates: Optional[Gates] = None,
    rules: Rules = RULES,
) -> tuple[ir.Value, ...]:
    """Adds nodes that compute gradients to the main graph, in place.

    Args:
        model: sorted topologically, with shapes inferred as far as they are known; opset 17 or newer.
        loss: a scalar of the graph.
        wanted: initializers or inputs of the graph, or values in it.
        gates: for outputs of nodes an array that broadcasts against them, by which their gradient is multiplied before it goes
            on (the TGD layer of the paper: identity forward, mask backward). The result is no gradient of the loss then.
        rules: how a gradient passes the operators.

    Returns:
        The gradients of the loss by the wanted values, in their order and shapes; zero where the loss does not depend on one.

    Raises:
        UntrainableError: a node on the way has no gradient, or none that could be written; the message names it.
    """
    graph = model.graph
    build = Builder(graph, "loss")
    one = build.constant(np.array(1, (loss.dtype or ir.DataType.FLOAT).numpy()))
    found = back_propagate(build, list(graph), {loss: one}, wanted, gates or {}, rules=rules)
    results = []
    for value, gradient in zip(wanted, found):
        build.about(str(value.name))
        results.append(zeros_like(build, value) if gradient is None else gradient)
    graph.extend(_way_back_last(build.nodes, one))
    for value, result in zip(wanted, results):
        result.shape, result.type = value.shape, value.type
    return tuple(results)


def _way_back_last(nodes: Sequence[ir.Node], seed: ir.Value) -> list[ir.Node]:
    """Puts what depends on the graph alone in front of what depends on the gradient of the loss.

    ONNX Runtime computes of the inputs of a node the one first whose node comes last. So a derivative, which is of the size of
    an activation, is computed when the gradient that it is multiplied by is there, and not kept while that is computed.
    """
    back = {seed}
    before, behind = [], []
    for node in nodes:
        # What the graphs inside a node read is not among its inputs.
        alone = back.isdisjoint(value for value in node.inputs if value is not None) and not inner_graphs(node)
        if alone:
            before.append(node)
        else:
            back.update(node.outputs)
            behind.append(node)
    return [*before, *behind]


def back_propagate(
    build: Builder,
    nodes: Sequence[ir.Node],
    seeds: Mapping[ir.Value, ir.Value],
    wanted: Sequence[ir.Value],
    gates: Gates,
    *,
    rules: Rules,
) -> tuple[Optional[ir.Value], ...]:
    """Writes the way back through the nodes of a graph.

    Args:
        build: writes the nodes.
        nodes: of one graph, in topological order.
        seeds: the gradients of some of its values.
        wanted: the values whose gradients are wanted.
        gates: see `differentiate`.
        rules: see there.

    Returns:
        The gradients of the wanted values, whole; None where there is none.

    Raises:
        UntrainableError: see `differentiate`.
    """
    path = path_between(nodes, seeds, wanted)
    demands = demands_of(nodes, wanted, path)
    inside = partial(back_propagate, rules=rules)
    found = {value: ([gradient],) for value, gradient in seeds.items()}
    sums: dict[ir.Value, tuple[list[ir.Value], ...]] = dict(found)
    for node in reversed(nodes):
        if node not in path:
            continue
        gradients = tuple(
            _gated(build, _total(build, sums.pop(value, None), value), gates.get(value)) for value in node.outputs
        )
        if all(gradient is None for gradient in gradients):
            continue
        build.about(str(node.outputs[0].name))
        entry = _entry(node, path[node], rules)
        if not entry.every_output:
            _require_first_alone(node, gradients)
        sources = {source: source_value(node, source) for source in path[node]}
        wants = {source: demands[value] for source, value in sources.items() if value is not None}
        step = Step(node, build, gradients, wants, demands.get(node.outputs[0], WHOLE), inside)
        for source, gradient in entry.rule(step).items():
            _add(build, sums, sources[source], gradient, wants[source])
    results = []
    for value in wanted:
        total = _total(build, sums.get(value), value)
        results.append(None if total is None else total[0])
    return tuple(results)


def _entry(node: ir.Node, sources: Sequence[Source], rules: Rules) -> Entry:
    """Returns the rule for a node, which a gradient shall pass by some of what it reads."""
    entry = entry_of(node, rules)
    remedy = "retrain filters behind it only, for example with `last`; if there are none, ask for a model without it"
    if entry is None:
        raise refusal(node, "lies between a retrained filter and the output, and has no gradient", remedy)
    if entry.carries is not None:
        for source in sources:
            if isinstance(source, int) and source not in entry.carries:
                schema = schema_of(node.op_type)
                name = source if schema is None else schema.inputs[source].name
                raise refusal(
                    node, f"computes with {name!r}, which a retrained filter makes, and has no gradient of it", remedy
                )
    return entry


def _require_first_alone(node: ir.Node, gradients: Sequence[object]) -> None:
    """Checks that no other output than the first gets a gradient, of which the rule would know nothing."""
    for place, gradient in enumerate(gradients):
        if place and gradient is not None:
            raise refusal(
                node,
                f"gives {node.outputs[place].name!r}, on which the output depends, and has no gradient of it",
                "retrain filters behind it only, for example with `last`; if there are none, ask for a model without it",
            )


def _add(
    build: Builder,
    sums: dict[ir.Value, tuple[list[ir.Value], ...]],
    value: Optional[ir.Value],
    gradient: Gradient,
    demand: Demand,
) -> None:
    """Adds a gradient to those of a value, part by part."""
    assert value is not None
    parts = restricted(build, gradient, demand) if isinstance(gradient, ir.Value) else tuple(gradient)
    assert len(parts) == len(demand), f"{len(parts)} parts of {value.name}, expected {len(demand)}"
    for each, part in zip(sums.setdefault(value, tuple([] for _ in demand)), parts):
        each.append(part)


def _total(
    build: Builder, parts: Optional[tuple[list[ir.Value], ...]], value: ir.Value
) -> Optional[tuple[ir.Value, ...]]:
    """Returns the sum of the gradients of each part; None where there are none."""
    if parts is None:
        return None
    build.about(str(value.name))
    return tuple(each[0] if len(each) == 1 else _added(build, each) for each in parts)


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
