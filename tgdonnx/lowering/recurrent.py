"""LSTM and GRU, unrolled where the length of their sequences is fixed.

No gradient passes the operators themselves. With T places known before the model runs, each is written out, place by place:

    LSTM   [i o f c] = x W^T + h R^T + b        c <- sigmoid(f) c + sigmoid(i) tanh(c~)      h <- sigmoid(o) tanh(c)
    GRU    [z r]     = x W^T + h R^T + b        h~ = tanh(x Wh^T + (r h) Rh^T + b)           h <- (1 - z) h~ + z h

What x gives is computed for all places in one product; a direction that runs backwards takes them in turn from the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Optional, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import replace_value
from tgdonnx.graphs.nodes import first_input, optional_input
from tgdonnx.lowering.emitting import Emitter, Lowering

MOST_PLACES = 512
"""Of a sequence that is unrolled: each takes about 20 nodes forward, and 50 back."""
_GATES = {"LSTM": 4, "GRU": 3}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@final
class LowerRecurrent(Lowering):
    """Replaces LSTM and GRU."""

    op_types: ClassVar = frozenset(_GATES)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        found = list(self.candidates(model))
        for emit in found:
            self.rewrite(emit, emit.node)
        return ir.passes.PassResult(model, modified=bool(found))

    def rewrite(self, emit: Emitter, node: ir.Node) -> None:
        """Puts the unrolled nodes in the place of a node, all outputs of it."""
        for old, new in zip(list(node.outputs), _unrolled(emit, node)):
            replace_value(old, new)
        assert node.graph is not None
        node.graph.remove(node, safe=True)


def _unrolled(emit: Emitter, node: ir.Node) -> list[ir.Value]:
    """Returns what takes the place of the outputs: all states, the last state, and of an LSTM the last cell."""
    x, attributes = first_input(node), node.attributes
    by_batch = attributes.get_int("layout", 0) == 1
    if by_batch:
        x = emit("Transpose", x, perm=[1, 0, 2])
    length = _length(emit, node, by_batch)
    _require_plain(emit, node, length)
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    runs = directions[attributes.get_string("direction", "forward") or "forward"]
    states, lasts, cells = [], [], []
    for index, backwards in enumerate(runs):
        outputs, cell = _direction(emit, node, x, index, length, backwards=backwards, by_batch=by_batch)
        joined = emit("Concat", *(emit.unsqueeze(each, [0]) for each in outputs), axis=0)
        states.append(emit.unsqueeze(joined, [1]))
        lasts.append(emit.unsqueeze(outputs[0] if backwards else outputs[-1], [0]))
        if cell is not None:
            cells.append(emit.unsqueeze(cell, [0]))
    results = [_joined(emit, parts, axis) for parts, axis in ((states, 1), (lasts, 0), (cells, 0)) if parts]
    if by_batch:
        perms = [[2, 0, 1, 3], [1, 0, 2], [1, 0, 2]]
        results = [emit("Transpose", result, perm=perm) for result, perm in zip(results, perms)]
    return results


def _joined(emit: Emitter, parts: Sequence[ir.Value], axis: int) -> ir.Value:
    return parts[0] if len(parts) == 1 else emit("Concat", *parts, axis=axis)


def _length(emit: Emitter, node: ir.Node, by_batch: bool) -> int:
    shape = first_input(node).shape
    length = None if shape is None else shape[1 if by_batch else 0]
    if not isinstance(length, int):
        raise emit.refusal(
            "runs over a sequence whose length is open",
            "export the model with a fixed length, or retrain filters behind it only, for example with `last`",
        )
    if length > MOST_PLACES:
        raise emit.refusal(
            f"runs over {length} places, of which at most {MOST_PLACES} are unrolled",
            "retrain filters behind it only, for example with `last`",
        )
    return length


def _require_plain(emit: Emitter, node: ir.Node, length: int) -> None:
    kind, attributes = node.op_type, node.attributes
    remedy = "retrain filters behind it only, for example with `last`"
    given = [str(name) for name in attributes["activations"].as_strings()] if "activations" in attributes else []
    usual = _ACTIVATIONS[kind]
    if given and given != usual * (len(given) // len(usual)):
        raise emit.refusal(f"has the activations {', '.join(given)}", remedy)
    if attributes.get_float("clip", 0.0):
        raise emit.refusal("clips what it adds up", remedy)
    if attributes.get_int("input_forget", 0):
        raise emit.refusal("couples its input and forget gates", remedy)
    lengths = optional_input(node, 4)
    if lengths is not None:
        tensor = ir.convenience.get_const_tensor(lengths)
        if tensor is None or (tensor.numpy() != length).any():
            raise emit.refusal("runs over sequences of several lengths", remedy)
    if kind == "LSTM" and optional_input(node, 7) is not None:
        raise emit.refusal("has peepholes", remedy)


def _direction(
    emit: Emitter, node: ir.Node, x: ir.Value, index: int, length: int, *, backwards: bool, by_batch: bool
) -> tuple[list[ir.Value], Optional[ir.Value]]:
    """Returns the states at all places, in their order, and of an LSTM the last cell."""
    kind, size = node.op_type, node.attributes["hidden_size"].as_int()
    one = emit.ints(index)

    def of_direction(place: int, axis: int = 0) -> Optional[ir.Value]:
        value = optional_input(node, place)
        if value is None:
            return None
        return emit("Squeeze", emit("Gather", value, one, axis=axis), emit.ints(axis))

    w, r = (emit("Transpose", _given(of_direction(place)), perm=[1, 0]) for place in (1, 2))
    bias = of_direction(3)
    gates = _GATES[kind] * size
    halves = (
        [None, None]
        if bias is None
        else [emit("Slice", bias, emit.ints(start), emit.ints(start + gates), emit.ints(0)) for start in (0, gates)]
    )
    inputs = emit("MatMul", x, w)  # (places, batch, gates)
    if halves[0] is not None:
        inputs = emit("Add", inputs, halves[0])
    batch_axis = 1 if by_batch else 0
    h, c = of_direction(5, batch_axis), of_direction(6, batch_axis) if kind == "LSTM" else None
    first = emit("Slice", emit("Gather", inputs, emit.constant(np.array(0, np.int64)), axis=0), *_until(emit, size))
    zero = emit("Mul", first, emit.scalar(0))  # of the size of the batch, which may be open
    h = zero if h is None else h
    c = zero if c is None else c
    states: list[ir.Value] = []
    for place in range(length - 1, -1, -1) if backwards else range(length):
        now = emit("Gather", inputs, emit.constant(np.array(place, np.int64)), axis=0)
        if kind == "LSTM":
            h, c = _lstm(emit, now, h, c, r, halves[1], size)
        else:
            h = _gru(emit, now, h, r, halves[1], size, bool(node.attributes.get_int("linear_before_reset", 0)))
        states.append(h)
    return states[::-1] if backwards else states, c if kind == "LSTM" else None


def _given(value: Optional[ir.Value]) -> ir.Value:
    assert value is not None
    return value


def _until(emit: Emitter, size: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    return emit.ints(0), emit.ints(size), emit.ints(1)


def _gate(emit: Emitter, value: ir.Value, place: int, size: int) -> ir.Value:
    return emit("Slice", value, emit.ints(place * size), emit.ints((place + 1) * size), emit.ints(1))


def _lstm(
    emit: Emitter, now: ir.Value, h: ir.Value, c: ir.Value, r: ir.Value, bias: Optional[ir.Value], size: int
) -> tuple[ir.Value, ir.Value]:
    total = emit("Add", now, emit("MatMul", h, r))
    if bias is not None:
        total = emit("Add", total, bias)
    i, o, f = (emit("Sigmoid", _gate(emit, total, place, size)) for place in range(3))
    new = emit("Mul", i, emit("Tanh", _gate(emit, total, 3, size)))
    c = emit("Add", emit("Mul", f, c), new)
    return emit("Mul", o, emit("Tanh", c)), c


def _gru(
    emit: Emitter, now: ir.Value, h: ir.Value, r: ir.Value, bias: Optional[ir.Value], size: int, linear: bool
) -> ir.Value:
    """Of a GRU the reset gate acts on h before the product, or, linear_before_reset, on the product."""
    both, last = (
        emit("Slice", r, emit.ints(a), emit.ints(b), emit.ints(1)) for a, b in ((0, 2 * size), (2 * size, 3 * size))
    )
    gates = emit("Add", emit("Slice", now, *_until(emit, 2 * size)), emit("MatMul", h, both))
    new_bias = None
    if bias is not None:
        gates = emit("Add", gates, emit("Slice", bias, emit.ints(0), emit.ints(2 * size), emit.ints(0)))
        new_bias = emit("Slice", bias, emit.ints(2 * size), emit.ints(3 * size), emit.ints(0))
    z, reset = (emit("Sigmoid", _gate(emit, gates, place, size)) for place in range(2))
    product = emit("MatMul", h if linear else emit("Mul", reset, h), last)
    if new_bias is not None:
        product = emit("Add", product, new_bias)
    if linear:
        product = emit("Mul", reset, product)
    new = emit("Tanh", emit("Add", _gate(emit, now, 2, size), product))
    # (1 - z) h~ + z h = h~ + z (h - h~)
    return emit("Add", new, emit("Mul", z, emit("Sub", h, new)))
