"""The vendor's first nodes once more, outside of both branches, where a detector can look at what they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from tgdonnx.gated_model.detector import Detector

_COPY = "copy/"


def copied_up_to(
    vendor: onnx.GraphProto, detector: Detector, outer: Mapping[str, str], prefix: str
) -> tuple[Detector, list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Returns a detector that looks at copies, the nodes that make them, and the tensors that these read.

    Args:
        vendor: the vendor's graph.
        detector: what looks at a value of it.
        outer: how tensors are called that the outer graph has, by the vendor's names.
        prefix: of all names.
    """
    made = {name: node for node in vendor.node for name in node.output}
    needed = ancestors(vendor, detector.value)
    names: dict[str, str] = {"": ""}
    nodes, tensors = [], []
    for tensor in vendor.initializer:
        if any(tensor.name in node.input for node in needed):
            names[tensor.name] = outer.get(tensor.name, "")
            if not names[tensor.name]:
                copy = onnx.TensorProto()
                copy.CopyFrom(tensor)
                copy.name = names[tensor.name] = prefix + _COPY + tensor.name
                tensors.append(copy)
    for node in needed:
        (*outputs,) = node.output
        if outputs[0] in outer:  # a Constant that the outer graph has as a tensor
            names[outputs[0]] = outer[outputs[0]]
            continue
        names |= {name: prefix + _COPY + name for name in outputs if name}
        new = onnx.NodeProto()
        new.CopyFrom(node)
        new.name = prefix + _COPY + (node.name or outputs[0])
        new.input[:] = [names.get(name, name) for name in node.input]
        new.output[:] = [names[name] for name in outputs]
        nodes.append(new)
    value = names[detector.value] if detector.value in made else detector.value
    return replace(detector, value=value), nodes, tensors


def ancestors(graph: onnx.GraphProto, value: str) -> list[onnx.NodeProto]:
    """Returns the nodes that a value is made by, in the order of the file."""
    wanted, found = {value}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(name for name in node.input if name)
    return found[::-1]
