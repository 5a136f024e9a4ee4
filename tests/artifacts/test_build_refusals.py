"""What a build takes and what it refuses, by name, and that nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.artifacts.built import masked, refused
from tests.support import models
from tests.support.trainer import make_artifacts, open_trainer
from tests.support.training_models import text_model
from tgdonnx.errors import ArtifactsError, MaskedModelError, UntrainableError


def one_op(operator: str, *, opset: int = 17, ir_version: int = 8, **tensors: Any) -> onnx.ModelProto:
    """Conv, the operator (from a to b), Conv."""
    return text_model(
        f"g (float[N, 2, W] x) => (float[N, 3, w] y) {{ a = Conv(x, w)\n {operator}\n y = Conv(b, v) }}",
        opset=opset,
        ir_version=ir_version,
        w=(4, 2, 1),
        v=(3, 4, 1),
        **tensors,
    )


def test_refuses_an_operator_that_is_newer_than_the_runtime_by_name(tmp_path: Path) -> None:
    operator = "[culprit] c = CumProd(a, axis)\n b = Add(a, c)"
    model = one_op(operator, opset=26, ir_version=10, axis=np.array(2))
    path = masked(model, tmp_path, tgdonnx.AllLayers())
    refused(tmp_path, path, UntrainableError, r"node 'culprit' \(CumProd\) is not part of opset 21")


@pytest.mark.parametrize("opset", [22, 24])
def test_newer_operator_sets_whose_operators_mean_the_same_are_trained(opset: int, tmp_path: Path) -> None:
    path = masked(one_op("b = Relu(a)", opset=opset, ir_version=10), tmp_path, tgdonnx.AllLayers())
    tgdonnx.build(path, tmp_path / "artifacts")
    imports = {entry.domain: entry.version for entry in onnx.load(tmp_path / "artifacts/eval.onnx").opset_import}
    assert imports[""] == 21


def test_refuses_several_outputs_without_a_choice_and_an_output_that_is_not_there(tmp_path: Path) -> None:
    path = masked(models.gated(0), tmp_path)
    refused(tmp_path, path, UntrainableError, "2 outputs; choose one with `output`: y, side")
    refused(tmp_path, path, UntrainableError, "no output 'z'; expected one of y, side", output="z")


def test_refuses_an_output_that_no_retrained_filter_reaches(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, W] x) => (float[N, 3, w] y, float[N, 1, w] z) { y = Conv(x, w)\n z = Conv(x, v) }",
        w=(3, 2, 1),
        v=(1, 2, 1),
    )
    path = masked(model, tmp_path, tgdonnx.Filters({"w": [0]}))
    refused(tmp_path, path, UntrainableError, "'z' depends on no retrained filter", output="z")


def with_branches(then: str) -> onnx.ModelProto:
    return text_model(
        f"""g (float[N, 2, W] x, bool c) => (float[N, 3, W] y) {{ a = Conv(x, w)
        [choice] b = If(c) <then_branch = t () => (float[N, 3, W] p) {{ {then} }},
                            else_branch = e () => (float[N, 3, W] q) {{ q = Sigmoid(a) }}>
        y = Add(a, b) }}""",
        w=(3, 2, 1),
    )


def test_filters_train_before_branches_that_read_what_they_make(tmp_path: Path) -> None:
    # Neither branch is fed by an input of If.
    directory = make_artifacts(with_branches("p = Neg(a)"), tmp_path, tgdonnx.AllLayers())
    x, target = (np.random.default_rng(0).normal(size=(2, size, 5)).astype(np.float32) for size in (2, 3))
    _, negated = open_trainer(directory).gradients(x, np.array(True), target)
    assert not negated["w"].any(), "a - a is 0, whatever the filters are"
    _, found = open_trainer(directory).gradients(x, np.array(False), target)
    assert found["w"].any()


def test_filters_inside_a_branch_train(tmp_path: Path) -> None:
    model = with_branches("p = Identity(a)")
    choice = model.graph.node[1]
    inside = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, (3, 2, 1), [1, 2, 3, 4, 5, 6])
    then = next(attribute.g for attribute in choice.attribute if attribute.name == "then_branch")
    then.initializer.append(inside)
    then.node[0].CopyFrom(onnx.helper.make_node("Conv", ["x", "v"], ["p"], name="inner"))
    path = masked(model, tmp_path, tgdonnx.Filters({"v": [0]}))
    assert tgdonnx.build(path, tmp_path / "artifacts").trained == ("v",)


@pytest.mark.parametrize("operator", ["Hardmax", "LpPool<kernel_shape = [1]>"])
def test_refuses_an_operator_without_gradient_behind_a_retrained_filter_by_name(operator: str, tmp_path: Path) -> None:
    path = masked(one_op(f"[culprit] b = {operator}(a)"), tmp_path, tgdonnx.Filters({"w": [1]}))
    refused(tmp_path, path, UntrainableError, rf"node 'culprit' \({operator.partition('<')[0]}\) .*has no gradient")


def test_refuses_an_operator_of_another_domain_behind_a_retrained_filter(tmp_path: Path) -> None:
    model = one_op("b = Relu(a)")
    model.graph.node[1].domain = "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    refused(tmp_path, masked(model, tmp_path, tgdonnx.AllLayers()), UntrainableError, r"node 'B' \(elsewhere\.Relu\)")


@pytest.mark.parametrize("text", ["b = Elu(a)", "h = HardSwish(x)\n c = Conv(h, w2)\n b = Add(a, c)"])
def test_an_operator_without_gradient_elsewhere_does_not_stand_in_the_way(text: str, tmp_path: Path) -> None:
    model = one_op(text, **({"w2": (4, 2, 1)} if "w2" in text else {}))
    chosen = {"v": [1]} if text.startswith("b") else {"w": [0], "w2": [2]}
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters(chosen))
    x = np.random.default_rng(0).normal(size=(2, 2, 5)).astype(np.float32)
    _, gradients = open_trainer(directory).gradients(x, np.ones((2, 3, 5), np.float32))
    assert set(gradients) == set(chosen)
    assert all(gradients[name][rows].any() for name, rows in chosen.items())


def half_model(dtype: Any) -> onnx.ModelProto:
    return text_model(
        f"""g ({dtype.__name__ if dtype is np.float16 else "double"}[N, 2, W] x) => (float[N, 3, w] y) {{
            a = Conv(x, narrow)
            b = Cast<to = 1>(a)
            y = Conv(b, v)
        }}""",
        narrow=np.random.default_rng(0).normal(size=(4, 2, 1)).astype(dtype),
        v=(3, 4, 1),
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_precisions_train_in_float32_and_are_rounded_to_their_own(dtype: Any, tmp_path: Path) -> None:
    path = masked(half_model(dtype), tmp_path, tgdonnx.Filters({"narrow": [1, 2]}))
    report = tgdonnx.build(path, tmp_path / "artifacts")
    assert [spec.dtype for spec in report.inputs] == ["float32", "float32"]
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.normal(size=(4, 2, 5)).astype(np.float32),
        "target": rng.normal(size=(4, 3, 5)).astype(np.float32),
    }
    tgdonnx.train(tmp_path / "artifacts", feeds, tgdonnx.TrainOptions(epochs=5, learning_rate=0.01))
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "tuned.onnx")
    before, after = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer}
        for p in (path, tmp_path / "tuned.onnx")
    )
    assert after["narrow"].dtype == dtype
    assert (after["narrow"] != before["narrow"]).any(axis=(1, 2)).tolist() == [False, True, True, False]
    assert after["v"].tobytes() == before["v"].tobytes()


def test_refuses_an_output_of_whole_numbers(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, W] x) => (int32[N, 3, w] y) { a = Conv(x, w)\n y = Cast<to = 6>(a) }", w=(3, 2, 1)
    )
    refused(tmp_path, masked(model, tmp_path, tgdonnx.AllLayers()), UntrainableError, "output 'y' is INT32")


def test_refuses_gates_where_masks_are_per_kernel(tmp_path: Path) -> None:
    path = masked(models.dncnn(0), tmp_path, mode="readers")
    refused(tmp_path, path, MaskedModelError, "per kernel, but gradient 'gate'", gradient="gate")


def test_refuses_a_model_without_masks(tmp_path: Path) -> None:
    path = models.save(models.dncnn(0), tmp_path / "model.onnx")
    refused(tmp_path, path, MaskedModelError, "no retrain masks")


def test_refuses_masks_that_let_nothing_train(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path, tgdonnx.Filters({"w1": [0]}))
    data = path.read_bytes()
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".retrain_mask"):
            data = data.replace(tensor.SerializeToString(), zeroed(tensor).SerializeToString())
    path.write_bytes(data)
    refused(tmp_path, path, MaskedModelError, "lets anything train")


def zeroed(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -1e-3}, "expected l2 >= 0, got -0.001"),
        ({"l2": float("nan")}, "expected l2 >= 0, got nan"),
        ({"l2": float("inf")}, "expected l2 >= 0, got inf"),
        ({"l2_sp": -1e-3}, "expected l2_sp >= 0, got -0.001"),
        ({"l2_sp": float("nan")}, "expected l2_sp >= 0, got nan"),
        ({"data_range": 0.0}, "expected a data range > 0, got 0"),
        ({"data_range": float("inf")}, "expected a data range > 0, got inf"),
        ({"loss": "mse+ce"}, "ce and mse do not go together"),
        ({"clip_norm": 0.0}, "expected a clip norm > 0, got 0"),
        ({"clip_norm": -1.0}, "expected a clip norm > 0, got -1"),
        ({"clip_norm": float("nan")}, "expected a clip norm > 0, got nan"),
        ({"loss": "hubert"}, "mse, l1, huber, charbonnier"),
        ({"optimizer": "adam"}, "adamw, sgd"),
        ({"gradient": "gates"}, "mask, gate"),
    ],
)
def test_refuses_options_out_of_range_and_names_it_does_not_know(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(tmp_path, masked(models.chain(0), tmp_path), ArtifactsError, message, **options)


def test_momentum_is_refused_by_the_engine_that_has_none(tmp_path: Path) -> None:
    asked = {"optimizer": "sgd", "momentum": 0.9, "engine": "onnxruntime-training"}
    refused(
        tmp_path, masked(models.chain(0), tmp_path), ArtifactsError, "onnxruntime-training has no sgd with", **asked
    )
