"""Which nodes a gradient passes, on graphs small enough to say so by hand."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from tgdonnx.graphs.paths import gradient_path


def graph(lines: str) -> ir.Graph:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[2, 3] x) => (float[a, b] y)
        <float w = {{2.0}}, float v = {{3.0}}, int64[2] shape = {{3, 2}}> {{ {lines} }}"""
    )
    for node in model.graph.node:
        node.name = node.output[0]
    return ir.from_proto(model).graph


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ("a = Mul(x, w)\n b = Exp(a)\n y = Add(b, x)", ["a", "b", "y"]),
        ("a = Exp(x)\n b = Mul(a, w)\n y = Neg(b)", ["b", "y"]),
        ("a = Mul(x, w)\n unused = Exp(a)\n y = Neg(a)", ["a", "y"]),
        ("a = Mul(x, w)\n s = Shape(a)\n f = Reshape(x, s)\n y = Add(f, a)", ["a", "y"]),
        ("a = Mul(x, w)\n r = Reshape(a, shape)\n y = Neg(r)", ["a", "r", "y"]),
        ("a = Mul(x, w)\n c = Greater(a, v)\n m = Cast<to = 1>(c)\n y = Mul(m, a)", ["a", "y"]),
        ("a = Mul(x, w)\n c = Greater(a, v)\n y = Where(c, a, x)", ["a", "y"]),
        ("a = Mul(x, w)\n c = Cast<to = 9>(a)\n y = Where(c, x, x)", []),
        ("a = Mul(x, w)\n i = Cast<to = 7>(a)\n f = Cast<to = 1>(i)\n y = Add(f, a)", ["a", "y"]),
        ("a = Mul(x, w)\n p = Pow(x, a)\n y = Add(p, a)", ["a", "p", "y"]),
        ("a = Mul(x, w)\n k = Cast<to = 11>(a)\n y = Cast<to = 1>(k)", ["a", "k", "y"]),
    ],
)
def test_the_path_is_what_the_gradient_of_w_passes(lines: str, path: list[str]) -> None:
    assert [node.name for node in gradient_path(graph(lines), ["w"])] == path


def test_with_two_parameters_the_paths_of_both_are_taken() -> None:
    lines = "a = Mul(x, w)\n b = Mul(x, v)\n c = Exp(a)\n d = Exp(b)\n y = Add(c, d)"
    assert [node.name for node in gradient_path(graph(lines), ["w", "v"])] == ["a", "b", "c", "d", "y"]


BRANCHES = (
    "then_branch = f () => (float[a, b] t) { t = Relu(a) }, else_branch = g () => (float[a, b] e) { e = Identity(x) }"
)
NESTED = (
    "then_branch = f () => (float[a, b] t) { t = If(c) "
    "<then_branch = h () => (float[a, b] u) { u = Neg(a) }, else_branch = i () => (float[a, b] v2) { v2 = Neg(x) }> }, "
    "else_branch = g () => (float[a, b] e) { e = Identity(x) }"
)


@pytest.mark.parametrize("branches", [BRANCHES, NESTED])
def test_a_gradient_passes_a_node_that_reads_a_value_only_inside_its_branches(branches: str) -> None:
    lines = (
        f"a = Mul(x, w)\n m = ReduceMax<keepdims = 0>(x)\n c = Cast<to = 9>(m)\n i = If(c) <{branches}>\n y = Add(i, a)"
    )
    assert [node.name for node in gradient_path(graph(lines), ["w"])] == ["a", "i", "y"]


def test_a_node_whose_branches_read_nothing_that_depends_on_a_parameter_is_on_no_path() -> None:
    lines = (
        "a = Mul(x, w)\n m = ReduceMax<keepdims = 0>(x)\n c = Cast<to = 9>(m)\n "
        f"i = If(c) <{BRANCHES.replace('Relu(a)', 'Relu(x)')}>\n y = Add(i, a)"
    )
    assert [node.name for node in gradient_path(graph(lines), ["w"])] == ["a", "y"]
