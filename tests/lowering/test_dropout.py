"""Dropout in inference form is the identity, also while training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.lowering.graphs import lowered, run
from tests.support import models
from tests.support.trainer import make_artifacts, open_trainer, relative_error, true_gradients
from tests.support.training_models import text_model
from tgdonnx.errors import UntrainableError

FORMS = {
    "opset 8": (8, "<ratio = 0.9>(t)", {}),
    "opset 10": (10, "<ratio = 0.9>(t)", {}),
    "opset 12": (12, "(t, ratio)", {"ratio": np.float32(0.9)}),
    "opset 13": (13, "<seed = 3>(t, ratio, training)", {"ratio": np.float32(0.9), "training": np.array(False)}),
    "opset 21": (21, "(t)", {}),
}


def network(
    opset: int, form: str, tensors: dict[str, models.Array], outputs: str = "d", then: str = "d"
) -> onnx.ModelProto:
    return text_model(
        f"""g (float[N, 2, W] x) => (float[N, 3, w] y) {{
            t = Conv(x, w, c)
            [drop] {outputs} = Dropout{form}
            y = Conv({then}, u)
        }}""",
        opset=opset,
        ir_version=10 if opset == 21 else 7,
        w=(4, 2, 2),
        c=(4,),
        u=(3, 4, 1),
        **tensors,
    )


@pytest.mark.parametrize("form", FORMS)
def test_is_taken_out_and_the_model_trains_as_if_it_were_not_there(form: str, tmp_path: Path) -> None:
    model = network(*FORMS[form])
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 2, 7)).astype(np.float32)}
    lower = lowered(model)
    assert "Dropout" not in [node.op_type for node in lower.graph.node]
    assert np.array_equal(run(lower, feeds), run(model, feeds))
    target = np.random.default_rng(1).normal(size=(3, 3, 6)).astype(np.float32)
    loss, gradients = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers())).gradients(feeds["x"], target)
    expected_loss, expected = true_gradients(model, feeds, target)
    assert abs(loss / expected_loss - 1) < 1e-6
    for name in ("w", "c", "u"):
        assert relative_error(gradients[name], expected[name]) <= 1e-5, name


def test_as_the_last_node_keeps_the_name_of_the_output() -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { t = Conv(x, w)\n y = Dropout(t) }", w=(3, 2, 2))
    lower = lowered(model)
    assert [value.name for value in lower.graph.output] == ["y"]
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 2, 7)).astype(np.float32)}
    assert np.array_equal(run(lower, feeds), run(model, feeds))


def test_an_unused_mask_output_does_not_matter() -> None:
    lower = lowered(network(17, "(t)", {}, outputs="d, kept"))
    assert "Dropout" not in [node.op_type for node in lower.graph.node]


def test_refuses_the_training_form() -> None:
    model = network(13, "(t, ratio, training)", {"ratio": np.float32(0.5), "training": np.array(True)})
    with pytest.raises(UntrainableError, match=r"'drop' \(Dropout\) is in training form"):
        lowered(model)


def test_refuses_a_mode_that_is_not_known_before_the_model_runs() -> None:
    model = network(13, "(t, ratio, training)", {"ratio": np.float32(0.5), "training": np.array(False)})
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == "training"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("training", onnx.TensorProto.BOOL, []))
    with pytest.raises(UntrainableError, match=r"'drop' \(Dropout\) is in training form"):
        lowered(model)


def test_refuses_a_mask_that_is_used() -> None:
    model = text_model(
        """g (float[N, 2, W] x) => (float[N, 3, w] y) {
            t = Conv(x, w)
            [drop] d, kept = Dropout(t)
            k = Cast<to = 1>(kept)
            y = Mul(d, k)
        }""",
        w=(3, 2, 2),
    )
    with pytest.raises(UntrainableError, match=r"node 'drop' \(Dropout\) gives a mask that is used"):
        lowered(model)
