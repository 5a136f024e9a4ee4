"""Functions without a slope, beside a path that has one."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests.lowering.gradcheck import DYNAMIC, STATIC, check_forward, check_gradients, lowered_by, one_node
from tgdonnx.lowering.step_functions import LowerStepFunctions

FUNCTIONS = {"Sign": np.sign, "Floor": np.floor, "Ceil": np.ceil, "Round": np.round}


@pytest.mark.training
@pytest.mark.parametrize("op_type", FUNCTIONS)
@pytest.mark.parametrize("dims", [STATIC, DYNAMIC])
@pytest.mark.parametrize("opset", [11, 21])
def test_passes_its_value_on_and_no_gradient(op_type: str, dims: str, opset: int) -> None:
    x = np.random.default_rng(0).normal(0, 3, (2, 3, 4)).astype(np.float32)
    model = one_node(op_type, {"x": x}, opset=opset, dims=dims, outputs=["step"])
    model.graph.node.append(helper.make_node("Mul", ["step", "x"], ["y"]))
    lower = lowered_by(model, LowerStepFunctions())
    check_forward(model, lower, {"x": x})
    slope = FUNCTIONS[op_type](x.astype(np.float64))
    check_gradients(lower, {"x": x}, lambda x: slope * x)
