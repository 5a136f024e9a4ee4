"""What is said of operators holds when they run, and where ONNX's schemas say it too they agree."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.graphs.running import SHAPE, Array, Runner, inputs_of, model_of, operators
from tgdonnx.graphs import operators as facts
from tgdonnx.graphs.evaluation import evaluate
from tgdonnx.graphs.operators import (
    CHANNEL_AXES,
    CHANNEL_INPUTS,
    ELEMENTWISE,
    output_types,
    schema_of,
    value_inputs,
    value_outputs,
)

# Operators of which an element depends on that at the same place alone, but not in the same way everywhere, or at random.
NOT_ELEMENTWISE = {"CastLike", "Dropout", "TensorScatter", "Trilu"}
# Of inputs of one shape, and without further ones, these hand everything on as it is.
IDENTITIES = {"OptionalGetElement", "Split", "Squeeze"}
PLACES = [(0, 0, 0), (1, 2, 3), (0, 1, 2), (1, 0, 1)]


def others(number: Any, partner: Any) -> list[Any]:
    """Returns what a number may change to; ``partner`` is what stands at its place in another input."""
    if number.dtype == bool:
        return [not number]
    return [3 - number, partner] if number.dtype == np.uint8 else [-2.5 * number, 2.5 * number, partner, np.nan, np.inf]


def differing(a: Array, b: Array) -> Array:
    return np.argwhere(~((a == b) | ((a != a) & (b != b))))


def is_elementwise(schema: onnx.defs.OpSchema) -> bool | None:
    """Whether a change of one element changes the element at the same place and no other; None where it cannot be run."""
    arrays = inputs_of(schema)
    if arrays is None:
        return None
    try:
        run = Runner(schema, arrays)
    except Exception:  # it wants other shapes or types
        return None
    before = run(arrays)
    if before.shape != SHAPE:
        return False
    moved = False
    for position in range(len(arrays)):
        for place in PLACES:
            for number in others(arrays[position][place], arrays[position - 1][place]):
                other = [array.copy() for array in arrays]
                other[position][place] = number
                found = differing(before, run(other))
                moved |= bool(len(found))
                if any(tuple(where) != place for where in found):
                    return False
    return moved


@pytest.mark.parametrize("schema", operators(), ids=lambda schema: schema.name)
def test_the_elementwise_operators_are_those_whose_elements_depend_on_their_own_place(
    schema: onnx.defs.OpSchema,
) -> None:
    found = is_elementwise(schema)
    if schema.name in ELEMENTWISE:
        assert found is True
    else:
        assert not found or schema.name in NOT_ELEMENTWISE | IDENTITIES


@pytest.mark.parametrize("op_type", sorted(ELEMENTWISE))
def test_what_is_computed_beforehand_of_an_elementwise_operator_is_what_it_computes(op_type: str) -> None:
    schema = next(schema for schema in operators() if schema.name == op_type)
    arrays = inputs_of(schema, seed=3)
    assert arrays is not None
    node = next(iter(ir.from_proto(model_of(schema, arrays)).graph))
    opset = max(21, schema.since_version)
    results = evaluate(node, {f"x{place}": array for place, array in enumerate(arrays)}, {"": opset}, 24)
    assert results is not None
    expected = Runner(schema, arrays)(arrays)
    assert results[0].dtype == expected.dtype
    np.testing.assert_allclose(results[0], expected, rtol=2e-6, atol=1e-7)


def inferred_models() -> dict[str, onnx.ModelProto]:
    """Returns models of one node each, those that ONNX can infer."""
    models = {}
    for schema in operators():
        arrays = inputs_of(schema)
        if arrays is not None:
            with contextlib.suppress(onnx.shape_inference.InferenceError):  # of such inputs there is no such node
                models[schema.name] = onnx.shape_inference.infer_shapes(model_of(schema, arrays), strict_mode=True)
    return models


INFERRED = inferred_models()


@pytest.mark.parametrize("op_type", INFERRED)
def test_the_types_of_outputs_are_those_of_onnx(op_type: str) -> None:
    declared = INFERRED[op_type].graph.output[0].type.tensor_type.elem_type
    model = ir.from_proto(INFERRED[op_type])
    found = output_types(next(iter(model.graph)), model.graph.opset_imports[""])[0]
    assert declared == 0 or found is None or found == declared
    assert found is not None or op_type not in ELEMENTWISE


def test_the_types_of_all_elementwise_operators_are_looked_at() -> None:
    assert INFERRED.keys() >= ELEMENTWISE


def node_of(op_type: str, inputs: int, outputs: int = 1, **attributes: int) -> ir.Node:
    return ir.node(op_type, [ir.Value(name=f"x{i}") for i in range(inputs)], attributes, num_outputs=outputs)


@pytest.mark.parametrize(
    ("op_type", "count", "expected"),
    [
        ("Conv", 3, (0, 1, 2)),
        ("Concat", 5, (0, 1, 2, 3, 4)),
        ("Clip", 3, (0, 1, 2)),
        ("Pad", 4, (0, 2)),
        ("Where", 3, (1, 2)),
        ("OneHot", 3, (2,)),
        ("Gather", 2, (0,)),
        ("ScatterND", 3, (0, 2)),
        ("Resize", 4, (0,)),
        ("Upsample", 2, (0,)),
        ("Dropout", 3, (0,)),
        ("Mod", 2, (0, 1)),
        ("ReduceProd", 2, (0,)),
        ("Expand", 2, (0,)),
        ("LSTM", 8, (0, 1, 2, 3, 5, 6, 7)),
        ("If", 1, ()),
        ("Loop", 4, (2, 3)),
        ("Floor", 1, ()),
        ("Hardmax", 1, (0,)),
        ("Shape", 1, (0,)),
        ("EyeLike", 1, ()),
        ("RandomNormalLike", 1, ()),
        ("QuantizeLinear", 3, (0, 1, 2)),
        ("ConvInteger", 4, (0, 1, 2, 3)),
        ("Invented", 2, (0, 1)),
    ],
)
def test_inputs_that_hold_values_are_told_from_sizes_places_and_conditions(
    op_type: str, count: int, expected: tuple[int, ...]
) -> None:
    assert value_inputs(node_of(op_type, count)) == expected


def test_an_input_that_is_left_out_holds_no_value() -> None:
    node = ir.node("Clip", [ir.Value(name="x"), None, ir.Value(name="most")])
    assert value_inputs(node) == (0, 2)


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "expected"),
    [
        ("MaxPool", 1, 2, (0,)),
        ("TopK", 2, 2, (0,)),
        ("Dropout", 1, 2, (0,)),
        ("Split", 1, 3, (0, 1, 2)),
        ("ArgMax", 1, 1, ()),
        ("IsNaN", 1, 1, ()),
        ("NonMaxSuppression", 2, 1, ()),
        ("Shape", 1, 1, ()),
        ("QuantizeLinear", 2, 1, (0,)),
        ("DynamicQuantizeLinear", 1, 3, (0, 1, 2)),
        ("Invented", 1, 2, (0, 1)),
    ],
)
def test_outputs_that_hold_values_are_told_from_places_and_conditions(
    op_type: str, inputs: int, outputs: int, expected: tuple[int, ...]
) -> None:
    assert value_outputs(node_of(op_type, inputs, outputs)) == expected


def test_what_is_said_against_a_schema_is_about_an_input_that_it_lets_be_real() -> None:
    for op_type, places in facts._NO_VALUES.items():
        schema = schema_of(op_type)
        assert schema is not None
        for place in places:
            assert any("float" in kind for kind in schema.inputs[place].types), (op_type, place)


def test_the_families_name_operators_that_there_are() -> None:
    families = [getattr(facts, name) for name in dir(facts) if name.isupper() and not name.startswith("_")]
    named = {
        op_type
        for family in families
        if isinstance(family, frozenset)
        for op_type in family
        if isinstance(op_type, str)
    }
    assert {op_type for op_type in named if schema_of(op_type) is None} <= {"SwiGLU"}  # which came with onnx 1.23
    assert len(named) > 90


def test_numbers_per_channel_are_where_the_schemas_have_them() -> None:
    expected = {
        "scale": {"scale", "Scale", "B", "A"},
        "offset": {"B", "bias", "A"},
        "mean": {"input_mean", "mean", "B"},
        "variance": {"input_var", "var"},
        "divisor": {"B"},
        "slope": {"slope"},
    }
    for op_type, places in CHANNEL_INPUTS.items():
        schema = schema_of(op_type)
        assert schema is not None
        for place, role in places.items():
            assert schema.inputs[place].name in expected[role], (op_type, place)
    assert CHANNEL_AXES.keys() == {op_type for op_type in CHANNEL_INPUTS if op_type.endswith("Normalization")}


def test_a_cast_rounds_that_makes_no_real_numbers() -> None:
    assert facts.rounds(node_of("Cast", 1, to=ir.DataType.INT64.value))
    assert facts.rounds(node_of("Cast", 1, to=ir.DataType.BOOL.value))
    assert not facts.rounds(node_of("Cast", 1, to=ir.DataType.FLOAT16.value))
    assert not facts.rounds(node_of("Floor", 1))


@pytest.mark.parametrize(("imports", "expected"), [({"": 17}, 17), ({"ai.onnx": 9, "com.odd": 20}, 9), ({}, 1)])
def test_the_operator_set_of_a_graph_is_told_under_either_name(imports: dict[str, int], expected: int) -> None:
    assert facts.opset_of(ir.Graph([], [], nodes=[], opset_imports=imports)) == expected
