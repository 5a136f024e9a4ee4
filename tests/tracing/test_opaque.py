"""What has no rule is named, and whatever depends on it is never claimed to be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.models import conv_weight, parse, save
from tests.tracing.oracle import dependencies
from tgdonnx.layers import open_network
from tgdonnx.tracing import TraceReport, trace, trace_network

RNG = np.random.default_rng(0)
WEIGHTS = {
    "wa": conv_weight(RNG, 4, 2, 3, 3),
    "wb": conv_weight(RNG, 4, 2, 1, 1),
    "wc": conv_weight(RNG, 3, 4, 1, 1),
    "k4": RNG.standard_normal((2, 4, 5, 5)).astype(np.float32),
    "gates": RNG.standard_normal((1, 4, 1)).astype(np.float32),
}

# Nodes between the layers a and c; a has 4 filters and makes [2, 4, 5, 5].
OPAQUE = {
    "NonZero": "[odd] i = NonZero(a) f = Cast<to = 1>(i) s = ReduceSum<keepdims = 0>(f) t = Mul(s, k4)",
    "GatherND": "[odd] t = GatherND(a, places)",
    "MatMul": "u = Transpose<perm = [0, 1, 3, 2]>(a) [odd] t = MatMul(a, u)",
    "Einsum": '[odd] t = Einsum<equation = "nchw, nchv -> nchw">(a, a)',
    "LSTM": "rows = Reshape(a, as_rows) [odd] h = LSTM<hidden_size = 1>(rows, gates, gates) t = Reshape(h, as_maps)",
    "Loop": "[odd] t = Loop<body = p (int64 i, bool c, float[2, 4, 5, 5] u) => (bool d, float[2, 4, 5, 5] v)"
    " { d = Identity(c) v = Relu(u) }>(two, yes, a)",
    "vendor.Fancy": "[odd] t = vendor.Fancy(a)",
    "vendor.Relu": "[odd] t = vendor.Relu(a)",
    "vendor.Conv": "[odd] t = vendor.Conv(a, wc)",
}


def odd(line: str, *, then: str = "r = Relu(t)") -> onnx.ModelProto:
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17, "vendor": 1]>
        odd (float[2, 2, 5, 5] x, bool yes) => (float[n, m, h, w] y)
        <int64 two = {{2}}, int64[3] as_rows = {{20, 10, 1}}, int64[4] as_maps = {{2, 4, 5, 5}},
         int64[2, 1] places = {{1, 0}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [b] b = Conv(x, wb)
            {line}
            {then}
            [c] y = Conv(r, wc)
        }}""",
        WEIGHTS,
    )


def last_layer(report: TraceReport) -> list[tuple[tuple[object, ...], str | None]]:
    return [(entry.producers, entry.reason) for entry in report.layers[-1].maps]


@pytest.mark.parametrize(("op_type", "line"), OPAQUE.items(), ids=OPAQUE)
def test_a_node_without_a_rule_is_reported_by_name_and_operator_and_nothing_is_claimed(
    op_type: str, line: str, tmp_path: Path
) -> None:
    report = trace(save(odd(line), tmp_path / "model.onnx"))
    for producers, reason in last_layer(report):
        assert producers == ()
        assert reason is not None
        assert reason.startswith(f"node 'odd' ({op_type}) cannot be traced: ")
    assert len(last_layer(report)) == 4


@pytest.mark.parametrize(("op_type", "line"), OPAQUE.items(), ids=OPAQUE)
@pytest.mark.parametrize("then", ["r = Add(b, t)", "r = Mul(t, b)"])
def test_the_filters_behind_an_opaque_node_are_known_to_reach_it(
    op_type: str, line: str, then: str, tmp_path: Path
) -> None:
    provenance = trace_network(open_network(save(odd(line, then=then), tmp_path / "model.onnx")))
    for origin in provenance.layer_inputs[-1]:
        assert origin.opaque is not None
        assert origin.producers >= {(0, m) for m in range(4)}  # any of a


@pytest.mark.parametrize("op_type", ["Einsum", "MatMul"])
def test_an_opaque_map_spoils_a_sum_but_not_its_neighbours_in_a_concat(op_type: str, tmp_path: Path) -> None:
    line = OPAQUE[op_type]
    added = trace(save(odd(line, then="r = Add(b, t)"), tmp_path / "added.onnx"))
    assert all(producers == () and "'odd'" in str(reason) for producers, reason in last_layer(added))

    maps = trace(save(concatenated(line), tmp_path / "concat.onnx")).layers[-1].maps
    assert [[(p.node, p.filter) for p in entry.producers] for entry in maps[:4]] == [[("b", m)] for m in range(4)]
    assert all(str(entry.reason).startswith(f"node 'odd' ({op_type})") for entry in maps[4:8])
    assert [entry.reason for entry in maps[8:]] == ["it is read from the graph input 'x'"] * 2


def test_a_concat_with_something_of_unknown_length_is_opaque_as_a_whole(tmp_path: Path) -> None:
    maps = trace(save(concatenated(OPAQUE["vendor.Fancy"]), tmp_path / "concat.onnx")).layers[-1].maps
    reason = "node 'r' (Concat) cannot be traced: the shape of 'r' is not known"
    assert [(entry.producers, entry.reason) for entry in maps] == [((), reason)] * 10


def concatenated(line: str) -> onnx.ModelProto:
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17, "vendor": 1]>
        odd (float[2, 2, 5, 5] x, bool yes) => (float[n, m, h, w] y) <int64 two = {{2}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [b] b = Conv<pads = [1, 1, 1, 1]>(x, wb)
            {line}
            r = Concat<axis = 1>(b, t, x)
            [c] y = Conv(r, wide)
        }}""",
        {**WEIGHTS, "wb": conv_weight(RNG, 4, 2, 3, 3), "wide": conv_weight(RNG, 3, 10, 1, 1)},
    )


def test_a_function_of_the_model_is_looked_into(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (float[2, 2, 5, 5] x) => (float[2, 3, 5, 5] y) {
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            t = own.Twice(a)
            [c] c = Conv(t, wc)
            u = own.Odd(c)
            [d] y = Conv(u, wd)
        }
        <domain: "own", opset_import: ["": 17]>
        Twice (x) => (y) { y = Add(x, x) }
        <domain: "own", opset_import: ["": 17]>
        Odd (x) => (y) { [odd] y = Einsum<equation = "nchw, nchv -> nchw">(x, x) }""",
        {**WEIGHTS, "wd": conv_weight(RNG, 3, 3, 1, 1)},
    )
    report = trace(save(model, tmp_path / "model.onnx"))
    assert [[(p.node, p.filter) for p in entry.producers] for entry in report.layers[1].maps] == [
        [("a", m)] for m in range(4)
    ]
    for producers, reason in last_layer(report):
        assert producers == ()
        assert "(Einsum) cannot be traced: there is no rule for its operator" in str(reason)


def test_a_node_without_a_name_is_reported_by_its_output(tmp_path: Path) -> None:
    report = trace(save(odd("t = vendor.Fancy(a)"), tmp_path / "model.onnx"))
    assert str(last_layer(report)[0][1]).startswith("node 't' (vendor.Fancy) cannot be traced")


def either(condition: str, *, opaque: bool = False) -> str:
    """An If between Relu of a and something of b."""
    of_b = 'Einsum<equation = "nchw, nchv -> nchw">(b, b)' if opaque else "Tanh(b)"
    return f"[odd] t = If<then_branch = p () => (u) {{ u = Relu(a) }}, else_branch = q () => (v) {{ v = {of_b} }}>({condition})"


def test_an_if_whose_condition_is_an_input_depends_on_both_branches(tmp_path: Path) -> None:
    # The If has no input that depends on a layer. What it reads, it reads from inside.
    report = trace(save(odd(either("yes")), tmp_path / "model.onnx"))
    assert [[(p.node, p.filter) for p in entry.producers] for entry in report.layers[-1].maps] == [
        [("a", m), ("b", m)] for m in range(4)
    ]
    provenance = trace_network(open_network(save(odd(either("yes", opaque=True)), tmp_path / "opaque.onnx")))
    assert all(origin.opaque for origin in provenance.layer_inputs[-1])
    assert {producer for origin in provenance.layer_inputs[-1] for producer in origin.producers} == {
        (layer, m) for layer in (0, 1) for m in range(4)
    }


def test_an_if_whose_condition_is_computed_by_layers_is_opaque(tmp_path: Path) -> None:
    line = f"low = ReduceMin<keepdims = 0>(a) is = Less(low, low) {either('is')}"
    report = trace(save(odd(line), tmp_path / "model.onnx"))
    for producers, reason in last_layer(report):
        assert producers == ()
        assert reason == "node 'odd' (If) cannot be traced: its condition is computed by layers"


def test_of_an_if_whose_condition_is_constant_only_that_branch_counts(tmp_path: Path) -> None:
    for known, layer in ((True, "a"), (False, None)):
        model = odd(either("yes", opaque=True))
        del model.graph.input[1]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(known), "yes"))
        maps = trace(save(model, tmp_path / "model.onnx")).layers[-1].maps
        expected = [[(layer, m)] if layer else [] for m in range(4)]
        assert [[(p.node, p.filter) for p in entry.producers] for entry in maps] == expected
        assert all((entry.reason is None) == known for entry in maps)


def test_an_if_in_an_if_is_looked_into_too(tmp_path: Path) -> None:
    line = (
        "[odd] t = If<then_branch = p () => (u) { u = If<then_branch = r () => (u1) { u1 = Relu(a) },"
        " else_branch = s () => (u2) { u2 = Tanh(b) }>(yes) }, else_branch = q () => (v) { v = Identity(k4) }>(yes)"
    )
    report = trace(save(odd(line), tmp_path / "model.onnx"))
    assert [[(p.node, p.filter) for p in entry.producers] for entry in report.layers[-1].maps] == [
        [("a", m), ("b", m)] for m in range(4)
    ]


@pytest.mark.parametrize("op_type", ["Sqrt", "Reshape", "Softmax"])
def test_what_is_computed_from_constants_alone_is_constant_by_whatever_operator(op_type: str, tmp_path: Path) -> None:
    line = {
        "Sqrt": "k = Sqrt(positive)",
        "Reshape": "k = Reshape(positive, shape)",
        "Softmax": "k = Softmax<axis = 0>(positive)",
    }[op_type]
    model = parse(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 2, 5, 5] x) => (float[2, 3, 5, 5] y) <int64[3] shape = {{4, 1, 1}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            {line}
            t = Mul(k, a)
            [c] y = Conv(t, wc)
        }}""",
        {**WEIGHTS, "positive": RNG.uniform(1, 2, (4, 1, 1)).astype(np.float32)},
    )
    report = trace(save(model, tmp_path / "model.onnx"))
    observed = dependencies(model, ["t"])["t"]
    assert [{(p.node, p.filter) for p in entry.producers} for entry in report.layers[-1].maps] == observed
    assert observed == [{("a", m)} for m in range(4)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "t = BatchNormalization(b, s, s, s, s)\ns = ReduceMax<axes = [0, 2, 3], keepdims = 0>(a)",
            "node 't' (BatchNormalization) cannot be traced: its parameters are",
        ),
        (
            "t = InstanceNormalization(b, s, s)\ns = ReduceMax<axes = [0, 2, 3], keepdims = 0>(a)",
            "node 't' (InstanceNormalization) cannot be traced: its scale or offset is computed",
        ),
        ("t = Pad(b, pads, low)\nlow = ReduceMin<keepdims = 0>(a)", "node 't' (Pad) cannot be traced: the value it"),
        (
            "t = Pad(b, computed)\ncomputed = Mul(odd_pads, two)",
            "node 't' (Pad) cannot be traced: 'computed', its pads, is computed from data",
        ),
        (
            "t = Gather<axis = 1>(b, best)\nbest = Squeeze(i, first)\ni = ArgMax<axis = 1>(s)\n"
            "s = ReduceSum<keepdims = 1>(a, pixels)",
            "node 't' (Gather) cannot be traced: its indices depend on the data",
        ),
        (
            "t = Slice(b, odd_pads, odd_pads)",
            "node 't' (Slice) cannot be traced: 'odd_pads', its starts, is computed from data",
        ),
    ],
)
def test_a_rule_that_cannot_tell_says_why(lines: str, expected: str, tmp_path: Path) -> None:
    lines = "\n".join(reversed(lines.replace("'", '"').split("\n")))
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 2, 5, 5] x, int64[8] odd_pads) => (float[n, m, h, w] y)
        <int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64[8] channels = {{0, 1, 0, 0, 0, 1, 0, 0}},
         int64[2] pixels = {{2, 3}}, int64[3] first = {{0, 2, 3}}, int64 two = {{2}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [b] b = Conv(x, wb)
            {lines}
            [c] y = Conv(t, wc)
        }}"""
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in WEIGHTS.items())
    for producers, reason in last_layer(trace(save(model, tmp_path / "model.onnx"))):
        assert producers == ()
        assert str(reason).startswith(expected)
