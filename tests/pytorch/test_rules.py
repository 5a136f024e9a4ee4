"""Every rule of the table, run by ONNX Runtime in float32, against PyTorch's autograd in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from tests.gradients.checking import gradient_model, model_of, run
from tests.gradients.rule_cases import CASES, Case, as_floats, labelled
from tests.pytorch.operators import OPERATORS, gradients, tensor_of
from tgdonnx.gradients.rule import RULES
from tgdonnx.lowering.fake_quantize import DOMAIN, FAKE_QUANTIZE, expand_fake_quantize, limits

pytestmark = pytest.mark.torch

Array = NDArray[Any]


def test_every_rule_has_a_case_that_pytorch_computes() -> None:
    assert {op_type for domain, op_type in RULES if not domain} <= {
        case.op_type for cases in CASES.values() for case in cases
    } & set(OPERATORS)
    assert {rule for rule in RULES if rule[0]} == {(DOMAIN, FAKE_QUANTIZE)}  # below


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in labelled()])
def test_a_rule_gives_the_gradient_of_pytorch(case: Case) -> None:
    feeds, stored = as_floats(case.feeds), as_floats(case.stored)
    wanted = [name for name, array in feeds.items() if array.dtype.kind == "f"]
    plain = model_of([case.node], feeds, stored, outputs=case.summed, opset=case.opset)
    rng = np.random.default_rng(23)
    weights: list[Array] = []

    def loss(outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        weights.extend(rng.normal(size=tuple(output.shape)).astype(np.float32) for output in outputs)
        return sum((output * tensor_of(weight)).sum() for output, weight in zip(outputs, weights))

    value, expected = gradients(plain, feeds, wanted, loss)
    for kind in case.kinds:
        model = model_of([case.node], feeds, stored, outputs=case.summed, opset=case.opset, kind=kind, held=case.held)
        found = run(gradient_model(model, wanted, weights), feeds)
        size = sum(float(np.abs(weight).sum()) for weight in weights)
        assert found[0] == pytest.approx(value, rel=1e-6, abs=1e-6 * size), kind
        for name, gradient in zip(wanted, found[1:]):
            require_equal(gradient, expected[name], f"{kind}: {name}")


def require_equal(found: Array, expected: Array, what: str) -> None:
    """To 1e-5 of the largest; where a gradient all but vanishes, of the weights of the loss, which are about 1."""
    assert found.shape == expected.shape, what
    error = np.abs(found - expected).max() / max(np.abs(expected).max(), 0.1)
    assert error <= 1e-5, f"{what}: {error:.2g}"


@pytest.mark.parametrize(("least", "most", "offset"), [(0, 255, 120), (-128, 127, 0)], ids=["uint8", "int8"])
def test_rounding_to_a_grid_passes_gradients_where_pytorch_passes_them(least: int, most: int, offset: int) -> None:
    x, scale = np.random.default_rng(3).normal(size=(4, 50)).astype(np.float32), 0.01
    node = helper.make_node(
        FAKE_QUANTIZE, ["x", "scale", "offset"], ["y", "inside"], domain=DOMAIN, **limits(least, most)
    )
    constants = {"scale": np.array(scale, np.float32), "offset": np.array(offset, np.float32)}
    model = model_of([node], {"x": x}, constants)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    weight = np.random.default_rng(4).normal(size=x.shape).astype(np.float32)
    training = ir.from_proto(gradient_model(model, ["x"], [weight]))
    expand_fake_quantize(training)
    _, found = run(ir.to_proto(training), {"x": x})
    leaf = torch.from_numpy(x).requires_grad_()
    rounded = torch.fake_quantize_per_tensor_affine(leaf, scale, offset, least, most)
    (expected,) = torch.autograd.grad((rounded * torch.from_numpy(weight)).sum(), leaf)
    assert 0.1 < float((expected == 0).double().mean()) < 0.9
    np.testing.assert_array_equal(found, expected.numpy())
