"""Writing nodes: names that nothing else has, constants once, types that are known, and each operator set in its spelling."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tgdonnx.graphs.builder import PREFIX, Builder, constant, fresh_name, replace, replace_value


def graph(opset: int = 17, kind: str = "float") -> ir.Graph:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": {opset}]> g ({kind}[2, 3] x) => ({kind}[2, 3] y) {{
            a = Neg(x)
            y = Abs(a)
        }}"""
    )
    return ir.from_proto(model).graph


def test_nodes_go_in_front_of_a_node_in_the_order_of_writing() -> None:
    g = graph()
    build = Builder.before(g[1])
    build("Sqrt", build("Exp", g.inputs[0]))
    assert [node.op_type for node in g] == ["Neg", "Exp", "Sqrt", "Abs"]
    assert build.nodes == []
    assert g[1].outputs[0].name == f"{PREFIX}y.Exp"


def test_nodes_without_a_place_are_collected() -> None:
    g = graph()
    build = Builder(g, "loss")
    value = build("Exp", g.inputs[0])
    assert [node.op_type for node in g] == ["Neg", "Abs"]
    assert [node.outputs[0] for node in build.nodes] == [value]


def test_names_are_ours_and_given_once() -> None:
    g = graph()
    taken = ir.Value(name=f"{PREFIX}loss.Exp")
    g.inputs.append(taken)  # a vendor's file may have been one of ours
    first, second = Builder(g, "loss"), Builder(g, "loss")
    names = [build("Exp", g.inputs[0]).name for build in (first, second, first)]
    assert len({taken.name, *names}) == 4
    assert all(name is not None and name.startswith(f"{PREFIX}loss.Exp#") for name in names)
    first.about("later")
    assert first("Exp", g.inputs[0]).name == f"{PREFIX}later.Exp"
    first.rename(taken)
    assert taken.name not in {f"{PREFIX}loss.Exp", *names}


def test_what_is_inside_a_node_has_names_of_its_own_in_all_of_the_model() -> None:
    g = graph()
    inner = ir.Graph([], [], nodes=[], name="inner")
    build = Builder(g, "back")
    inside = build.inside(inner)
    assert inside.opset == 17
    assert build("Exp", g.inputs[0]).name != inside("Exp", g.inputs[0]).name
    stored = inside.scalar(2)
    assert inner.initializers == {stored.name: stored}
    assert not g.initializers


def test_the_same_numbers_are_stored_once_and_numbers_of_other_types_or_shapes_are_not_the_same() -> None:
    g = graph()
    build = Builder(g, "y")
    assert build.scalar(1) is build.constant(np.array(1, np.float32))
    assert build.ints(1, 2) is build.ints(1, 2)
    others = [build.scalar(1), build.ints(1), build.constant(np.array(1, np.int64)), build.ints(0), build.scalar(0)]
    assert len(set(others)) == 5
    assert set(g.initializers.values()) == {*others, build.ints(1, 2)}


@pytest.mark.parametrize(
    ("kind", "dtype"), [("float", np.float32), ("double", np.float64), ("float16", np.float16)], ids=str
)
def test_constants_and_masks_are_of_the_type_of_what_they_meet(kind: str, dtype: type) -> None:
    g = graph(kind=kind)
    build = Builder(g, "y")
    x = g.inputs[0]
    squared = build("Mul", x, x)
    half = build.scalar(0.5, squared)
    assert half.const_value is not None
    assert half.const_value.numpy().dtype == dtype
    mask = build.mask("Greater", squared, half)
    assert [value.dtype for value in (squared, mask, build.complement(mask))] == [x.dtype] * 3
    assert mask.producer().inputs[0].dtype == ir.DataType.BOOL
    assert build("Shape", x).dtype == ir.DataType.INT64
    assert build.cast(x, ir.DataType.INT32).dtype == ir.DataType.INT32


def test_of_a_type_that_is_not_known_numbers_are_float32() -> None:
    build, unknown = Builder(graph(), "y"), ir.Value(name="unknown")
    assert build("Exp", unknown).dtype is None
    assert build.scalar(1, unknown).dtype == ir.DataType.FLOAT
    assert build.cast(unknown, unknown).dtype == ir.DataType.FLOAT


@pytest.mark.parametrize(
    ("opset", "op_type", "as_input"),
    [(13, "ReduceSum", True), (13, "ReduceMean", False), (17, "ReduceMax", False), (18, "ReduceMax", True)],
)
def test_reductions_have_their_axes_where_the_operator_set_has_them(opset: int, op_type: str, as_input: bool) -> None:
    g = graph(opset)
    node = Builder(g, "y").reduce(op_type, g.inputs[0], [1], keepdims=False).producer()
    assert node is not None
    assert len(node.inputs) == 1 + as_input
    assert ("axes" in node.attributes) != as_input
    assert node.attributes["keepdims"].as_int() == 0
    onnx.checker.check_node(ir.to_proto(node), _context(opset))


def _context(opset: int) -> onnx.checker.C.CheckerContext:
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 8, {"": opset}
    return context


def test_a_reduction_over_no_axes_is_over_all_and_a_sum_over_none_is_the_value() -> None:
    g = graph()
    build, x = Builder(g, "y"), g.inputs[0]
    assert len(build.reduce("ReduceMean", x).producer().inputs) == 1
    assert build.sum(x, [], keepdims=True) is x
    assert build.sum(x, [0], keepdims=True).producer().attributes["noop_with_empty_axes"].as_int() == 1


def test_a_stretch_is_sliced_and_other_places_are_gathered() -> None:
    g = graph()
    build = Builder(g, "y")
    assert build.take(g.inputs[0], [1, 2], 1).producer().op_type == "Slice"
    assert build.take(g.inputs[0], [2, 1], 1).producer().op_type == "Gather"


def test_an_operator_of_another_domain_is_imported() -> None:
    g = graph()
    values = Builder(g, "y").several("Odd", [g.inputs[0], None], {"by": 2}, 2, domain="com.odd", word="part")
    assert g.opset_imports["com.odd"] == 1
    assert [value.name for value in values] == [f"{PREFIX}y.part", f"{PREFIX}y.part#2"]
    node = values[0].producer()
    assert node is not None
    assert (node.domain, node.inputs[1], node.attributes["by"].as_int()) == ("com.odd", None, 2)


def test_what_replaces_a_node_has_the_name_of_its_output() -> None:
    g = graph()
    replace(g[1], Builder.before(g[1])("Exp", g[0].outputs[0]))
    assert [node.op_type for node in g] == ["Neg", "Exp"]
    assert [value.name for value in g.outputs] == ["y"]


def test_what_takes_over_has_the_name_only_if_the_model_gives_it_out() -> None:
    g = graph()
    g[0].outputs[0].shape = ir.Shape([2, 3])
    inside, outside = Builder.before(g[1])("Exp", g.inputs[0]), Builder.before(g[1])("Sin", g.inputs[0])
    replace_value(g[0].outputs[0], inside)
    assert inside.name == f"{PREFIX}y.Exp"
    assert inside.shape == ir.Shape([2, 3])
    replace_value(g.outputs[0], outside)
    assert outside.name == "y"
    assert g.outputs[0] is outside


def test_a_stored_constant_has_its_numbers_shape_and_type() -> None:
    g = graph()
    value = constant(g, "k", np.ones((2, 1), np.int32))
    assert (value.name, value.dtype) == (f"{PREFIX}k", ir.DataType.INT32)
    assert list(value.shape or ()) == [2, 1]
    assert g.initializers[value.name] is value
    assert fresh_name(g, value.name) == f"{PREFIX}k#2"
