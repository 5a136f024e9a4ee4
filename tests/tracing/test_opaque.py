"""What has no rule is named, and whatever depends on it is never claimed to be known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.models import conv_weight, parse, save
from tests.tracing.oracle import dependencies
from tgdonnx.layers import open_network
from tgdonnx.tracing import TraceReport, trace, trace_network

RNG = np.random.default_rng(0)
WEIGHTS = {
    "wa": conv_weight(RNG, 4, 2, 3, 3),
    "wb": conv_weight(RNG, 4, 2, 1, 1),
    "wc": conv_weight(RNG, 3, 4, 1, 1),
    "matrix": RNG.standard_normal((5, 5)).astype(np.float32),
}

# One node between the layers a and c; a has 4 filters and makes [2, 4, 5, 5].
OPAQUE = {
    "Softmax": "[odd] t = Softmax<axis = 1>(a)",
    "MatMul": "[odd] t = MatMul(a, matrix)",
    "Transpose": "[odd] t = Transpose<perm = [0, 1, 3, 2]>(a)",
    "GlobalAveragePool": "[odd] t = GlobalAveragePool(a)",
    "vendor.Fancy": "[odd] t = vendor.Fancy(a)",
    "vendor.Relu": "[odd] t = vendor.Relu(a)",
    "vendor.Conv": "[odd] t = vendor.Conv(a, wc)",
    "If": "[odd] t = If<then_branch = p () => (u) { u = Relu(a) }, else_branch = q () => (v) { v = Tanh(a) }>(yes)",
}


def odd(line: str, *, then: str = "r = Relu(t)") -> onnx.ModelProto:
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17, "vendor": 1]>
        odd (float[2, 2, 5, 5] x) => (float[n, m, h, w] y) <bool yes = {{1}}> {{
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


@pytest.mark.parametrize("op_type", ["Softmax", "If"])
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
    reason = "node 'r' (Concat) cannot be traced: the length of its input 't' along axis 1 is not known"
    assert [(entry.producers, entry.reason) for entry in maps] == [((), reason)] * 10


def concatenated(line: str) -> onnx.ModelProto:
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17, "vendor": 1]>
        odd (float[2, 2, 5, 5] x) => (float[n, m, h, w] y) <bool yes = {{1}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [b] b = Conv<pads = [1, 1, 1, 1]>(x, wb)
            {line}
            r = Concat<axis = 1>(b, t, x)
            [c] y = Conv(r, wide)
        }}""",
        {**WEIGHTS, "wb": conv_weight(RNG, 4, 2, 3, 3), "wide": conv_weight(RNG, 3, 10, 1, 1)},
    )


def test_a_function_of_the_model_is_opaque(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17, "own": 1]>
        g (float[2, 2, 5, 5] x) => (float[2, 3, 5, 5] y) {
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            [odd] t = own.Twice(a)
            [c] y = Conv(t, wc)
        }
        <domain: "own", opset_import: ["": 17]>
        Twice (x) => (y) { y = Add(x, x) }""",
        WEIGHTS,
    )
    for producers, reason in last_layer(trace(save(model, tmp_path / "model.onnx"))):
        assert producers == ()
        assert str(reason).startswith("node 'odd' (own.Twice) cannot be traced")


def test_a_node_without_a_name_is_reported_by_its_output(tmp_path: Path) -> None:
    report = trace(save(odd("t = Softmax<axis = 1>(a)"), tmp_path / "model.onnx"))
    assert str(last_layer(report)[0][1]).startswith("node 't' (Softmax) cannot be traced")


def test_an_if_is_opaque_also_when_it_only_captures_and_its_condition_is_constant(tmp_path: Path) -> None:
    # The If has no input that depends on a layer. What it reads, it reads from inside.
    provenance = trace_network(open_network(save(odd(OPAQUE["If"]), tmp_path / "model.onnx")))
    assert all(origin.opaque for origin in provenance.layer_inputs[-1])
    assert {producer for origin in provenance.layer_inputs[-1] for producer in origin.producers} == {
        (0, m) for m in range(4)
    }


def test_an_if_in_an_if_is_opaque_too(tmp_path: Path) -> None:
    line = (
        "[odd] t = If<then_branch = p () => (u) { u = If<then_branch = r () => (u1) { u1 = Relu(a) },"
        " else_branch = s () => (u2) { u2 = Tanh(a) }>(yes) }, else_branch = q () => (v) { v = Identity(matrix) }>(yes)"
    )
    provenance = trace_network(open_network(save(odd(line), tmp_path / "model.onnx")))
    assert {producer for origin in provenance.layer_inputs[-1] for producer in origin.producers} == {
        (0, m) for m in range(4)
    }


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
        ("t = Clip(b, low)\nlow = ReduceMin<keepdims = 0>(a)", "node 't' (Clip) cannot be traced: its parameters are"),
        (
            "t = BatchNormalization(b, s, s, s, s)\ns = ReduceMax<axes = [0, 2, 3], keepdims = 0>(a)",
            "node 't' (BatchNormalization) cannot be traced: its parameters are",
        ),
        ("t, kept = Dropout(a)\nu = Not(kept)", "node 't' (Dropout) cannot be traced: more than its first output"),
        ("t = Pad(b, pads, low)\nlow = ReduceMin<keepdims = 0>(a)", "node 't' (Pad) cannot be traced: the value it"),
        ("t = Pad(b, computed)\ncomputed = Mul(odd_pads, two)", "node 't' (Pad) cannot be traced: its pads are comp"),
        ("t = Pad<mode = 'reflect'>(b, channels)", "node 't' (Pad) cannot be traced: it pads axis 1"),
        ("t = Pad(b, crop)", "node 't' (Pad) cannot be traced: it pads axis 1"),
    ],
)
def test_a_rule_that_cannot_tell_says_why(lines: str, expected: str, tmp_path: Path) -> None:
    lines = "\n".join(reversed(lines.replace("'", '"').split("\n")))
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[2, 2, 5, 5] x, int64[8] odd_pads) => (float[n, m, h, w] y)
        <int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64[8] channels = {{0, 1, 0, 0, 0, 1, 0, 0}},
         int64[8] crop = {{0, -1, 0, 0, 0, 0, 0, 0}}, int64 two = {{2}}> {{
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
