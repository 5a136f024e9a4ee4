"""ONNX run by PyTorch in float64, so that autograd gives the gradients: an oracle that shares nothing with the package.

Every floating-point type is read as float64, casts to one included; within `in_float32` as float32, which tells how much of a
result is rounding. Nodes are computed one after the other, by the operator
that PyTorch has for them, else by the formula in ONNX's own documentation. An operator that is not in the table is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

Array = NDArray[Any]
Tensors = Mapping[str, torch.Tensor]
Compute = Callable[..., Any]

FLOAT: ContextVar[torch.dtype] = ContextVar("FLOAT", default=torch.float64)

OPERATORS: dict[str, Compute] = {}
"""For names of operators what computes them: of a node and its inputs, None for those that are left out, the outputs."""


@dataclass(frozen=True)
class Node:
    """A node as the table sees it.

    Attributes:
        proto: the node.
        opset: the version of the default operator set.
        scope: the values that are known, for graphs inside the node.
        attributes: by name.
    """

    proto: onnx.NodeProto
    opset: int
    scope: Tensors = field(repr=False)
    attributes: Mapping[str, Any] = field(repr=False)

    def get(self, name: str, absent: Any = None) -> Any:
        return self.attributes.get(name, absent)

    def text(self, name: str, absent: str) -> str:
        value = self.attributes.get(name, absent)
        return (value.decode() if isinstance(value, bytes) else value) or absent

    def integers(self, name: str, given: torch.Tensor | None = None) -> list[int] | None:
        """An input that holds integers, or the attribute that older operator sets have for it."""
        if given is not None:
            return [int(number) for number in given.reshape(-1)]
        value = self.attributes.get(name)
        return None if value is None else [int(number) for number in value]

    def inside(self, name: str) -> list[torch.Tensor]:
        """The outputs of a graph inside the node."""
        return run_graph(self.attributes[name], self.scope, self.opset)


def operator(*names: str) -> Callable[[Compute], Compute]:
    """Enters a function into the table."""

    def enter(compute: Compute) -> Compute:
        for name in names:
            assert name not in OPERATORS, name
            OPERATORS[name] = compute
        return compute

    return enter


def tensor_of(array: Any) -> torch.Tensor:
    """An array as a tensor, floating-point numbers as float64 or what `in_float32` says."""
    array = np.asarray(array)
    if array.dtype.kind in "iub":
        return torch.from_numpy(np.array(array))
    return torch.from_numpy(np.array(array.astype(np.float64))).to(FLOAT.get())


@contextmanager
def in_float32() -> Iterator[None]:
    """Everything is computed in float32 meanwhile."""
    token = FLOAT.set(torch.float32)
    try:
        yield
    finally:
        FLOAT.reset(token)


def run(model: onnx.ModelProto, feeds: Mapping[str, Any], replaced: Tensors = {}) -> list[torch.Tensor]:
    """The outputs of a model.

    Args:
        model: of standard operators; external data is loaded.
        feeds: its inputs, arrays or tensors.
        replaced: tensors that take the place of initializers or of what Constant nodes give, in the main graph or in others.
    """
    opset = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    scope = {name: a if isinstance(a, torch.Tensor) else tensor_of(a) for name, a in feeds.items()}
    return run_graph(model.graph, scope, opset, replaced)


def run_graph(graph: onnx.GraphProto, outer: Tensors, opset: int, replaced: Tensors = {}) -> list[torch.Tensor]:
    """The outputs of a graph that sees the values of ``outer``."""
    scope: dict[str, torch.Tensor] = {"replaced": replaced, **outer}  # type: ignore[dict-item]
    replaced = scope["replaced"]  # type: ignore[assignment]
    for tensor in graph.initializer:
        # Old files list initializers among the inputs too; what is fed takes their place.
        if tensor.name not in outer or tensor.name not in {value.name for value in graph.input}:
            scope[tensor.name] = replaced.get(tensor.name, tensor_of(numpy_helper.to_array(tensor)))
    for proto in graph.node:
        if proto.output[0] in replaced:
            scope[proto.output[0]] = replaced[proto.output[0]]
            continue
        assert proto.domain in ("", "ai.onnx"), f"{proto.domain}.{proto.op_type}"
        attributes = {attribute.name: _attribute(attribute) for attribute in proto.attribute}
        node = Node(proto, opset, scope, attributes)
        inputs = [scope[name] if name else None for name in proto.input]
        results = OPERATORS[proto.op_type](node, *inputs)
        results = results if isinstance(results, (tuple, list)) else (results,)
        scope.update(zip(proto.output, results))
    return [scope[value.name] for value in graph.output]


def _attribute(attribute: onnx.AttributeProto) -> Any:
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(attribute.t)
    return onnx.helper.get_attribute_value(attribute)


def gradients(
    model: onnx.ModelProto,
    feeds: Mapping[str, Any],
    wanted: Sequence[str],
    loss: Callable[[list[torch.Tensor]], torch.Tensor],
    starts: Mapping[str, Any] = {},
) -> tuple[float, dict[str, Array]]:
    """The loss of the outputs, and its gradients by autograd.

    Args:
        model: see `run`.
        feeds: its inputs.
        wanted: names of feeds, or of tensors in ``starts``.
        loss: of the outputs of the model.
        starts: values of stored tensors by which a gradient is wanted, by name.
    """
    leaves = {name: tensor_of({**feeds, **starts}[name]).requires_grad_() for name in wanted}
    outputs = run(
        model,
        {**feeds, **{name: leaf for name, leaf in leaves.items() if name in feeds}},
        {name: leaf for name, leaf in leaves.items() if name in starts},
    )
    value = loss(outputs)
    if not value.requires_grad:
        found = [None] * len(leaves)
    else:
        found = list(torch.autograd.grad(value, list(leaves.values()), allow_unused=True))
    return float(value.detach()), {
        name: np.zeros(leaf.shape) if gradient is None else gradient.numpy()
        for (name, leaf), gradient in zip(leaves.items(), found)
    }
