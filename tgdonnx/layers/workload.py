"""How much there is to do in a file, counted before anything of it is done.

Functions that call each other twice over n levels are 2^n nodes once they are inlined, and a Loop may say that it goes round
2^60 times. So the nodes are counted as they will be: each function once, from those that call no other upwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import onnx

from tgdonnx import bounds
from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.graphs.operators import STANDARD_DOMAINS
from tgdonnx.layers.names import at_fault, graphs_of, subgraphs

FunctionId = tuple[str, str, str]
_AGAIN = "export the model again, without functions if need be"


@dataclass
class _Count:
    """What inlining a body gives, once the functions that it calls are known."""

    nodes: int = 0
    executions: int = 0
    depth: int = 0
    calls: Counter[FunctionId] = field(default_factory=Counter)


def require_bounded(file: ModelFile) -> None:
    """Checks that a file has no more nodes, functions and rounds than `tgdonnx.bounds` says.

    Raises:
        ModelFileError: it has, or functions call themselves.
    """
    functions = {_id(function): function for function in file.proto.functions}
    counts: dict[FunctionId, _Count] = {}
    for identifier in _from_leaves(functions, file):
        counts[identifier] = _count(functions[identifier].node, {}, functions, counts, file)
    whole = _count(file.proto.graph.node, _stored(file.proto.graph), functions, counts, file)
    written = sum(1 for _ in _walk(file.proto.graph.node, file)) + sum(
        1 for function in functions.values() for _ in _walk(function.node, file)
    )
    most = min(bounds.NODES, max(bounds.INLINED_NODES, written))
    if whole.nodes > most or written > most:
        count = (
            f"{written:,} nodes" if written > most else f"{_number(whole.nodes)} nodes once its functions are inlined"
        )
        raise ModelFileError(f"{file.path} has {count}; expected at most {most:,}: {_AGAIN}")
    for graph in graphs_of(file.proto.graph):
        for what, entries in (("stored tensors", graph.initializer), ("declared values", graph.value_info)):
            if len(entries) > bounds.ENTRIES:
                raise ModelFileError(
                    f"{file.path} has {len(entries):,} {what} in one graph; expected at most {bounds.ENTRIES:,}: export the "
                    "model again"
                )
    if whole.depth > bounds.FUNCTION_DEPTH:
        raise ModelFileError(
            f"{file.path} has functions that call each other {whole.depth:,} deep; expected at most "
            f"{bounds.FUNCTION_DEPTH}: {_AGAIN}"
        )
    if whole.executions > bounds.LOOP_NODES:
        raise ModelFileError(
            f"{file.path} runs nodes in loops {_number(whole.executions)} times, by the numbers of rounds that it stores; "
            f"expected at most {bounds.LOOP_NODES:,}: export the model again, with loops that end"
        )
    clashes = sum(
        total.calls[called] ** 2 * counts[called].nodes for total in (whole, *counts.values()) for called in total.calls
    )
    if clashes > bounds.INLINED_CLASHES:
        raise ModelFileError(
            f"{file.path} calls one function {max(whole.calls.values()):,} times, and inlining takes the square of that; "
            "inline the functions with onnx.inliner.inline_local_functions first"
        )


def _id(function: onnx.FunctionProto) -> FunctionId:
    return function.domain, function.name, getattr(function, "overload", "")


def _called(node: onnx.NodeProto) -> FunctionId:
    return node.domain, node.op_type, getattr(node, "overload", "")


def _from_leaves(functions: Mapping[FunctionId, onnx.FunctionProto], file: ModelFile) -> Iterator[FunctionId]:
    """Yields the functions, called ones before those that call them."""
    calls = {
        identifier: {_called(node) for node, _ in _walk(function.node, file)} & functions.keys()
        for identifier, function in functions.items()
    }
    try:
        yield from TopologicalSorter(calls).static_order()
    except CycleError as error:
        names = " -> ".join(f"{domain}.{name}" for domain, name, _ in error.args[1])
        raise ModelFileError(f"{file.path} has functions that call themselves: {names}; {_AGAIN}") from error


def _walk(nodes: Iterable[onnx.NodeProto], file: ModelFile) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yields nodes, those of inner graphs behind the node that they are in, and how deep they are."""
    pending = [(node, 0) for node in reversed(list(nodes))]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        inner = [each for graph in subgraphs(node) for each in graph.node]
        if inner and depth >= bounds.GRAPH_DEPTH:
            raise at_fault(node, file, f"has graphs inside nodes more than {bounds.GRAPH_DEPTH} graphs deep", _AGAIN)
        pending += [(each, depth + 1) for each in reversed(inner)]


def _count(
    nodes: Iterable[onnx.NodeProto],
    stored: Mapping[str, onnx.TensorProto],
    functions: Mapping[FunctionId, onnx.FunctionProto],
    counts: Mapping[FunctionId, _Count],
    file: ModelFile,
) -> _Count:
    total = _Count()
    constants = dict(stored)
    rounds = [1]  # of the loops around a node, by its depth
    for node, depth in _walk(nodes, file):
        constants.update(_constant(node))
        del rounds[depth + 1 :]
        called = _called(node)
        if called in functions:
            inner = counts[called]
            total.calls[called] += 1
            total.nodes += inner.nodes
            total.executions += inner.executions * rounds[depth]
            total.depth = max(total.depth, inner.depth + 1)
        else:
            total.nodes += 1
        if rounds[depth] > 1:
            total.executions += rounds[depth]
        rounds.append(rounds[depth] * _rounds(node, constants))
    return total


def _constant(node: onnx.NodeProto) -> dict[str, onnx.TensorProto]:
    if node.op_type == "Constant" and len(node.output) == 1:
        for attribute in node.attribute:
            if attribute.name == "value":
                return {node.output[0]: attribute.t}
            if attribute.name == "value_int":
                return {node.output[0]: onnx.TensorProto(data_type=onnx.TensorProto.INT64, int64_data=[attribute.i])}
    return {}


def _rounds(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> int:
    """Returns how often the graph inside a node runs, as far as the file stores it: once, or as a Loop says.

    A Loop whose condition is computed may end before; one that stores no number, or goes on for ever, counts as one that
    exceeds every bound only if nothing in it can end it.
    """
    if node.op_type != "Loop" or node.domain not in STANDARD_DOMAINS or not node.input:
        return 1
    bodies = list(subgraphs(node))
    ends = len(bodies) != 1 or not _goes_on(bodies[0], constants)
    number = _scalar(constants.get(node.input[0])) if node.input[0] else None
    if number is None:
        return bounds.LOOP_NODES + 1 if not ends and not node.input[0] else 1
    return 1 if ends else max(1, number)


def _goes_on(body: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether the condition that the body of a Loop gives is the one that it got, or a stored one that is true."""
    if len(body.input) < 2 or not body.output:
        return False
    made = {name: node for node in body.node for name in node.output}
    stored = {**constants, **_stored(body)}
    name = body.output[0].name
    for _ in range(len(body.node) + 1):
        node = made.get(name)
        if node is None or node.op_type != "Identity" or not node.input:
            break
        name = node.input[0]
    if name in made:
        stored.update(_constant(made[name]))
    return name == body.input[1].name or bool(_scalar(stored.get(name)))


def _stored(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer}


def _scalar(tensor: onnx.TensorProto | None) -> int | None:
    """Returns the one whole number that a tensor stores, in the file; None if it stores anything else."""
    kinds = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    if tensor is None or tensor.data_type not in kinds or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    numbers = list(tensor.int64_data) or list(tensor.int32_data)
    if not numbers and len(tensor.raw_data) in (1, 4, 8):
        numbers = [int.from_bytes(tensor.raw_data, "little", signed=True)]
    return int(numbers[0]) if len(numbers) == 1 else None


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"about 10^{len(str(count)) - 1}"
