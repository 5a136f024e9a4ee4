"""If, and the recurrent operators by those of PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.pytorch.interpreter import Node, operator

# Of the rows of a weight, where ONNX has those of the gate that PyTorch has in this place.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2)}


@operator("If")
def _if(node: Node, condition: Tensor) -> Any:
    return node.inside("then_branch" if bool(condition) else "else_branch")


@operator("LSTM", "GRU")
def _recurrent(
    node: Node,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
) -> Any:
    kind, size = node.proto.op_type, node.get("hidden_size")
    direction = node.text("direction", "forward")
    assert direction in ("forward", "reverse", "bidirectional"), direction
    assert not {"activations", "clip", "input_forget"} & set(node.attributes), node.attributes
    assert not node.get("layout", 0)
    assert lengths is None or bool((lengths == len(x)).all())
    linear = kind == "LSTM" or node.get("linear_before_reset", 0)
    if direction == "reverse":
        x = x.flip(0)
    count, n = len(w), x.shape[1]
    rows = torch.cat([torch.arange(size) + gate * size for gate in _ORDER[kind]])
    b = torch.zeros(count, 2 * w.shape[1], dtype=x.dtype) if b is None else b
    h = torch.zeros(count, n, size, dtype=x.dtype) if h is None else h
    if linear:
        weights = [
            each
            for place in range(count)
            for each in (w[place][rows], r[place][rows], *(half[rows] for half in b[place].chunk(2)))
        ]
        if kind == "LSTM":
            c = torch.zeros_like(h) if c is None else c
            y, *last = torch.lstm(x, (h, c), weights, True, 1, 0.0, False, count == 2, False)
        else:
            y, *last = torch.gru(x, h, weights, True, 1, 0.0, False, count == 2, False)
    else:
        runs = [_gru(x.flip(0) if place else x, w[place], r[place], b[place], h[place]) for place in range(count)]
        y = torch.cat([run.flip(0) if place else run for place, run in enumerate(runs)], -1)
        last = [torch.stack([run[-1] for run in runs])]
    if direction == "reverse":
        y = y.flip(0)
    return (y.reshape(len(x), n, count, size).movedim(2, 1), *last)


def _gru(x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """Where the reset gate acts on the state before the product, which PyTorch's does not."""
    (wz, wr, wh), (rz, rr, rh) = w.chunk(3), r.chunk(3)
    wbz, wbr, wbh, rbz, rbr, rbh = b.chunk(6)
    states = []
    for now in x:
        z = torch.sigmoid(now @ wz.T + h @ rz.T + wbz + rbz)
        reset = torch.sigmoid(now @ wr.T + h @ rr.T + wbr + rbr)
        new = torch.tanh(now @ wh.T + wbh + (reset * h) @ rh.T + rbh)
        h = (1 - z) * new + z * h
        states.append(h)
    return torch.stack(states)
