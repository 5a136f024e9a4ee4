"""The runtime's backward pass, cut down to the gradients that somebody reads, and with faster nodes.

What the runtime gives back for a joined parameter is the gradient of all its rows, put into the order of the pieces and
split; where columns of the other rows train, those are put into order and split again. In the place of each piece comes the
gradient of what it holds: computed as such where a Conv reads the joined tensor, gathered from the whole where anything else
does. What nobody reads any more is removed, and with it what was kept for it from the forward pass.

Relu    dX = dY * [Y > 0]. The runtime's ReluGrad works on one thread: 9.4 ms for 8 x 64 x 64 x 64 numbers, the product with a
        mask 1.4 (onnxruntime-training 1.19.2, two cores). LeakyReluGrad likewise.
MaxPool a Gather in our lowering. Its GatherGrad takes 31 ms to spread 8 x 128 x 32 x 32 numbers over four times as many places,
        ScatterElements 4.
Conv    see `tgdonnx.engines.onnxruntime_training.convolution`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from tgdonnx.engines.frozen import Aside, put_back, set_aside
from tgdonnx.engines.onnxruntime_training.convolution import (
    ConvGradient,
    bias_gradient,
    filter_gradient,
    gather,
    grouped_filter_gradient,
    input_gradient,
)
from tgdonnx.graphs.builder import AttributeValue, Builder, replace
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.operators import is_standard

_Gathered = dict[tuple[ir.Node, int, bytes], ir.Value]
"""For a ConvGrad, one of its inputs and channels of that: the channels, which dW and dB share."""
_Part = Mapping[int, NDArray[np.int64]]
"""Where a piece of a tensor lies: for each axis of which it has not all, the indices that it has."""


@dataclass(frozen=True)
class _Join:
    """A tensor put together from the rows that train and the others: ``Gather(Concat(trained, others), order)``.

    Attributes:
        trained: the rows that train.
        rows: their indices in the tensor.
        others: the indices of the others, which are constant or joined themselves.
        axis: along which they lie.
        shape: of the tensor.
    """

    trained: ir.Value
    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    axis: int
    shape: tuple[int, ...]


def thin_backward(training: onnx.ModelProto, aside: Aside) -> tuple[onnx.ModelProto, Aside]:
    """Returns a gradient model that computes the same gradients of the same parameters faster.

    Args:
        training: as `tgdonnx.engines.onnxruntime_training.gradients.gradient_model` gives it.
        aside: the frozen tensors of a large model that inputs of the graph stand for.

    Returns:
        The model, and what is aside now: constants are added, and others not needed any more.
    """
    model = ir.from_proto(training)
    put_back(model, aside)
    graph = model.graph
    declared = [(value.name, value.shape, value.type) for value in graph.outputs]
    ends = _tie(graph)
    gathered: _Gathered = {}
    for node in _nodes(graph, "GatherGrad"):
        if node.inputs[2] is not None:
            _thin_pieces(node, node.inputs[2], {}, gathered)
    for node in _nodes(graph, "ConvGrad"):
        _replace_conv_grad(node)
    for node in _nodes(graph, "GatherGrad"):
        _replace_pool_grad(node)
    for op_type in ("ReluGrad", "LeakyReluGrad"):
        for node in _nodes(graph, op_type):
            _replace_relu_grad(node)
    passes.RemoveUnusedNodesPass()(model)
    _untie(graph, ends)
    for value, (name, shape, type_) in zip(graph.outputs, declared):
        value.name, value.shape, value.type = name, shape, type_
    left = set_aside(model) if aside else {}
    return ir.to_proto(model), left


def _tie(graph: ir.Graph) -> list[ir.Node]:
    """Lets the graph have one output, until it is rewritten; returns nodes that each read one of those it had.

    Whoever removes a node or replaces a value looks through all outputs of the graph. There is one for every parameter, so
    the time would grow with the square of the depth.
    """
    ends = [ir.node("Output", [value], domain="tgdonnx") for value in graph.outputs]
    knot = ir.node("Outputs", [end.outputs[0] for end in ends], domain="tgdonnx")
    graph.extend([*ends, knot])
    graph.outputs[:] = knot.outputs
    return ends


def _untie(graph: ir.Graph, ends: list[ir.Node]) -> None:
    """Gives the graph back the outputs that the nodes of `_tie` read."""
    knot = graph.outputs[0].producer()
    assert knot is not None
    graph.outputs[:] = [value for end in ends for value in end.inputs if value is not None]
    graph.remove([knot, *ends], safe=True)


def _nodes(graph: ir.Graph, op_type: str) -> list[ir.Node]:
    return [node for node in graph if node.op_type == op_type and node.domain == "com.microsoft"]


def _thin_pieces(scattered: ir.Node, whole: ir.Value, within: _Part, gathered: _Gathered) -> None:
    """Replaces the gradients that the runtime splits off that of a whole joined tensor, if this GatherGrad is of one.

    Args:
        scattered: the GatherGrad.
        whole: the gradient of the whole tensor.
        within: which part of it the GatherGrad reads, where it is that of a piece which is joined itself.
        gathered: see there.
    """
    consumers = [use.node for use in scattered.outputs[0].uses()]
    if len(consumers) != 1 or consumers[0].op_type != "SplitTraining":
        return
    split = consumers[0]
    shape = scattered.inputs[0].producer() if scattered.inputs[0] is not None else None
    join = _join_of(shape.inputs[0], scattered.inputs[1]) if shape is not None else None
    if join is None or len(split.outputs) != 2 or join.axis in within:
        return
    if split.outputs[0].uses():
        part = {**within, join.axis: join.rows}
        split.outputs[0].replace_all_uses_with(_piece_gradient(whole, join.trained, part, split, gathered))
    for use in list(split.outputs[1].uses()):
        if use.node.op_type == "GatherGrad" and use.node.domain == "com.microsoft":
            _thin_pieces(use.node, whole, {**within, join.axis: join.others}, gathered)


def _join_of(pieces: Optional[ir.Value], order: Optional[ir.Value]) -> Optional[_Join]:
    """Returns the join of ``Gather(pieces, order)``, or None if that is none."""
    concat = pieces.producer() if pieces is not None else None
    if concat is None or concat.op_type not in ("Concat", "ConcatTraining") or len(concat.inputs) != 2:
        return None
    trained, rest = concat.inputs
    if trained is None or rest is None or order is None:
        return None
    inner = rest.producer()
    if inner is not None and inner.op_type == "Gather":
        nested = _join_of(inner.inputs[0], inner.inputs[1])
        left = nested.shape if nested is not None else None
    else:
        frozen = known_array(rest)
        left = frozen.shape if frozen is not None else None
    places, axis = known_array(order), concat.attributes["axis"].as_int()
    if left is None or places is None or places.ndim != 1:
        return None
    if not np.array_equal(np.sort(places), np.arange(len(places))):
        return None
    first = places < len(places) - left[axis]
    shape = (*left[:axis], len(places), *left[axis + 1 :])
    return _Join(trained, np.flatnonzero(first), np.flatnonzero(~first), axis, shape)


def _shape(value: ir.Value) -> Optional[tuple[int, ...]]:
    """Returns the shape of a parameter, of a constant or of a join of both."""
    node = value.producer()
    if node is not None and node.op_type == "Gather":
        join = _join_of(node.inputs[0], node.inputs[1])
        return join.shape if join is not None else None
    dims = None if value.shape is None else tuple(dim for dim in value.shape if isinstance(dim, int))
    return dims if dims is not None and len(dims) == len(value.shape or ()) else None


def _piece_gradient(whole: ir.Value, trained: ir.Value, part: _Part, where: ir.Node, gathered: _Gathered) -> ir.Value:
    """Writes the gradient of a piece that trains.

    Args:
        whole: the gradient of the whole tensor.
        trained: the piece.
        part: where in the tensor it lies.
        where: a node behind ``whole``.
        gathered: see there.
    """
    node = whole.producer()
    assert node is not None
    if is_standard(node, "Sum"):
        terms = [_piece_gradient(term, trained, part, node, gathered) for term in node.inputs if term is not None]
        return Builder.before(node)("Sum", *terms)
    if node.op_type == "ConvGrad" and node.domain == "com.microsoft":
        thin = _conv_piece_gradient(node, whole.index(), trained, part, gathered)
        if thin is not None:
            return thin
    for axis, indices in part.items():
        whole = gather(Builder.before(where, word=str(whole.name)), whole, indices, axis)
    return whole


def _conv_piece_gradient(
    node: ir.Node, output: Optional[int], trained: ir.Value, part: _Part, gathered: _Gathered
) -> Optional[ir.Value]:
    """Writes dW or dB of some filters of a Conv, or of some kernels of them; None where they cost more than those of all."""
    weight = node.inputs[2]
    shape = None if weight is None else _shape(weight)
    if shape is None or not part.keys() <= {0, 1}:
        return None
    conv, rows, columns = ConvGradient.of(node, shape), part.get(0), part.get(1)
    if conv.group > 1 and (rows is None or columns is not None):
        return None
    dy, filters = conv.dy, conv.filters
    if rows is not None:
        dy, filters = _channels(node, 0, rows, gathered), len(rows)
    if output == 2:
        return bias_gradient(conv, dy)
    if conv.group > 1:
        return grouped_filter_gradient(conv, trained, part[0], dy)
    if columns is None:
        return filter_gradient(conv, trained, (filters, conv.maps), dy, conv.x)
    return filter_gradient(conv, trained, (filters, len(columns)), dy, _channels(node, 1, columns, gathered))


def _channels(node: ir.Node, place: int, indices: NDArray[np.int64], gathered: _Gathered) -> ir.Value:
    """Gathers channels of dY (``place`` 0) or X (1) in front of a ConvGrad, once."""
    value, key = node.inputs[place], (node, place, indices.tobytes())
    assert value is not None
    if key not in gathered:
        gathered[key] = gather(Builder.before(node, word=str(value.name)), value, indices, 1)
    return gathered[key]


def _replace_conv_grad(node: ir.Node) -> None:
    """Replaces the outputs of a ConvGrad that other nodes compute faster, and strikes those that nobody reads."""
    shape = _shape(node.inputs[2]) if node.inputs[2] is not None else None
    if shape is not None:
        conv = ConvGradient.of(node, shape)
        faster = [input_gradient(conv) if node.outputs[0].uses() else None]
        for place, gradient in ((1, _whole_filter_gradient), (2, _whole_bias_gradient)):
            wanted = place < len(node.outputs) and node.outputs[place].uses()
            faster.append(gradient(conv) if wanted else None)
        for old, new in zip(node.outputs, faster):
            if new is not None:
                old.replace_all_uses_with(new)
    for value in node.outputs:
        if not value.uses():
            value.name = ""


def _whole_filter_gradient(conv: ConvGradient) -> Optional[ir.Value]:
    return filter_gradient(conv, conv.weight, (conv.filters, conv.maps), conv.dy, conv.x) if conv.group == 1 else None


def _whole_bias_gradient(conv: ConvGradient) -> ir.Value:
    return bias_gradient(conv, conv.dy)


def _replace_pool_grad(node: ir.Node) -> None:
    """Replaces the gradient of what `tgdonnx.lowering.pooling` makes of a MaxPool: a Gather from a row of numbers."""
    shape, indices, dy = node.inputs
    assert isinstance(node.graph, ir.Graph)
    assert shape is not None
    assert indices is not None
    assert dy is not None
    pool, opset = indices.producer(), node.graph.opset_imports[""]
    # ScatterElements came with operator set 11, and adds since 16; where no two windows meet there is nothing to add.
    if pool is None or pool.op_type != "MaxPool" or opset < (16 if _windows_meet(pool) else 11):
        return
    build = Builder.before(node)
    zeros, places, flat = build("ConstantOfShape", shape), build.reshape(indices, [-1]), build.reshape(dy, [-1])
    attributes: dict[str, AttributeValue] = {"axis": 0, **({"reduction": "add"} if opset >= 16 else {})}
    replace(node, build("ScatterElements", zeros, places, flat, **attributes))


def _windows_meet(pool: ir.Node) -> bool:
    kernel = pool.attributes["kernel_shape"].as_ints()
    ones = [1] * len(kernel)
    strides, dilations = (pool.attributes.get_ints(name) or ones for name in ("strides", "dilations"))
    return any((k - 1) * d >= s for k, d, s in zip(kernel, dilations, strides))


def _replace_relu_grad(node: ir.Node) -> None:
    dy, y = node.inputs[:2]
    assert isinstance(node.graph, ir.Graph)
    assert dy is not None
    assert y is not None
    build = Builder.before(node)
    slope = build.cast(build("Greater", y, build.scalar(0)), ir.DataType.FLOAT)
    if node.op_type == "LeakyReluGrad":
        alpha = float(node.attributes.get_float("alpha", 0.01) or 0)
        if not 0 < alpha < 1:  # else Y does not tell the sign of X, or the larger slope is the wrong one
            return
        slope = build("Max", slope, build.scalar(alpha))
    replace(node, build("Mul", dy, slope))
