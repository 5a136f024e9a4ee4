"""Values that graphs inside nodes take from outside."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from tgdonnx.graphs.captured import captured_values, inner_graphs


def outermost(then: str) -> ir.Node:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[2] x, bool c) => (float[2] y) {{
            a = Neg(x)
            b = Exp(x)
            y = If(c) <
                then_branch = t () => (float[2] r) {{ {then} }}, else_branch = e () => (float[2] s) {{ s = Identity(x) }}
            >
        }}"""
    )
    return next(node for node in ir.from_proto(model).graph if node.op_type == "If")


def captured(then: str) -> list[str]:
    return [str(value.name) for value in captured_values(outermost(then))]


def test_a_branch_captures_what_it_reads_and_does_not_make() -> None:
    assert captured("k = Mul(a, b) r = Add(k, a)") == ["a", "b", "x"]


def test_a_branch_in_a_branch_captures_what_it_reads() -> None:
    inner = "then_branch = u () => (float[2] p) { p = Neg(b) }, else_branch = v () => (float[2] q) { q = Neg(x) }"
    assert captured(f"r = If(c) <{inner}>") == ["c", "b", "x"]


def test_a_branch_in_a_branch_captures_what_it_gives_out_without_a_node() -> None:
    node = outermost(
        "r = If(c) <then_branch = u () => (float[2] p) { p = Neg(b) }, else_branch = v () => (float[2] q) { q = Neg(x) }>"
    )
    inside = next(iter(node.attributes["then_branch"].as_graph()))
    branch = inside.attributes["then_branch"].as_graph()
    outer = next(other.outputs[0] for other in node.graph or () if other.op_type == "Neg")
    branch.outputs[:] = [outer]
    assert outer in captured_values(node)


def test_graphs_inside_a_node_are_those_directly_in_it() -> None:
    node = outermost("r = Add(a, b)")
    assert [graph.name for graph in inner_graphs(node)] == ["t", "e"]
    assert inner_graphs(ir.node("Relu", [ir.Value(name="x")])) == []
