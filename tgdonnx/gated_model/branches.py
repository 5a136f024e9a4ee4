"""An If between the vendor's graph and the tuned one, which share the tensors that are equal.

Tensors of `LEAST` bytes and more, be they initializers or in Constant nodes, are stored once if they are equal, in the outer
graph, and twice if not. A branch begins by taking what it reads of them, each with a Concat of one input, and goes on with the
nodes of its network as they are. The Concat becomes a constant of the branch's own when a model is opened: ONNX Runtime does
not pack weights of an outer graph, and results would differ from those of the network alone in their last bits. (An Identity it
would take away.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import onnx
from onnx import helper

from tgdonnx.files import wire
from tgdonnx.files.tensors import StoredTensor
from tgdonnx.gated_model.graph_bytes import (
    NAME,
    NODE_NAME,
    NODE_OP_TYPE,
    NODE_OUTPUT,
    OUTPUT,
    QUANTIZATION_ANNOTATION,
    SPARSE_INITIALIZER,
    VALUE_INFO,
    Part,
    info_name_of,
    name_of,
    named,
    nameless,
    node_parts,
    parts,
    texts,
)

LEAST = 1024
"""Bytes from which on a tensor is stored in the outer graph."""
_TYPES = tuple(
    getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64")
)
_SAME, _VENDOR, _TUNED = "same/", "vendor/", "tuned/"
_ATTRIBUTE_NAME = 1
_INSIDE = {wire.NODE, wire.INITIALIZER, VALUE_INFO, QUANTIZATION_ANNOTATION, SPARSE_INITIALIZER}
"""What of a graph goes into its branch; outputs do, too, and stay outside as well."""


@dataclass(frozen=True)
class _Stored:
    """A tensor that is stored in the outer graph.

    Attributes:
        name: of the value.
        own_name: of the TensorProto, which in a Constant node may be another or none.
        tensor: the TensorProto.
    """

    name: str
    own_name: str
    tensor: bytes = field(repr=False)


def side_paths_added(vendor: onnx.ModelProto, tuned: onnx.ModelProto) -> bool:
    """Whether a tuned network has nodes that the vendor's has not; else both have the same fields, in the same order."""
    return len(tuned.graph.node) != len(vendor.graph.node)


def why_no_branches(vendor: onnx.ModelProto, tuned: onnx.ModelProto) -> str:
    """Says why two networks cannot become branches; nothing if they can."""
    if vendor.ir_version < 4:
        return f"the vendor's file has IR version {vendor.ir_version}, in which branches store no tensors; expected 4 or newer"
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in vendor.graph.initializer):
        return "the vendor's model has external data, of which two versions cannot be kept in one file yet"
    made = {name for node in vendor.graph.node for name in node.output}
    for value in vendor.graph.output:
        if value.name not in made:
            return f"the output {value.name!r} is made by no node"
    given = {value.name for value in vendor.graph.input}
    new = {tensor.name: tensor for tensor in tuned.graph.initializer}
    for tensor in vendor.graph.initializer:
        if tensor.name in given and new[tensor.name] != tensor:
            return f"the tensor {tensor.name!r}, which trained, is an input of the model as well, so it can be given only once"
    if list(vendor.functions) != list(tuned.functions):
        return "what trained lies in a function of the model, which both branches would call"
    return ""


def with_branches(
    vendor: Sequence[Part], tuned: Sequence[Part], condition: str, prefix: str
) -> tuple[list[bytes], bytes]:
    """Returns the fields of the graph around an If between two others, but for it, and the If.

    Args:
        vendor: the fields of the vendor's graph.
        tuned: those of the tuned one.
        condition: the value that says whether the tuned one is run.
        prefix: of all names.
    """
    given = _given(vendor)
    old, new = _outer(vendor, given), _outer(tuned, given)
    same = {index for index, stored in old.items() if stored.tensor == new[index].tensor}
    outer, branches = [], []
    for kind, graph, stored in ((_TUNED, tuned, new), (_VENDOR, vendor, old)):
        names = {index: prefix + (_SAME if index in same else kind) + each.name for index, each in stored.items()}
        outer += [
            wire.length_delimited(wire.INITIALIZER, named(each.tensor, names[index]))
            for index, each in stored.items()
            if kind == _VENDOR or index not in same
        ]
        branches.append(_branch(graph, stored, names, given, prefix, kind))
    kept = [
        part.raw
        for part in vendor
        if part.number not in _INSIDE or (part.number == wire.INITIALIZER and name_of(part.value) in given)
    ]
    outputs = [info_name_of(part.value) for part in vendor if part.number == OUTPUT]
    head = helper.make_node("If", [condition], outputs, prefix + "choice").SerializeToString(deterministic=True)
    attributes = (_graph_attribute(name, graph) for name, graph in zip(("then_branch", "else_branch"), branches))
    return [*kept, *outer], wire.length_delimited(wire.NODE, head + b"".join(attributes))


def outer_names(vendor: Sequence[Part], tuned: Sequence[Part], prefix: str) -> dict[str, str]:
    """Returns how the vendor's tensors are called in the outer graph, by their names, those that stay under theirs included."""
    given = _given(vendor)
    new = _outer(tuned, given)
    names = {
        stored.name: prefix + (_SAME if stored.tensor == new[index].tensor else _VENDOR) + stored.name
        for index, stored in _outer(vendor, given).items()
    }
    kept = {name_of(part.value) for part in vendor if part.number == wire.INITIALIZER} & given
    return {**names, **{name: name for name in kept}}


def tuned_graph(vendor: Sequence[Part], gated: Sequence[Part], prefix: str) -> list[bytes]:
    """Returns the fields of the tuned graph that `with_branches` was given, if the other graph is by it.

    Args:
        vendor: the fields of the vendor's graph.
        gated: those of the gated one.
        prefix: of what was added.

    Raises:
        ValueError: it is not.
    """
    given = _given(vendor)
    stored = {name_of(part.value): part.value for part in gated if part.number == wire.INITIALIZER}
    choices = [
        part.value for part in gated if part.number == wire.NODE and texts(part.value, NODE_NAME) == [prefix + "choice"]
    ]
    if len(choices) != 1:
        raise ValueError(f"it has {len(choices)} nodes {prefix + 'choice'!r}, expected one")
    inside = _then_branch(choices[0])
    nodes = iter([p for p in inside if p.number == wire.NODE and not _is_ours(p.value, prefix)])
    tensors = iter([part for part in inside if part.number == wire.INITIALIZER])
    outer, out = _outer(vendor, given), []
    for index, part in enumerate(vendor):
        if index in outer:
            name = outer[index].name
            found = stored.get(f"{prefix}{_TUNED}{name}", stored.get(f"{prefix}{_SAME}{name}"))
            if found is None:
                raise ValueError(f"it lacks the tensor {name!r}")
            out.append(_with_tensor(part, found, outer[index]))
        elif part.number == wire.NODE:
            out.append(_next(nodes).raw)
        elif part.number == wire.INITIALIZER and name_of(part.value) not in given:
            out.append(_next(tensors).raw)
        else:
            out.append(part.raw)
    return out


def _next(found: Iterator[Part]) -> Part:
    part = next(found, None)
    if part is None:
        raise ValueError("a node or tensor of the tuned network is missing")
    return part


def _given(graph: Sequence[Part]) -> set[str]:
    """Returns the names of the graph's inputs. What is stored under such a name is a default, and stays what it is."""
    return {info_name_of(part.value) for part in graph if part.number == wire.GRAPH_INPUT}


def _outer(graph: Sequence[Part], given: set[str]) -> dict[int, _Stored]:
    """Returns the tensors that are stored in the outer graph, by the place of their field."""
    found = {}
    for index, part in enumerate(graph):
        tensor, name = None, ""
        if part.number == wire.INITIALIZER:
            tensor, name = part.value, name_of(part.value)
        elif part.number == wire.NODE and texts(part.value, NODE_OP_TYPE) == ["Constant"]:
            tensor, name = _constant(part.value), texts(part.value, NODE_OUTPUT)[0]
        if tensor is None or name in given:
            continue
        read = onnx.TensorProto.FromString(tensor)
        if len(read.dims) and read.data_type in _TYPES and StoredTensor((), read).nbytes >= LEAST:
            found[index] = _Stored(name, name_of(tensor), tensor)
    return found


def _branch(
    graph: Sequence[Part],
    stored: Mapping[int, _Stored],
    names: Mapping[int, str],
    given: set[str],
    prefix: str,
    kind: str,
) -> bytes:
    """Returns a branch: what it reads of the outer graph, and everything else of its network but for the inputs."""
    reads = [
        helper.make_node("Concat", [names[index]], [each.name], f"{prefix}read/{each.name}", axis=0)
        for index, each in stored.items()
    ]
    own = [
        part.raw
        for index, part in enumerate(graph)
        if index not in stored
        and part.number in _INSIDE | {OUTPUT}
        and not (part.number == wire.INITIALIZER and name_of(part.value) in given)
    ]
    return b"".join([*node_parts(reads), wire.length_delimited(NAME, (prefix + kind.strip("/")).encode()), *own])


def _graph_attribute(name: str, graph: bytes) -> bytes:
    """Returns an attribute of a node that holds a graph."""
    kind = onnx.AttributeProto(name=name, type=onnx.AttributeProto.GRAPH).SerializeToString(deterministic=True)
    return wire.length_delimited(wire.ATTRIBUTE, kind + wire.length_delimited(wire.ATTRIBUTE_GRAPH, graph))


def _then_branch(node: bytes) -> list[Part]:
    for attribute in parts(node):
        inner = parts(attribute.value) if attribute.number == wire.ATTRIBUTE else []
        if any(each.number == _ATTRIBUTE_NAME and each.value == b"then_branch" for each in inner):
            return [part for each in inner if each.number == wire.ATTRIBUTE_GRAPH for part in parts(each.value)]
    raise ValueError("its If has no branch for the tuned network")


def _is_ours(node: bytes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in texts(node, NODE_NAME))


def _constant(node: bytes) -> Optional[bytes]:
    """Returns the TensorProto of a Constant node; None if it holds something else."""
    for attribute in parts(node):
        for each in parts(attribute.value) if attribute.number == wire.ATTRIBUTE else ():
            if each.number == wire.ATTRIBUTE_TENSOR:
                return each.value
    return None


def _with_tensor(part: Part, tensor: bytes, stored: _Stored) -> bytes:
    """Returns the field of an initializer or of a Constant node with another tensor, under the name of the old one."""
    new = named(tensor, stored.own_name) if stored.own_name else nameless(tensor)
    if part.number == wire.INITIALIZER:
        return wire.length_delimited(wire.INITIALIZER, new)
    out = []
    for attribute in parts(part.value):
        raw = attribute.raw
        if attribute.number == wire.ATTRIBUTE:
            inner = (
                wire.length_delimited(each.number, new) if each.number == wire.ATTRIBUTE_TENSOR else each.raw
                for each in parts(attribute.value)
            )
            raw = wire.length_delimited(wire.ATTRIBUTE, b"".join(inner))
        out.append(raw)
    return wire.length_delimited(wire.NODE, b"".join(out))
