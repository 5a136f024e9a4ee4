"""What the check says is what the build does."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.oracles.float64 import Loss
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tests.support.models import MODELS, Builder
from tests.support.training_models import text_model
from tgdonnx.errors import ArtifactsError, OutputError, TgdonnxError, UntrainableError
from tgdonnx.finetuning import TrainOptions
from tgdonnx.finetuning.session import Session, read_parameters


def between(lines: str, **tensors: object) -> object:
    return text_model(
        f"g (float[N, 2, 8] x) => (float[N, m, w] y) {{ a = Conv(x, w1)\n {lines}\n c = Conv(b, w2)\n y = Conv(c, w3) }}",
        w1=(4, 2, 1),
        w2=(4, 4, 1),
        w3=(3, 4, 1),
        **tensors,
    )


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_a_model_that_is_trainable_builds_and_one_that_is_not_does_not(builder: Builder, tmp_path: Path) -> None:
    path = models.save(builder(0), tmp_path / "model.onnx")
    trainable = tgdonnx.check(path).trainable
    output = str(builder(0).graph.output[0].name)
    try:
        tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.Percentile(60))
    except TgdonnxError:
        tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    assert tgdonnx.check(tmp_path / "masked.onnx").trainable == trainable
    try:
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(output=output))
    except UntrainableError:
        assert not trainable
    else:
        assert trainable


def test_a_node_without_a_gradient_is_named_and_blocks_only_filters_before_it(tmp_path: Path) -> None:
    path = models.save(between("[culprit] b = Hardmax<axis = 1>(a)"), tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "early.onnx", tgdonnx.FirstLayers(1))
    report = tgdonnx.check(tmp_path / "early.onnx")
    assert not report.trainable
    first = report.findings[0]
    assert (first.code, first.severity, first.node, first.op_type) == ("TGD005", "error", "culprit", "Hardmax")
    assert "`last`" in report.findings[0].remedy
    tgdonnx.mask(path, tmp_path / "late.onnx", tgdonnx.LastLayers(1))
    assert tgdonnx.check(tmp_path / "late.onnx").trainable


def test_a_lowered_node_says_by_what_and_others_that_they_train_as_they_are(tmp_path: Path) -> None:
    model = between('r = Relu(a)\n[border] b = Pad<mode = "reflect">(r, p)', p=np.array([0, 0, 1, 0, 0, 1]))
    path = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    told = {f.op_type: (f.code, f.message) for f in tgdonnx.check(tmp_path / "masked.onnx").findings}
    assert told["Relu"] == ("TGD011", "trains as it is")
    assert told["Pad"] == ("TGD010", "lowered by LowerPad")


def test_several_outputs_without_a_choice_are_a_question_and_the_answer_is_of_the_first_that_trains(
    tmp_path: Path,
) -> None:
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 4, 8] hard, float[N, 3, 8] y, int64[N, 1, 8] place)
        { a = Conv(x, w1)\n hard = Hardmax<axis = 1>(a)\n y = Conv(a, w2)\n place = ArgMax<axis = 1>(y) }""",
        w1=(4, 2, 1),
        w2=(3, 4, 1),
    )
    path = models.save(model, tmp_path / "model.onnx")
    report = tgdonnx.check(path)
    assert report.trainable
    first = report.findings[0]
    assert (first.code, first.severity) == ("TGD002", "warning")
    assert first.message == "the model has 3 outputs; found out for 'y', the first that can be trained on"
    assert first.remedy == "choose one with `output`: hard, y, place"
    assert "TGD002" not in {finding.code for finding in tgdonnx.check(path, output="y").findings}
    assert [f.code for f in tgdonnx.check(path, output="hard").findings if f.severity == "error"] == ["TGD005"]
    (wrong,) = (f for f in tgdonnx.check(path, output="place").findings if f.severity == "error")
    assert (wrong.code, wrong.message) == ("TGD002", "the output 'place' is INT64")


def test_a_model_whose_weights_are_all_computed_is_told_so(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 3, 8] y) <int8[3, 2, 1] q = {1, 2, 3, 4, 5, 6}>
        { r = Cast<to = 1>(q)\n [decode] k = Mul(r, s)\n [conv] y = Conv(x, k) }""",
        s=(3, 1, 1),
    )
    report = tgdonnx.check(models.save(model, tmp_path / "model.onnx"))
    assert not report.trainable
    (finding,) = (f for f in report.findings if f.severity == "error")
    assert (finding.code, finding.message.partition(" (")[0]) == ("TGD003", "none of the 1 layers can retrain")
    assert finding.remedy == "ask for the model with its weights stored as floating-point numbers"


def test_an_old_operator_that_cannot_be_converted_is_an_error_with_its_name(tmp_path: Path) -> None:
    model = between("[old] b = Dropout(a)")
    model.opset_import[0].version = 6
    (finding,) = tgdonnx.check(models.save(model, tmp_path / "model.onnx")).findings
    assert (finding.code, finding.severity) == ("TGD001", "error")
    assert "node 'old' (Dropout) is in training form" in finding.message
    assert finding.remedy == "export the model for inference"


def test_what_only_the_runtime_refuses_is_found_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UntrainableError("ONNX Runtime cannot build the gradient", remedy="report it")

    def fail(*_: object, **__: object) -> None:
        raise ArtifactsError("ONNX Runtime cannot load the artifacts", remedy="report that")

    path = models.save(models.chain(0), tmp_path / "model.onnx")
    for place, name, code, act, remedy in (
        (Session, "__init__", "TGD008", fail, "report that"),
        (sys.modules["tgdonnx.engines.onnxruntime.engine"], "make_models", "TGD006", refuse, "report it"),
    ):
        monkeypatch.setattr(place, name, act)
        report = tgdonnx.check(path)
        assert not report.trainable
        assert [(f.code, f.remedy) for f in report.findings if f.severity == "error"] == [(code, remedy)]


def test_what_is_tried_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = (
        models.save(models.chain(0), tmp_path / "there" / "model.onnx")
        if (tmp_path / "there").mkdir() is None
        else None
    )
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert tgdonnx.check(path).trainable
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["model.onnx"]
    assert not list((tmp_path / "temporary").iterdir())


def test_what_is_not_tried_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.save(models.chain(0), tmp_path / "model.onnx")
    monkeypatch.setattr("tgdonnx.trial.MOST_BYTES", 100)
    report = tgdonnx.check(path)
    assert report.trainable
    (said,) = (f for f in report.findings if f.code == "TGD105")
    assert said.severity == "warning"
    assert "opening the session were not tried: the model has" in said.message


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_recurrent_branch_that_no_gradient_passes_trains_beside_filters(
    op_type: str, direction: str, tmp_path: Path
) -> None:
    gates, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type], 2 if direction == "bidirectional" else 1
    model = text_model(
        f"""g (float[N, 3, 8] x) => (float[N, 3, 8] y) {{
            a = Conv(x, w1)
            t = Transpose<perm = [2, 0, 1]>(x)
            h = {op_type}<hidden_size = 4, direction = "{direction}">(t, wx, wh)
            s = ReduceSum<keepdims = 0>(h, axis)
            u = Transpose<perm = [1, 2, 0]>(s)
            m = Mul(a, u)
            y = Conv(m, w2)
        }}""",
        w1=(4, 3, 1),
        w2=(3, 4, 1),
        wx=(ways, gates * 4, 3),
        wh=(ways, gates * 4, 4),
        axis=np.array([1]),
    )
    path, masked = models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    tgdonnx.mask(path, masked, tgdonnx.AllLayers())
    assert tgdonnx.check(masked).trainable
    tgdonnx.build(masked, tmp_path / "artifacts", tgdonnx.BuildOptions(optimizer="sgd", output="y"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 8)).astype(np.float32)
    loss = Loss(model, {"x": x})
    target = loss.aim(rng)
    report = tgdonnx.train(
        tmp_path / "artifacts", {"x": x, "target": target}, TrainOptions(steps=1, batch=4, learning_rate=0.5)
    )
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert report.loss[0] == pytest.approx(loss(before), rel=1e-4)
    after = read_parameters(tmp_path / "artifacts", CHECKPOINT)
    for name in ("w1", "w2"):
        moved = (before[name].astype(np.float64) - after[name]) / 0.5
        direction_ = rng.normal(size=moved.shape)
        assert (moved * direction_).sum() == pytest.approx(loss.slope(before, name, direction_), rel=2e-3, abs=1e-4)


def test_errors_say_problem_remedy_and_node_and_read_as_one_sentence() -> None:
    error = UntrainableError("node 'a' (Op) is odd", remedy="leave it out", node="a", op_type="Op")
    assert (str(error), error.problem, error.remedy, error.node) == (
        "node 'a' (Op) is odd; leave it out",
        "node 'a' (Op) is odd",
        "leave it out",
        "a",
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.remedy) == (str(error), error.remedy)
    assert str(OutputError("full", remedy="make room")) == "full; make room"


def test_a_product_with_a_matrix_under_an_old_operator_set_trains(tmp_path: Path) -> None:
    # Below opset 11 the runtime would write the gradient of this MatMul as a Gemm of two inputs, which it lacks there.
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 4, 3] y) {
            a = Conv(x, w1)
            b = Conv(a, w2)
            y = MatMul(b, matrix)
        }""",
        opset=8,
        w1=(4, 2, 1),
        w2=(4, 4, 1),
        matrix=(8, 3),
    )
    path = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    assert tgdonnx.check(tmp_path / "masked.onnx").trainable
    assert "matrix" in tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts").trained


def test_declared_shapes_that_cannot_be_are_a_warning_with_both_shapes(tmp_path: Path) -> None:
    model = models.chain(0)
    assert not [f for f in tgdonnx.check(models.save(model, tmp_path / "right.onnx")).findings if f.code == "TGD104"]
    first = model.graph.node[0].output[0]
    model.graph.value_info.append(helper.make_tensor_value_info(first, 1, ["N", 9, None, None]))
    del model.graph.output[0].type.tensor_type.shape.dim[3]
    path = tmp_path / "wrong.onnx"
    path.write_bytes(model.SerializeToString())
    report = tgdonnx.check(path)
    assert report.trainable
    wrong = {f.node: f for f in report.findings if f.code == "TGD104"}
    assert list(wrong) == ["conv1", "conv4"]
    assert {f.severity for f in wrong.values()} == {"warning"}
    assert wrong["conv1"].message.startswith(f"{first!r} is declared as [?, 9, ?, ?], but is [?, 8, ?, ?]; ")
    assert "is declared as [?, 4, ?], but is [?, 4, ?, ?]; " in wrong["conv4"].message
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
