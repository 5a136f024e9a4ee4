"""One of the two networks of a gated model, alone, and what its detector says, alone: in memory, and nothing is proved."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.detector import RESIDUAL
from tgdonnx.gated_model.detector_copy import ancestors
from tgdonnx.gated_model.names import prefix_in_use
from tgdonnx.gated_model.record import record_of
from tgdonnx.gated_model.writing import OUTPUTS


def settled(file: ModelFile, g: float) -> ModelFile:
    """Returns one network of a gated file.

    Args:
        file: the gated file.
        g: in [0, 1].

    Raises:
        ModelFileError: it is not as gate writes it.
    """
    record, prefix = record_of(file), _prefix(file)
    model = onnx.ModelProto()
    model.CopyFrom(file.proto)
    graph = model.graph
    own = {record.input, *(OUTPUTS if record.outputs else ())}
    kept_outputs = [value for value in graph.output if value.name not in own]
    kept_inputs = [value for value in graph.input if value.name not in own]
    if record.form == "branches":
        _unfold(graph, prefix, "then_branch" if g > 0.5 else "else_branch", file)
    else:
        _fix_factors(graph, prefix, g)
    stored = [tensor for tensor in graph.initializer if tensor.name not in own]
    needed = _needed(graph, [value.name for value in kept_outputs])
    _replace(graph.node, needed)
    read = {name for node in needed for name in _reads(node)}
    _replace(graph.initializer, [t for t in stored if t.name in read or not t.name.startswith(prefix)])
    _replace(graph.input, kept_inputs)
    _replace(graph.output, kept_outputs)
    return ModelFile(file.path, model.SerializeToString(), model)


def judging(file: ModelFile) -> tuple[ModelFile, str]:
    """Returns what in a gated file computes the detector's residual, and the name of that output, (N, 1).

    Raises:
        ModelFileError: it is not as gate writes it.
    """
    prefix = _prefix(file)
    model = onnx.ModelProto()
    model.CopyFrom(file.proto)
    graph = model.graph
    needed = ancestors(graph, prefix + RESIDUAL)
    read = {name for node in needed for name in _reads(node)}
    _replace(graph.node, needed)
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in read])
    _replace(graph.output, [onnx.helper.make_tensor_value_info(prefix + RESIDUAL, onnx.TensorProto.FLOAT, [None, 1])])
    _replace(graph.input, [value for value in graph.input if value.name in read])
    return ModelFile(file.path, model.SerializeToString(), model), prefix + RESIDUAL


def _prefix(file: ModelFile) -> str:
    """Returns the prefix of what gate added."""
    found = prefix_in_use(file.proto)
    if found is None:
        raise ModelFileError(f"{file.path} is not as gate writes it: nothing was added", remedy="gate the models again")
    return found


def _unfold(graph: onnx.GraphProto, prefix: str, name: str, file: ModelFile) -> None:
    """Puts a branch in the place of the If."""
    branches = [
        attribute.g
        for node in graph.node
        if node.name == prefix + "choice"
        for attribute in node.attribute
        if attribute.name == name
    ]
    if len(branches) != 1:
        raise ModelFileError(f"{file.path} is not as gate writes it: it lacks a branch", remedy="gate the models again")
    branch = branches[0]
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in branch.node:
        if node.name.startswith(prefix + "read/") and node.input[0] in stored:
            stored[node.input[0]].name = node.output[0]
        else:
            nodes.append(node)
    _replace(graph.node, list(map(_copied, nodes)))
    graph.initializer.extend(branch.initializer)
    graph.sparse_initializer.extend(branch.sparse_initializer)
    graph.quantization_annotation.extend(branch.quantization_annotation)


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _fix_factors(graph: onnx.GraphProto, prefix: str, g: float) -> None:
    """Puts numbers in the place of factors."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    factors = [
        node.output[0]
        for node in graph.node
        if node.op_type == "Add"
        and node.output[0].startswith(prefix + "factors.")
        and node.output[0] + ".new" in stored
    ]
    for name in factors:
        new, old = (numpy_helper.to_array(stored[f"{name}.{word}"]) for word in ("new", "old"))
        graph.initializer.append(numpy_helper.from_array((np.asarray(g, new.dtype) * new + old), name))
    _replace(graph.node, [node for node in graph.node if node.output[0] not in factors])


def _needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    wanted, found = set(outputs), []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(_reads(node))
    return found[::-1]


def _reads(node: onnx.NodeProto) -> set[str]:
    """Returns the names that a node reads, its subgraphs included."""
    inner = [each for attribute in node.attribute for graph in (attribute.g, *attribute.graphs) for each in graph.node]
    outputs = [value.name for a in node.attribute for graph in (a.g, *a.graphs) for value in graph.output]
    return {*node.input, *outputs, *(name for each in inner for name in _reads(each))}


def _replace(field: object, new: Iterable[object]) -> None:
    """Puts other messages into a repeated field."""
    copies = []
    for each in new:
        copy = type(each)()
        copy.CopyFrom(each)  # type: ignore[attr-defined]
        copies.append(copy)
    del field[:]  # type: ignore[attr-defined]
    field.extend(copies)  # type: ignore[attr-defined]
