"""What puts elements elsewhere, takes some, joins them, or asks for sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tests.pytorch.interpreter import Node, operator


@operator("Shape")
def _shape(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(list(x.shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


@operator("Size")
def _size(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(x.numel())


@operator("Reshape")
def _reshape(node: Node, x: Tensor, shape: Tensor | None = None) -> Tensor:
    sizes = node.integers("shape", shape) or []
    if not node.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def _flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    rows = x.shape[: axis % x.ndim] if axis < 0 else x.shape[:axis]
    return x.reshape(int(torch.tensor(rows).prod()), -1)


@operator("Transpose")
def _transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.integers("perm") or list(reversed(range(x.ndim))))


@operator("Squeeze")
def _squeeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = node.integers("axes", axes)
    return x.squeeze() if along is None else x.squeeze(tuple(along))


@operator("Unsqueeze")
def _unsqueeze(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = node.integers("axes", axes) or []
    for axis in sorted(axis % (x.ndim + len(along)) for axis in along):
        x = x.unsqueeze(axis)
    return x


@operator("Expand")
def _expand(node: Node, x: Tensor, shape: Tensor) -> Tensor:
    return x.broadcast_to(torch.broadcast_shapes(x.shape, [int(size) for size in shape]))


@operator("Tile")
def _tile(node: Node, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat([int(size) for size in repeats])


@operator("Concat")
def _concat(node: Node, *given: Tensor) -> Tensor:
    return torch.cat(given, node.get("axis"))


@operator("Split")
def _split(node: Node, x: Tensor, lengths: Tensor | None = None) -> Any:
    axis, sizes = node.get("axis", 0), node.integers("split", lengths)
    if sizes is None:
        sizes = [-(-x.shape[axis] // len(node.proto.output))] * (len(node.proto.output) - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    return torch.split(x, sizes, axis)


@operator("Slice")
def _slice(
    node: Node,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first, last = node.integers("starts", starts) or [], node.integers("ends", ends) or []
    along = node.integers("axes", axes) or list(range(len(first)))
    for start, end, axis, step in zip(first, last, along, node.integers("steps", steps) or [1] * len(first)):
        size = x.shape[axis]
        end = None if step < 0 and end < -size else end  # before the first, which no number says
        places = range(size)[start:end:step]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


@operator("Pad")
def _pad(
    node: Node, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, axes: Tensor | None = None
) -> Tensor:
    margins = node.integers("pads", pads) or []
    along = node.integers("axes", axes) or list(range(x.ndim))
    mode = node.text("mode", "constant")
    fill = node.get("value", 0.0) if value is None else float(value)
    for place, axis in enumerate(along):
        pair = (margins[place], margins[place + len(along)])
        if mode == "constant":
            flat = functional.pad(torch.movedim(x, axis, -1), pair, value=fill)
            x = torch.movedim(flat, -1, axis)
            continue
        # A place beyond the border, and the one that is copied there.
        size, wanted = x.shape[axis], range(-pair[0], x.shape[axis] + pair[1])
        turns = {
            "edge": lambda at, size=size: min(max(at, 0), size - 1),
            "reflect": lambda at, size=size: size - 1 - abs(size - 1 - abs(at)),
            "wrap": lambda at, size=size: at % size,
        }
        x = x.index_select(axis, torch.tensor([turns[mode](at) for at in wanted], dtype=torch.int64))
    return x


@operator("Gather")
def _gather(node: Node, x: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.ndim
    places = places.long()
    taken = x.index_select(axis, torch.where(places < 0, places + x.shape[axis], places).reshape(-1))
    return taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@operator("GatherElements")
def _gather_elements(node: Node, x: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0)
    return torch.gather(x, axis, torch.where(places < 0, places + x.shape[axis], places))


def _columns(places: Tensor) -> tuple[Tensor, ...]:
    return tuple(places.long().unbind(-1))


@operator("GatherND")
def _gather_nd(node: Node, x: Tensor, places: Tensor) -> Tensor:
    batch = node.get("batch_dims", 0)
    if batch:
        within = [
            torch.arange(size).reshape(-1, *[1] * (batch - 1 - axis)) for axis, size in enumerate(x.shape[:batch])
        ]
        outer = [each.reshape(*each.shape, *[1] * (places.ndim - 1 - batch)) for each in within]
        return x[(*outer, *_columns(places))]
    return x[_columns(places)]


@operator("ScatterElements")
def _scatter_elements(node: Node, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    axis, reduction = node.get("axis", 0), node.text("reduction", "none")
    places = torch.where(places < 0, places + x.shape[axis], places)
    if reduction == "none":
        return x.scatter(axis, places, updates)
    assert reduction == "add", reduction
    return x.scatter_add(axis, places, updates)


@operator("ScatterND")
def _scatter_nd(node: Node, x: Tensor, places: Tensor, updates: Tensor) -> Tensor:
    reduction = node.text("reduction", "none")
    assert reduction in ("none", "add"), reduction
    return x.index_put(_columns(places), updates, accumulate=reduction == "add")


@operator("OneHot")
def _one_hot(node: Node, places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    count = int(depth.reshape(()))
    hot = functional.one_hot(places.long() % count, count)
    return torch.movedim(torch.where(hot.bool(), values[1], values[0]), -1, node.get("axis", -1))


@operator("TopK")
def _top_k(node: Node, x: Tensor, k: Tensor | None = None) -> Any:
    count = int(node.get("k") if k is None else k)
    return tuple(torch.topk(x, count, node.get("axis", -1), bool(node.get("largest", 1))))


@operator("NonZero")
def _non_zero(node: Node, x: Tensor) -> Tensor:
    return torch.nonzero(x).T


@operator("Trilu")
def _triangle(node: Node, x: Tensor, k: Tensor | None = None) -> Tensor:
    function = torch.triu if node.get("upper", 1) else torch.tril
    return function(x, 0 if k is None else int(k))
