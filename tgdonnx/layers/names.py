"""Names in a file: each is made once, leads somewhere, and not back to itself.

Nodes need not be sorted: some tools write them in another order, and the order can be found.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import ModelFile

SIDE_PATH_PREFIX = "tgdonnx.adapter."
"""What the names of all begin with that rounds of mode ``adapter`` add."""
_AGAIN = "export the model again"


def require_names(file: ModelFile) -> None:
    """Checks the names in the graph of a file and in its subgraphs.

    Raises:
        ModelFileError: a name is given twice, or read but not made, or made from itself.
    """
    if not file.proto.graph.output:
        raise ModelFileError(f"{file.path} gives out nothing; expected at least one output: {_AGAIN}")
    _require_names(file.proto.graph, set(), file)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields a graph and all graphs inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs_of(inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yields the branches or bodies of a node."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def at_fault(node: onnx.NodeProto, file: ModelFile, reason: str, remedy: str) -> ModelFileError:
    """Returns the error that says what is wrong with a node of a file, and what would help."""
    name = _name(node)
    problem = f"node {name!r} ({node.op_type}) of {file.path} {reason}"
    return ModelFileError(problem, remedy=remedy, node=name, op_type=node.op_type)


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or (node.output[0] if node.output else ""))


def _require_names(graph: onnx.GraphProto, outside: set[str], file: ModelFile) -> None:
    made = _made(graph, file)
    visible = {"", *outside, *made}
    for node in graph.node:
        for name in node.input:
            if name not in visible:
                raise at_fault(node, file, f"reads {name!r}, which nothing makes", _AGAIN)
    for value in graph.output:
        if not value.name or value.name not in visible:  # "" stands for an input that is left out, and for nothing else
            raise ModelFileError(f"{file.path} gives out {value.name!r}, which nothing makes; {_AGAIN}")
    for node in graph.node:
        for inner in subgraphs(node):
            _require_names(inner, visible, file)
    _require_no_circle(graph, file)


def _made(graph: onnx.GraphProto, file: ModelFile) -> dict[str, str]:
    """Returns every name that the graph gives, and who gives it."""
    made: dict[str, str] = {}

    def add(name: str, who: str) -> None:
        if name in made:
            raise ModelFileError(
                f"{file.path} uses the name {name!r} twice, for {made[name]} and for {who}; expected one: {_AGAIN}"
            )
        made[name] = who

    for value in graph.input:
        add(value.name, "an input")
    stored: set[str] = set()
    for name in [t.name for t in graph.initializer] + [t.values.name for t in graph.sparse_initializer]:
        if name in stored:
            count = sum(tensor.name == name for tensor in graph.initializer)
            raise ModelFileError(f"{file.path} stores {count} tensors under the name {name!r}; expected one: {_AGAIN}")
        stored.add(name)
        if made.get(name) != "an input":  # old files list stored tensors among the inputs
            add(name, "a stored tensor")
    for node in graph.node:
        for name in node.output:
            if name:
                add(name, f"node {_name(node)!r} ({node.op_type})")
    return made


def _require_no_circle(graph: onnx.GraphProto, file: ModelFile) -> None:
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needs = [{maker[name] for name in _read(node) if name in maker} for node in graph.node]
    readers: list[list[int]] = [[] for _ in needs]
    for index, makers in enumerate(needs):
        for other in makers:
            readers[other].append(index)
    waiting = [len(makers) for makers in needs]
    ready = [index for index, count in enumerate(waiting) if not count]
    for index in ready:  # grows while it is walked
        for reader in readers[index]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    left = set(range(len(needs))) - set(ready)
    if not left:
        return
    # Some of those left only wait for the circle; going from one to what it needs ends in it.
    index, seen = min(left), set[int]()
    while index not in seen:
        seen.add(index)
        index = min(needs[index] & left)
    raise at_fault(graph.node[index], file, "is computed from its own result", _AGAIN)


def _read(node: onnx.NodeProto) -> set[str]:
    """Returns the names that a node reads, those that its branches read of what is around them included."""
    names = set(node.input)
    for inner in subgraphs(node):
        read = {value.name for value in inner.output}.union(*(_read(each) for each in inner.node))
        made = {name for each in inner.node for name in each.output}
        names |= read - made.union(each.name for each in (*inner.input, *inner.initializer))
    return names
