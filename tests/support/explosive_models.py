"""Small files that ask for enormous work: each is legal ONNX, or nearly, and a few kilobytes long."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
DOMAIN = "vendor"
HUGE = 2**40


def conv_model(
    nodes: list[onnx.NodeProto],
    tensors: dict[str, np.ndarray],
    *,
    shape: list[object] | None = None,
    out: str = "y",
    functions: list[onnx.FunctionProto] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A Conv of ``x`` to ``h`` with 3 filters of 2 maps, then ``nodes``, which make ``out``."""
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((3, 2, 3, 3)).astype(np.float32), **tensors}
    conv = helper.make_node("Conv", ["x", "w"], ["h"], "conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [conv, *nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape or ["N", 2, 6, 5])],
        [helper.make_tensor_value_info(out, FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(DOMAIN, 1)] if functions else [])
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=8)


def _int64(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _function(name: str, nodes: list[onnx.NodeProto], out: str) -> onnx.FunctionProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_function(DOMAIN, name, ["a"], [out], nodes, imports)


def calls_twice(levels: int) -> onnx.ModelProto:
    """Functions of which each calls the next twice: 2^levels nodes once inlined."""
    functions = [_function("f0", [helper.make_node("Relu", ["a"], ["b"])], "b")]
    for level in range(1, levels + 1):
        nodes = [
            helper.make_node(f"f{level - 1}", ["a"], ["b"], domain=DOMAIN),
            helper.make_node(f"f{level - 1}", ["b"], ["c"], domain=DOMAIN),
        ]
        functions.append(_function(f"f{level}", nodes, "c"))
    return conv_model([helper.make_node(f"f{levels}", ["h"], ["y"], "call", domain=DOMAIN)], {}, functions=functions)


def calls_itself() -> onnx.ModelProto:
    """A function that calls another, which calls the first."""
    ping = _function("ping", [helper.make_node("pong", ["a"], ["b"], domain=DOMAIN)], "b")
    pong = _function("pong", [helper.make_node("ping", ["a"], ["b"], domain=DOMAIN)], "b")
    return conv_model([helper.make_node("ping", ["h"], ["y"], "call", domain=DOMAIN)], {}, functions=[ping, pong])


def calls_in_a_row(length: int) -> onnx.ModelProto:
    """Functions of which each calls the next once: a deep recursion, but no explosion."""
    functions = [_function("f0", [helper.make_node("Relu", ["a"], ["b"])], "b")]
    for level in range(1, length):
        functions.append(_function(f"f{level}", [helper.make_node(f"f{level - 1}", ["a"], ["b"], domain=DOMAIN)], "b"))
    call = helper.make_node(f"f{length - 1}", ["h"], ["y"], "call", domain=DOMAIN)
    return conv_model([call], {}, functions=functions)


def _branch(nodes: list[onnx.NodeProto], out: str) -> onnx.GraphProto:
    return helper.make_graph(nodes, f"to_{out}", [], [helper.make_tensor_value_info(out, FLOAT, None)])


def nested_if(levels: int) -> onnx.ModelProto:
    """If in both branches of If, ``levels`` deep."""

    def level(depth: int, path: str) -> onnx.NodeProto:
        out = f"y{path}"
        if depth == 0:
            return helper.make_node("Relu", ["h"], [out])
        then, other = level(depth - 1, path + "t"), level(depth - 1, path + "e")
        branches = {
            "then_branch": _branch([then], then.output[0]),
            "else_branch": _branch([other], other.output[0]),
        }
        return helper.make_node("If", ["cond"], [out], f"if{path}", **branches)

    return conv_model([level(levels, "")], {"cond": np.array(True)}, out="y")


def deep_if(levels: int) -> onnx.ModelProto:
    """If in one branch of If, ``levels`` deep."""
    inner = helper.make_node("Relu", ["h"], ["y0"])
    for depth in range(1, levels + 1):
        out = "y" if depth == levels else f"y{depth}"
        plain = helper.make_node("Relu", ["h"], [f"p{depth}"])
        branches = {
            "then_branch": _branch([inner], inner.output[0]),
            "else_branch": _branch([plain], f"p{depth}"),
        }
        inner = helper.make_node("If", ["cond"], [out], f"if{depth}", **branches)
    return conv_model([inner], {"cond": np.array(True)})


def deep_if_bytes(levels: int) -> bytes:
    """The same, deeper than protobuf's own writer goes: written by hand, from the inside out."""

    def field(number: int, content: bytes) -> bytes:
        key, length, out = number << 3 | 2, len(content), bytearray()
        for value in (key, length):
            while value > 0x7F:
                out.append(value & 0x7F | 0x80)
                value >>= 7
            out.append(value)
        return bytes(out) + content

    inner = helper.make_node("Relu", ["h"], ["y"]).SerializeToString()
    for _ in range(levels):
        output = helper.make_tensor_value_info("y", FLOAT, None).SerializeToString()
        graph = field(1, inner) + field(2, b"g") + field(12, output)
        # AttributeProto: name, g, type = GRAPH (5)
        attributes = b"".join(
            field(5, field(1, name) + field(6, graph) + b"\xa0\x01\x05") for name in (b"then_branch",)
        )
        inner = field(1, b"cond") + field(2, b"y") + field(4, b"If") + attributes
    model = conv_model([], {"cond": np.array(True)}, out="y")
    return model.SerializeToString() + field(7, field(1, inner))


def computed(op_type: str, inputs: dict[str, np.ndarray], opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """A tensor that constants alone make by ``op_type``, of which one element is added to the image."""
    nodes = [
        helper.make_node(op_type, list(inputs), ["big"], "explosion", **attributes),
        helper.make_node("ReduceMax", ["big"], ["peak"], "peak", keepdims=0),
        helper.make_node("Cast", ["peak"], ["number"], to=FLOAT),
        helper.make_node("Add", ["h", "number"], ["y"], "add"),
    ]
    return conv_model(nodes, dict(inputs), opset=opset)


def as_argument(op_type: str, inputs: dict[str, np.ndarray], **attributes: object) -> onnx.ModelProto:
    """The same tensor as the pads of a Pad, which lowering wants to know."""
    nodes = [
        helper.make_node(op_type, list(inputs), ["big"], "explosion", **attributes),
        helper.make_node("Cast", ["big"], ["whole"], to=INT64),
        helper.make_node("Slice", ["whole", "zero", "eight"], ["pads"]),
        helper.make_node("Pad", ["h", "pads"], ["y"], "pad", mode="reflect"),
    ]
    return conv_model(nodes, {**inputs, "zero": _int64(0), "eight": _int64(8)})


def grown(op_type: str, inputs: dict[str, np.ndarray], opset: int = 17, **attributes: object) -> onnx.ModelProto:
    """An activation that ``op_type`` makes enormous; a mean over it makes it small again. Of inputs ``_...`` none is given."""
    names = ["h", *("" if name.startswith("_") else name for name in inputs)]
    nodes = [
        helper.make_node(op_type, names, ["big"], "explosion", **attributes),
        helper.make_node("GlobalAveragePool", ["big"], ["y"], "mean"),
    ]
    return conv_model(nodes, {name: array for name, array in inputs.items() if not name.startswith("_")}, opset=opset)


def doubled(levels: int, axis: int = 1) -> onnx.ModelProto:
    """A Concat of a value with itself, again and again: 3 * 2^levels channels."""
    nodes, x = [], "h"
    for level in range(levels):
        nodes.append(helper.make_node("Concat", [x, x], [f"c{level}"], f"concat{level}", axis=axis))
        x = f"c{level}"
    nodes.append(helper.make_node("ReduceMean", [x], ["y"], "mean", axes=[axis]))
    return conv_model(nodes, {})


def fibonacci(levels: int) -> onnx.ModelProto:
    """Values of which each adds the two before it: few nodes, exponentially many ways."""
    nodes, a, b = [], "h", "h"
    for level in range(levels):
        out = "y" if level == levels - 1 else f"s{level}"
        nodes.append(helper.make_node("Add", [a, b], [out], f"add{level}"))
        a, b = b, out
    return conv_model(nodes, {})


def wide_input() -> onnx.ModelProto:
    """An input of 2^40 channels."""
    return conv_model([helper.make_node("Relu", ["h"], ["y"])], {}, shape=["N", HUGE, 6, 5])


def wide_group() -> onnx.ModelProto:
    """A depthwise Conv of 2^40 groups."""
    model = conv_model([helper.make_node("Relu", ["h"], ["y"])], {})
    model.graph.node[0].attribute.append(helper.make_attribute("group", HUGE))
    return model


def wide_norm() -> onnx.ModelProto:
    """A group norm of 2^40 groups after a tile to 2^40 channels."""
    nodes = [
        helper.make_node("Tile", ["h", "repeats"], ["t"], "tile"),
        helper.make_node("Relu", ["t"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], "conv2"),
    ]
    return conv_model(nodes, {"repeats": _int64(1, HUGE, 1, 1), "w2": np.ones((2, 3, 1, 1), np.float32)})


def wide_split() -> onnx.ModelProto:
    """A Split into parts of 2^40 channels."""
    nodes = [
        helper.make_node("Split", ["h", "parts"], ["a", "b"], "split", axis=1),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    return conv_model(nodes, {"parts": _int64(HUGE, 3)})


def lrn() -> onnx.ModelProto:
    """A local response normalisation over 2^40 channels."""
    return conv_model([helper.make_node("LRN", ["h"], ["y"], "lrn", size=HUGE)], {})


def loop_forever(levels: int = 1) -> onnx.ModelProto:
    """A Loop of 2^60 rounds."""

    def body(level: int) -> onnx.GraphProto:
        inner = helper.make_node("Relu", [f"v{level}"], [f"o{level}"])
        if level > 1:
            inner = helper.make_node(
                "Loop", ["trips", "", f"v{level}"], [f"o{level}"], f"loop{level - 1}", body=body(level - 1)
            )
        return helper.make_graph(
            [helper.make_node("Identity", [f"c{level}"], [f"d{level}"]), inner],
            "body",
            [
                helper.make_tensor_value_info(f"i{level}", INT64, []),
                helper.make_tensor_value_info(f"c{level}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"v{level}", FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(f"d{level}", TensorProto.BOOL, []),
                helper.make_tensor_value_info(f"o{level}", FLOAT, None),
            ],
        )

    node = helper.make_node("Loop", ["trips", "", "h"], ["y"], "loop", body=body(levels))
    return conv_model([node], {"trips": np.array(2**60)})


def many_initializers(count: int) -> onnx.ModelProto:
    model = conv_model([helper.make_node("Relu", ["h"], ["y"])], {})
    for index in range(count):
        model.graph.initializer.add(name=f"i{index}", data_type=FLOAT, dims=[1], raw_data=b"\0\0\0\0")
    return model


def many_value_infos(count: int) -> onnx.ModelProto:
    model = conv_model([helper.make_node("Relu", ["h"], ["y"])], {})
    for index in range(count):
        model.graph.value_info.add(name=f"v{index}")
    return model


def long_names(length: int = 100_000) -> onnx.ModelProto:
    """Names of ``length`` characters for everything."""
    long = "n" * length
    model = conv_model([helper.make_node("Relu", ["h"], [f"{long}y"], f"{long}relu")], {}, out=f"{long}y")
    model.graph.node[0].name = f"{long}conv"
    model.graph.node[0].input[1] = f"{long}w"
    model.graph.initializer[0].name = f"{long}w"
    return model


_NOTHING = np.zeros(0, np.float32)
_SCALES = np.array([1, 1, 2**20, 2**20], np.float32)

EXPLOSIVE: dict[str, Callable[[], onnx.ModelProto]] = {
    "calls-twice-12": lambda: calls_twice(12),
    "calls-twice-40": lambda: calls_twice(40),
    "calls-itself": calls_itself,
    "calls-in-a-row": lambda: calls_in_a_row(3000),
    "nested-if-12": lambda: nested_if(12),
    "deep-if-30": lambda: deep_if(28),
    "range": lambda: computed("Range", {"a": np.array(0), "b": np.array(HUGE), "c": np.array(1)}),
    "constant-of-shape": lambda: computed("ConstantOfShape", {"a": _int64(HUGE)}),
    "constant-of-shape-square": lambda: computed("ConstantOfShape", {"a": _int64(2**20, 2**20)}),
    "expand": lambda: computed("Expand", {"a": np.zeros(1, np.float32), "b": _int64(HUGE)}),
    "tile": lambda: computed("Tile", {"a": np.zeros(4, np.float32), "b": _int64(HUGE)}),
    "pad": lambda: computed("Pad", {"a": np.zeros(4, np.float32), "b": _int64(0, HUGE)}),
    "one-hot": lambda: computed("OneHot", {"a": _int64(1), "b": np.array(HUGE), "c": np.zeros(2, np.float32)}),
    "eye-like": lambda: computed("EyeLike", {"a": np.zeros((4, 4), np.float32)}),
    "resize": lambda: computed(
        "Resize",
        {
            "a": np.zeros((1, 1, 4, 4), np.float32),
            "r": np.zeros(0, np.float32),
            "s": _SCALES,
        },
    ),
    "random": lambda: computed("RandomNormal", {}, shape=[HUGE]),
    "random-like-tile": lambda: computed("Bernoulli", {"a": np.zeros(4, np.float32)}),
    "range-as-pads": lambda: as_argument("Range", {"a": np.array(0), "b": np.array(HUGE), "c": np.array(1)}),
    "constant-of-shape-as-pads": lambda: as_argument("ConstantOfShape", {"a": _int64(HUGE)}),
    "expand-as-pads": lambda: as_argument("Expand", {"a": np.zeros(1, np.float32), "b": _int64(HUGE)}),
    "tile-as-pads": lambda: as_argument("Tile", {"a": np.zeros(4, np.float32), "b": _int64(HUGE)}),
    "pad-as-pads": lambda: as_argument("Pad", {"a": np.zeros(4, np.float32), "b": _int64(0, HUGE)}),
    "one-hot-as-pads": lambda: as_argument(
        "OneHot", {"a": _int64(1), "b": np.array(HUGE), "c": np.zeros(2, np.float32)}
    ),
    "grown-pad": lambda: grown("Pad", {"a": _int64(0, 0, 0, 0, 0, 0, HUGE, 0)}),
    "grown-pad-reflect": lambda: grown("Pad", {"a": _int64(0, 0, 0, 0, 0, 0, HUGE, 0)}, mode="reflect"),
    "grown-pad-channels": lambda: grown("Pad", {"a": _int64(0, 0, 0, 0, 0, HUGE, 0, 0)}),
    "grown-tile": lambda: grown("Tile", {"a": _int64(1, 1, HUGE, 1)}),
    "grown-tile-channels": lambda: grown("Tile", {"a": _int64(1, HUGE, 1, 1)}),
    "grown-expand-batch": lambda: grown("Expand", {"a": _int64(HUGE, 3, 6, 5)}),
    "grown-resize": lambda: grown("Resize", {"_r": _NOTHING, "s": _SCALES}),
    "grown-resize-sizes": lambda: grown("Resize", {"_r": _NOTHING, "_s": _NOTHING, "z": _int64(1, 3, HUGE, 5)}),
    "grown-resize-channels": lambda: grown("Resize", {"_r": _NOTHING, "s": np.array([1, 2**30, 1, 1], np.float32)}),
    "grown-resize-cubic": lambda: grown("Resize", {"_r": _NOTHING, "s": _SCALES}, mode="cubic"),
    "doubled-channels": lambda: doubled(40),
    "doubled-rows": lambda: doubled(40, axis=2),
    "fibonacci": lambda: fibonacci(80),
    "wide-input": wide_input,
    "wide-group": wide_group,
    "wide-norm": wide_norm,
    "wide-split": wide_split,
    "lrn": lrn,
    "loop": loop_forever,
    "nested-loop": lambda: loop_forever(6),
    "initializers-200000": lambda: many_initializers(200_000),
    "value-infos-1000000": lambda: many_value_infos(1_000_000),
    "long-names": long_names,
}
