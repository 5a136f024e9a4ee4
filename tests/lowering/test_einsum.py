"""Einsum lowered to a product of transposes, compared with numpy's (the runtime's is wrong for some axes of size 1)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lowering.geometry_check import Array, gradients, leaves_alone, lowered_by, node_model, relative_error
from tests.lowering.graphs import run
from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.einsum import LowerEinsum

Sample = tuple[str, dict[str, Array], onnx.ModelProto]


def einsum(equation: str, *operands: Array, opset: int = 17, dynamic: tuple[int, ...] = ()) -> Sample:
    inputs = dict(zip(("x", "w", "v"), operands))
    rank = np.einsum(equation, *operands).ndim
    return equation, inputs, node_model("Einsum", inputs, opset=opset, rank=rank, dynamic=dynamic, equation=equation)


@st.composite
def equations(draw: st.DrawFn) -> Sample:
    """An equation, its operands and its node."""
    sizes = {letter: draw(st.integers(1, 4)) for letter in "abcde"}
    terms = draw(st.lists(st.permutations("abcde").map(lambda p: p[:3]), min_size=1, max_size=2))
    terms = [term[: draw(st.integers(1, 3))] for term in terms]
    result = draw(st.permutations(sorted({letter for term in terms for letter in term})))
    result = result[: draw(st.integers(0, len(result)))]
    hidden = draw(st.sampled_from([(), (), (2,), (3, 2)]))
    rng = np.random.default_rng(0)
    operands, texts = [], []
    for term in terms:
        place = draw(st.integers(0, len(term)))
        shape = [sizes[letter] for letter in term]
        shape[place:place] = hidden
        texts.append("".join([*term[:place], "..." if hidden else "", *term[place:]]))
        operands.append(rng.normal(size=shape).astype(np.float32))
    place = draw(st.integers(0, len(result)))
    equation = ",".join(texts)
    if hidden or draw(st.booleans()):
        equation += "->" + "".join([*result[:place], "..." if hidden else "", *result[place:]])
    equation = draw(st.sampled_from([equation, equation.replace(",", " , ").replace("->", " -> ")]))
    dynamic = tuple(range(operands[0].ndim)) if draw(st.booleans()) else ()
    return einsum(equation, *operands, opset=draw(st.integers(12, 21)), dynamic=dynamic)


@settings(deadline=None, max_examples=250)
@given(equations())
def test_computes_what_numpy_computes(sample: Sample) -> None:
    equation, inputs, model = sample
    expected = np.einsum(equation, *(array.astype(np.float64) for array in inputs.values()))
    found = run(lowered_by(LowerEinsum(), model), inputs)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


@settings(deadline=None, max_examples=80)
@given(equations(), st.integers(0, 99))
def test_has_the_gradient_of_the_original(sample: Sample, seed: int) -> None:
    equation, inputs, model = sample
    wide = [array.astype(np.float64) for array in inputs.values()]
    target = np.random.default_rng(seed).normal(size=np.einsum(equation, *wide).shape).astype(np.float32)
    found = gradients(lowered_by(LowerEinsum(), model), inputs, target, inputs)
    for place, name in enumerate(inputs):
        expected = np.zeros(wide[place].shape)
        for index in np.ndindex(*expected.shape):
            unit = np.zeros(expected.shape)
            unit[index] = 1
            expected[index] = np.sum(target * np.einsum(equation, *wide[:place], unit, *wide[place + 1 :]))
        assert np.abs(found[name] - expected).max() <= 1e-5 * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize(
    ("equation", "shapes", "operators"),
    [
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], {"MatMul"}),
        ("nchw,mc->nmhw", [(2, 3, 4, 5), (6, 3)], {"MatMul", "Transpose"}),
        ("i,j->ij", [(3,), (4,)], {"Mul"}),
        ("ij->ji", [(3, 4)], {"Transpose"}),
        ("ij->i", [(3, 4)], {"ReduceSum"}),
    ],
)
def test_writes_no_more_than_it_needs(equation: str, shapes: list[tuple[int, ...]], operators: set[str]) -> None:
    rng = np.random.default_rng(0)
    _, inputs, model = einsum(equation, *(rng.normal(size=shape).astype(np.float32) for shape in shapes))
    lower = lowered_by(LowerEinsum(), model)
    assert {node.op_type for node in lower.graph.node} - {"Reshape"} == operators
    assert relative_error(run(lower, inputs), np.einsum(equation, *inputs.values())) <= 2e-6


def test_refuses_a_diagonal() -> None:
    _, _, model = einsum("ii->i", np.ones((3, 3), np.float32))
    with pytest.raises(UntrainableError, match=r"'node' \(Einsum\) takes a diagonal: 'ii->i' repeats a letter"):
        lowered_by(LowerEinsum(), model)


def test_refuses_three_operands() -> None:
    _, _, model = einsum("i,j,k->ijk", *[np.ones(2, np.float32)] * 3)
    with pytest.raises(UntrainableError, match=r"'node' \(Einsum\) has 3 operands; one or two can be trained through"):
        lowered_by(LowerEinsum(), model)


def test_refuses_to_repeat_a_dimension_of_size_1() -> None:
    _, _, model = einsum("...i,...i->...i", np.ones((3, 2), np.float32), np.ones((1, 2), np.float32))
    with pytest.raises(UntrainableError, match=r"'node' \(Einsum\) repeats a dimension of size 1 to size 3"):
        lowered_by(LowerEinsum(), model)


def test_refuses_an_equation_that_does_not_fit_the_ranks() -> None:
    _, _, model = einsum("ij->i", np.ones((3, 2), np.float32))
    model.graph.node[0].attribute[0].s = b"ijk->i"
    with pytest.raises(
        UntrainableError, match=r"'node' \(Einsum\) has the equation 'ijk->i', which does not fit rank 2"
    ):
        lowered_by(LowerEinsum(), model)


@pytest.mark.parametrize("equation", ["ij->id", "ij->d"])
def test_refuses_an_equation_whose_result_has_a_letter_of_its_own(equation: str) -> None:
    _, _, model = einsum("ij->i", np.ones((3, 2), np.float32))
    model.graph.node[0].attribute[0].s = equation.encode()
    with pytest.raises(UntrainableError, match=f"has the equation '{equation}', which does not fit its operands"):
        lowered_by(LowerEinsum(), model)


def test_refuses_an_input_of_unknown_rank() -> None:
    _, _, model = einsum("ij->i", np.ones((3, 2), np.float32))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UntrainableError, match=r"'node' \(Einsum\) has an input whose rank is not known"):
        lowered_by(LowerEinsum(), model)


def test_leaves_other_types_alone() -> None:
    _, _, model = einsum("ij->i", np.ones((3, 2), np.float64))
    assert leaves_alone(LowerEinsum(), model)
