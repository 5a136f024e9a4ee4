"""Every operator that trains, lowered or not, between two Convs: gradients of the engine onnxruntime against PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.engines.onnxruntime.artifact_gradients import gradients_of
from tests.lowering.operators import CASES, Case, between
from tests.pytorch.operators import gradients, run, tensor_of
from tests.support import models

pytestmark = pytest.mark.torch


def labelled() -> list[Any]:
    return [
        pytest.param(case, id=f"{op_type}-{place}")
        for op_type, cases in CASES.items()
        for place, case in enumerate(cases)
        if not case.straight
    ]


@pytest.mark.parametrize("case", labelled())
def test_gradients_are_those_of_pytorch(case: Case, tmp_path: Path) -> None:
    require_gradients_of_pytorch(case.model(), tmp_path)


def test_a_group_norm_with_a_scale_per_group_trains(tmp_path: Path) -> None:
    # Of operator set 18: a form that ONNX withdrew, and that its checker does not take.
    model = between("b = InstanceNormalization<epsilon = 0.01>(a, s, o)", s=(4,), o=(4,)).model()
    (node,) = (node for node in model.graph.node if node.op_type == "InstanceNormalization")
    node.op_type = "GroupNormalization"
    node.attribute.append(helper.make_attribute("num_groups", 2))
    for tensor in model.graph.initializer:
        if tensor.name in ("s", "o"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:2], tensor.name))
    require_gradients_of_pytorch(model, tmp_path)


def require_gradients_of_pytorch(model: onnx.ModelProto, directory: Path) -> None:
    path = models.save(model, directory / "model.onnx")
    tgdonnx.mask(path, directory / "masked.onnx", tgdonnx.AllLayers())
    built = tgdonnx.build(
        directory / "masked.onnx", directory / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime", form="thin")
    )
    rng = np.random.default_rng(2)
    shape = [dim.dim_value or None for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(size=[size or 7 for size in (3, *shape[1:])]).astype(np.float32)
    feeds = {model.graph.input[0].name: x}
    target = rng.normal(size=tuple(run(model, feeds)[0].shape)).astype(np.float32)
    wide = tensor_of(target)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    starts = {name: stored[name] for name in built.trained}
    _, expected = gradients(model, feeds, built.trained, lambda outputs: ((outputs[0] - wide) ** 2).mean(), starts)
    largest = max(float(np.abs(truth).max()) for truth in expected.values())
    for tensor, gradient in gradients_of(directory / "artifacts", [x, target]):
        truth = expected[tensor.vendor_name]
        # The bias before a norm has none, but for the rounding of what cancels.
        error = np.abs(gradient - truth).max() / max(float(np.abs(truth).max()), 1e-2 * largest)
        assert error <= 1e-5, f"{tensor.vendor_name}: {error:.2g}"
