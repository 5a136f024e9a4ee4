"""Single nodes whose effect on channels is easily got wrong, each against the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support.models import Array, conv_weight, parse, save
from tests.tracing.oracle import assert_traced_exactly, claimed
from tgdonnx.tracing import trace

RNG = np.random.default_rng(1)


def factors(*shape: int) -> Array:
    return (RNG.uniform(0.5, 1.5, shape) * RNG.choice([-1, 1], shape)).astype(np.float32)


def network(lines: str, channels: int, *, inputs: str = "float[2, 3, 5, 5] x", opset: int = 17) -> onnx.ModelProto:
    """a: 4 filters, b: 4 other filters, one: 1 filter, all [2, ., 5, 5]; then ``t`` of so many channels is read."""
    return parse(
        f"""<ir_version: 8, opset_import: ["": {opset}]>
        g ({inputs}) => (float[n, 2, h, w] y)
        <int64[8] after = {{0, 0, 0, 0, 0, 2, 0, 0}}, int64[8] around = {{0, 1, 1, 1, 0, 2, 0, 0}},
         int64[8] crop = {{0, 0, -1, -2, 0, 0, 0, 0}}, float half = {{0.5}},
         int64[8] channels = {{0, 1, 0, 0, 0, 1, 0, 0}}, int64[8] crop_channels = {{0, -1, 0, 0, 0, 0, 0, 0}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [b] b = Conv(x, wb)
            [one] one = Conv<pads = [1, 1, 1, 1]>(x, w1)
            {lines}
            [reader] y = Conv(t, w)
        }}""",
        {
            "wa": conv_weight(RNG, 4, 3, 3, 3),
            "wb": conv_weight(RNG, 4, 3, 1, 1),
            "w1": conv_weight(RNG, 1, 3, 3, 3),
            "w": conv_weight(RNG, 2, channels, 1, 1),
            "per_channel": factors(4, 1, 1),
            "k3": factors(2, 3, 5, 5),
            "matrix": factors(5, 5),
        },
    )


@pytest.mark.parametrize(
    ("lines", "channels"),
    [
        ("t = Concat<axis = 2>(a, b)", 4),
        ("t = Concat<axis = 0>(a, b)", 4),
        ("s = Concat<axis = 2>(a, b)\nt = MaxPool<kernel_shape = [2, 2]>(s)", 4),
        ("s = Concat<axis = -1>(a, b)\nt = AveragePool<kernel_shape = [1, 1]>(s)", 4),
        ("s = Concat<axis = 2>(a, b)\nt = Concat<axis = 1>(s, s)", 8),
        (
            "s = Concat<axis = 2>(a, b)\np = MaxPool<kernel_shape = [6, 1]>(s)\n"
            "r = AveragePool<kernel_shape = [5, 1]>(a)\nq = Concat<axis = 2>(r, r, r, r, b)\n"
            "u = MaxPool<kernel_shape = [5, 1]>(q)\nt = Add(p, u)",
            4,
        ),
        ("t = Concat<axis = 1>(one, a, one, x)", 9),
        ("t = Concat<axis = 1>(one, one, one)", 3),
        ("t = Concat<axis = 1>(a)", 4),
        ("t = Concat<axis = 1>(b, k3, a)", 11),
        ("k = Constant<value = float[2, 1, 5, 5] {" + ", ".join(["1.5"] * 50) + "}>()\nt = Concat<axis = 1>(k, a)", 5),
        ("i = Identity(k3)\nt = Concat<axis = -3>(a, i)", 7),
    ],
)
def test_concat_puts_the_channels_one_after_the_other(lines: str, channels: int, tmp_path: Path) -> None:
    model = network(lines, channels)
    assert_traced_exactly(model, save(model, tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("lines", "channels"),
    [
        ("t = Add(a, one)", 4),
        ("t = Mul(one, b)", 4),
        ("t = Add(one, x)", 3),
        ("s = Add(one, x)\nt = Concat<axis = 1>(s, a)", 7),
        ("s = Add(a, b)\nt = Sub(half, s)", 4),
        ("t = Mul(per_channel, a)", 4),
        ("g = AveragePool<kernel_shape = [5, 5]>(b)\nt = Mul(a, g)", 4),
        (
            "g = AveragePool<kernel_shape = [5, 5]>(one)\nall = Constant<value_ints = [-1]>()\nf = Reshape(g, all)\n"
            "first = Constant<value_int = 0>()\nnumber = Gather(f, first)\nt = Mul(a, number)",
            4,
        ),
        ("t = Add(a, a)", 4),
    ],
)
def test_broadcasting_unites_what_meets(lines: str, channels: int, tmp_path: Path) -> None:
    model = network(lines, channels)
    assert_traced_exactly(model, save(model, tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("lines", "channels"),
    [
        ("t = Pad(a, after, half)", 6),
        ("t = Pad(a, around)", 7),
        ("t = Pad(a, crop)", 4),
        ('t = Pad<mode = "edge">(a, crop)', 4),
        ("t = Pad(one, around, half)", 4),
        ("s = Add(one, x)\nt = Pad(s, after)", 5),
        ('s = Add(one, b)\nt = Pad<mode = "reflect">(s, crop)', 4),
    ],
)
def test_padding_adds_channels_that_nothing_made(lines: str, channels: int, tmp_path: Path) -> None:
    model = network(lines, channels)
    assert_traced_exactly(model, save(model, tmp_path / "model.onnx"))


@pytest.mark.parametrize(
    ("lines", "channels"),
    [
        ("t = Clip(b, low)\nlow = ReduceMin<keepdims = 0>(a)", 4),
        ("t = Pad<mode = 'reflect'>(b, channels)", 6),
        ("t = Pad<mode = 'edge'>(b, channels)", 6),
        ("t = Pad(b, crop_channels)", 3),
        ("t = Softmax<axis = 1>(a)", 4),
        ("t = Softmax<axis = 2>(a)", 4),
        ("t = MatMul(a, matrix)", 4),
        ("t = Transpose<perm = [0, 1, 3, 2]>(a)", 4),
        ("t = Transpose<perm = [0, 3, 2, 1]>(a)", 5),
        ("t = GlobalAveragePool(a)", 4),
        ("t, kept = Dropout(a)\nu = Not(kept)", 4),
    ],
)
def test_what_was_opaque_once_is_exact(lines: str, channels: int, tmp_path: Path) -> None:
    model = network("\n".join(reversed(lines.replace("'", '"').split("\n"))) if "low" in lines else lines.replace("'", '"'),
                    channels)  # fmt: skip
    assert_traced_exactly(model, save(model, tmp_path / "model.onnx"))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_normalisation_looks_at_its_window(size: int, tmp_path: Path) -> None:
    # ONNX Runtime sums over channels as it goes, so rounding reaches further than the window. Written down from the
    # specification: max(0, c - floor((size - 1) / 2)) <= i <= min(C - 1, c + ceil((size - 1) / 2)).
    model = network(f"six = Concat<axis = 1>(a, one, one)\nt = LRN<size = {size}>(six)", 6)
    made = [("a", 0), ("a", 1), ("a", 2), ("a", 3), ("one", 0), ("one", 0)]
    windows = [range(max(0, c - (size - 1) // 2), min(5, c + size // 2) + 1) for c in range(6)]
    expected = [{made[i] for i in window} for window in windows]
    assert claimed(trace(save(model, tmp_path / "model.onnx")))["reader"] == expected


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_cropping_or_copying_where_maps_differ_along_space_is_exact_or_refused(mode: str, tmp_path: Path) -> None:
    model = network(f's = Concat<axis = 2>(a, b)\nt = Pad<mode = "{mode}">(s, crop)', 4)
    path = save(model, tmp_path / "model.onnx")
    reasons = {entry.reason for entry in trace(path).layers[-1].maps}
    if reasons == {None}:
        assert_traced_exactly(model, path)
    else:
        assert all(str(reason).startswith("node 't' (Pad) cannot be traced") for reason in reasons)


def test_a_constant_of_higher_rank_moves_the_channel_axis(tmp_path: Path) -> None:
    # a is [1, 6, 5, 5] and t is [1, 6, 6, 5, 5]: the filters of a lie along axis 2, and axis 1 is the constant's.
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 3, 5, 5] x) => (float[n, 2, d, h, w] y) {
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            t = Add(a, k)
            [reader] y = Conv(t, w)
        }""",
        {"wa": conv_weight(RNG, 6, 3, 3, 3), "k": factors(1, 6, 1, 1, 1), "w": conv_weight(RNG, 2, 6, 6, 1, 1)},
    )
    path = save(model, tmp_path / "model.onnx")
    every = {("a", m) for m in range(6)}
    assert claimed(trace(path))["reader"] == [every] * 6
    assert_traced_exactly(model, path)


def test_shapes_that_the_file_declares_inside_the_graph_are_not_believed(tmp_path: Path) -> None:
    model = network("s = Identity(x)\nt = Concat<axis = 1>(s, a)", 7)
    for name, channels in (("s", 5), ("a", 9), ("t", 14)):
        model.graph.value_info.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, channels, 5, 5]))
    path = save(model, tmp_path / "model.onnx")
    del model.graph.value_info[:]  # the oracle's runtime would refuse it
    assert_traced_exactly(model, path)


def test_nodes_may_come_in_any_order(tmp_path: Path) -> None:
    model = network("t = Add(a, b)", 4)
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(model.graph.node))
    assert_traced_exactly(model, save(shuffled, tmp_path / "model.onnx"))


def test_a_layer_that_reads_another_number_of_channels_than_there_are_is_not_traced(tmp_path: Path) -> None:
    model = network("t = Identity(a)", 4)
    wrong = conv_weight(RNG, 2, 5, 1, 1)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    weight.CopyFrom(onnx.numpy_helper.from_array(wrong, "w"))
    maps = trace(save(model, tmp_path / "model.onnx")).layers[-1].maps
    assert [(entry.producers, entry.reason) for entry in maps] == [((), "'t' has 4 maps where 5 are read")] * 5


def test_several_inputs_side_by_side_are_still_inputs(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 3, 5, 5] image, float[1, 1, 5, 5] noise_level) => (float[1, 2, 5, 5] y) {
            t = Concat<axis = 1>(image, noise_level)
            [first] y = Conv(t, w)
        }""",
        {"w": conv_weight(RNG, 2, 4, 1, 1)},
    )
    maps = trace(save(model, tmp_path / "model.onnx")).layers[0].maps
    assert [entry.reason for entry in maps] == [
        *["it is read from the graph input 'image'"] * 3,
        "it is read from the graph input 'noise_level'",
    ]


def test_the_pads_of_the_first_operator_set_are_no_crash(tmp_path: Path) -> None:
    # Pad-1 had an attribute `paddings`.
    model = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["": 1]>
        g (float[1, 3, 5, 5] x) => (float[1, 2, 7, 5] y) {
            [a] a = Conv(x, wa)
            t = Pad<mode = "constant", paddings = [0, 0, 1, 0, 0, 0, 1, 0]>(a)
            [reader] y = Conv(t, w)
        }"""
    )
    for name, array in (("wa", conv_weight(RNG, 4, 3, 1, 1)), ("w", conv_weight(RNG, 2, 4, 1, 1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
    onnx.checker.check_model(model)
    maps = trace(save(model, tmp_path / "model.onnx")).layers[-1].maps
    if maps[0].reason is None:
        assert [[(p.node, p.filter) for p in entry.producers] for entry in maps] == [[("a", m)] for m in range(4)]
    else:
        assert all(str(entry.reason).startswith("node 't' (Pad) cannot be traced") for entry in maps)
