"""Steps of random networks beyond plain conv chains: transposed convolutions, matrix products, axes that move, norms, gates."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from tests.tracing.graphs import STEPS, Graph, Value


def _image(value: Value) -> bool:
    return len(value.shape) == 4 and not value.mixed


def _plain(value: Value) -> bool:
    return not value.mixed


def _divisor(g: Graph, number: int) -> int:
    return g.draw(st.sampled_from([d for d in range(number, 0, -1) if number % d == 0]))


def _add_uneven(g: Graph, name: str, like: Value) -> None:
    """Adds what was normalised, times a number for each element: else its mean would be constant, whatever it is made of."""
    g.add(g.node("Mul", [name, g.factors(1, *like.shape[1:])]), like.shape, mixed=like.mixed)


def _conv_transpose(g: Graph) -> None:
    x = g.pick()
    channels, space = x.shape[1], x.shape[2:]
    group = _divisor(g, channels)
    filters = g.draw(st.integers(1, 3))
    kernel = [g.draw(st.integers(1, 2)) for _ in space]
    strides = [g.draw(st.integers(1, 2)) if max(space) < 8 else 1 for _ in space]
    out = [(s - 1) * t + k for s, t, k in zip(space, strides, kernel)]
    inputs = [
        x.name,
        g.normal(channels, filters, *kernel),
        *([g.normal(group * filters)] if g.draw(st.booleans()) else []),
    ]
    g.put("ConvTranspose", inputs, (x.shape[0], group * filters, *out), False, group=group, strides=strides)


def _matrix_product(g: Graph) -> None:
    """Gemm or MatMul after pooling or Flatten; its filters become maps of one pixel."""
    x = g.pick()
    batch, channels, *space = x.shape
    length = int(np.prod(space))
    if g.draw(st.booleans()) or length * channels > 60:
        pooled = g.node("GlobalAveragePool", [x.name])
        flat, columns = g.node("Flatten", [pooled]), channels
    else:
        flat, columns = g.call("Reshape", [x.name], shape=[batch, -1]), channels * length
    filters = g.draw(st.integers(1, 4))
    kind = g.draw(st.sampled_from(["MatMul", "Gemm", "transB"]))
    if kind == "MatMul":
        y = g.node("MatMul", [flat, g.normal(columns, filters)])
    elif kind == "Gemm":
        y = g.node("Gemm", [flat, g.normal(columns, filters), g.normal(filters)])
    else:
        y = g.node("Gemm", [flat, g.normal(filters, columns), g.normal(filters)], transB=1, alpha=0.5)
    shape = (batch, filters, *(1 for _ in space))
    g.add(g.call("Reshape", [y], shape=list(shape)), shape, squashed=False)


def _channels_last(g: Graph) -> None:
    """Transpose to NHWC, something that counts channels there, and back."""
    x = g.pick()
    rank, channels = len(x.shape), x.shape[1]
    y = g.node("Transpose", [x.name], perm=[0, *range(2, rank), 1])
    kind = g.draw(st.sampled_from(["Mul", "Softmax", "ReduceMean", "L2"]))
    if kind == "Mul" or channels == 1:
        y = g.node("Mul", [y, g.factors(channels)])
    elif kind == "Softmax":
        y = g.node("Softmax", [g.node("Softsign", [y])], axis=rank - 1)
    elif kind == "L2":
        y = g.node("LpNormalization", [y], axis=-1)
    else:
        y = g.node("Add", [y, g.call("ReduceMean", [y], axes=[rank - 1], keepdims=1)])
    y = g.node("Transpose", [y], perm=[0, rank - 1, *range(1, rank - 1)])
    _add_uneven(g, y, x)


def _shuffle(g: Graph) -> None:
    x = g.pick(_plain)
    batch, channels, *space = x.shape
    groups = _divisor(g, channels)
    y = g.call("Reshape", [x.name], shape=[batch, groups, channels // groups, *space])
    y = g.node("Transpose", [y], perm=[0, 2, 1, *range(3, len(space) + 3)])
    g.add(g.call("Reshape", [y], shape=[batch, channels, *space]), x.shape, squashed=x.squashed)


def _split(g: Graph) -> None:
    x = g.pick(_plain)
    channels = x.shape[1]
    if channels < 2:
        return
    first = g.draw(st.integers(1, channels - 1))
    lengths = [first, channels - first]
    axis = g.draw(st.sampled_from([1, 1 - len(x.shape)])) if g.opset >= 11 else 1
    if g.opset < 13:
        outputs = g.several("Split", [x.name], 2, axis=axis, split=lengths)
    else:
        outputs = g.several("Split", [x.name, g.constant(np.array(lengths))], 2, axis=axis)
    for name, length in zip(outputs, lengths):
        g.add(name, (x.shape[0], length, *x.shape[2:]), squashed=x.squashed)


def _slice(g: Graph) -> None:
    x = g.pick(_plain)
    channels = x.shape[1]
    start = g.draw(st.integers(0, channels - 1))
    stop = g.draw(st.integers(start + 1, channels))
    step = g.draw(st.sampled_from([1, 1, 2, -1]))
    if g.opset < 10:
        y, count = g.node("Slice", [x.name], axes=[1], starts=[start], ends=[stop]), stop - start
    else:
        bounds = (start, stop) if step > 0 else (stop - 1, start - 1 if start else -(2**31))
        inputs = [g.constant(np.array([number])) for number in (*bounds, 1, step)]
        y, count = g.node("Slice", [x.name, *inputs]), len(range(start, stop, abs(step)))
    g.add(y, (x.shape[0], count, *x.shape[2:]), squashed=x.squashed)


def _gather(g: Graph) -> None:
    x = g.pick(_plain)
    lowest = -x.shape[1] if g.opset >= 11 else 0
    indices = g.draw(st.lists(st.integers(lowest, x.shape[1] - 1), min_size=1, max_size=5))
    y = g.node("Gather", [x.name, g.constant(np.array(indices))], axis=1)
    g.add(y, (x.shape[0], len(indices), *x.shape[2:]), squashed=x.squashed)


def _depth_space(g: Graph) -> None:
    if not any(_image(value) for value in g.values):
        return
    x = g.pick(_image)
    n, c, h, w = x.shape
    if c % 4 == 0 and h < 10 and g.draw(st.booleans()):
        mode = {"mode": g.draw(st.sampled_from(["DCR", "CRD"]))} if g.opset >= 11 else {}
        y = g.node("DepthToSpace", [x.name], blocksize=2, **mode)
        g.add(y, (n, c // 4, 2 * h, 2 * w), squashed=x.squashed, mixed=True)
    elif h % 2 == 0 and w % 2 == 0 and c < 4:
        g.add(g.node("SpaceToDepth", [x.name], blocksize=2), (n, 4 * c, h // 2, w // 2), squashed=x.squashed)


def _softmax(g: Graph) -> None:
    x = g.pick()
    axis = g.draw(st.integers(1, len(x.shape) - 1)) if g.opset >= 13 else 1
    if x.shape[axis] == 1:
        return  # it would be 1 everywhere
    y = g.node("Softmax", [g.node("Softsign", [x.name])], axis=axis)  # large differences would hide all but the largest
    _add_uneven(g, y, x)


def _reduce(g: Graph) -> None:
    x = g.pick()
    rank = len(x.shape)
    axes = sorted(g.draw(st.sets(st.integers(1, rank - 1), min_size=1, max_size=2)))
    op_type = g.draw(st.sampled_from(["ReduceMean", "ReduceMax"]))
    if op_type == "ReduceMax" and x.squashed:
        return
    y = g.call(op_type, [x.name], axes=axes, keepdims=1)
    g.add(y, tuple(1 if axis in axes else n for axis, n in enumerate(x.shape)), mixed=x.mixed)


def _squeeze_excite(g: Graph) -> None:
    x = g.pick()
    channels, ones = x.shape[1], (1,) * (len(x.shape) - 2)
    hidden = g.draw(st.integers(1, 3))
    y = g.node("GlobalAveragePool", [x.name])
    y = g.node("LeakyRelu", [g.node("Conv", [y, g.normal(hidden, channels, *ones)])], alpha=0.3)
    y = g.node("Sigmoid", [g.node("Conv", [y, g.normal(channels, hidden, *ones)])])
    g.put("Mul", [x.name, y], x.shape, True)


def _resize(g: Graph) -> None:
    x = g.pick(_plain)
    if max(x.shape[2:]) > 6:
        return
    scales = np.array([1, 1, *(2 for _ in x.shape[2:])], np.float32)
    if g.opset < 10:
        y = g.node("Upsample", [x.name, g.constant(scales)], mode="nearest")
    else:
        y = g.node("Resize", [x.name, "", g.constant(scales)], mode="nearest")
    g.add(y, (*x.shape[:2], *(2 * s for s in x.shape[2:])), squashed=x.squashed)


def _norm(g: Graph) -> None:
    x = g.pick(_plain)
    channels = x.shape[1]
    if np.prod(x.shape[2:]) < 2:
        return
    # What is the same everywhere (one pixel, enlarged) would vanish when the mean is taken away: make it uneven first.
    uneven = g.node("Mul", [x.name, g.factors(1, *x.shape[1:])])
    kind = g.draw(st.sampled_from(["InstanceNormalization", "group", "arithmetic"]))
    if kind == "InstanceNormalization":
        y = g.node(kind, [uneven, g.factors(channels), g.near(0, channels)])
    elif kind == "group":  # as torch exports it
        groups = _divisor(g, channels)
        y = g.call("Reshape", [uneven], shape=[0, groups, -1])
        y = g.node("InstanceNormalization", [y, g.constant(np.ones(groups, np.float32)), g.near(0, groups)])
        y = g.call("Reshape", [y], shape=list(x.shape))
        ones = (1,) * (len(x.shape) - 2)
        y = g.node("Add", [g.node("Mul", [y, g.factors(channels, *ones)]), g.near(0, channels, *ones)])
    else:
        axes = list(range(2, len(x.shape)))
        centred = g.node("Sub", [uneven, g.call("ReduceMean", [uneven], axes=axes, keepdims=1)])
        square = g.call("ReduceMean", [g.node("Mul", [centred, centred])], axes=axes, keepdims=1)
        root = g.node("Sqrt", [g.node("Add", [square, g.constant(np.float32(0.1))])])
        y = g.node("Div", [centred, root])
    _add_uneven(g, y, x)


def _shared_weight(g: Graph) -> None:
    a = g.pick()
    b = g.pick(lambda value: value.shape == a.shape)
    filters = g.draw(st.integers(1, 3))
    weight = g.normal(filters, a.shape[1], *(1 for _ in a.shape[2:]))
    for value in (a, b):
        g.put("Conv", [value.name, weight], (a.shape[0], filters, *a.shape[2:]), False)


def _if(g: Graph) -> None:
    """Either branch captures an activation; one of them has a layer."""
    a = g.pick()
    b = g.pick(lambda value: value.shape == a.shape)
    count = len(g.nodes)
    weight = g.normal(a.shape[1], a.shape[1], *(1 for _ in a.shape[2:]))
    inner = helper.make_node("Conv", [a.name, weight], [f"inner{count}"])
    then = [inner, helper.make_node("LeakyRelu", [f"inner{count}"], [f"then{count}"], alpha=0.3)]
    orelse = [helper.make_node("LeakyRelu", [b.name], [f"else{count}"], alpha=0.3)]
    branches = {
        f"{name}_branch": helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, a.shape)]
        )
        for name, nodes in (("then", then), ("else", orelse))
    }
    # A condition of its own: two branches of one condition that exclude each other are more than the tracer can see.
    g.conditions.append(f"condition{count}")
    g.add(g.node("If", [g.conditions[-1]], **branches), a.shape, squashed=b.squashed, mixed=b.mixed)


WIDE_STEPS = (
    *STEPS,
    *(_conv_transpose, _matrix_product, _channels_last, _shuffle, _split, _slice, _gather, _depth_space, _softmax),
    *(_reduce, _squeeze_excite, _resize, _norm, _norm, _shared_weight, _if),
)
