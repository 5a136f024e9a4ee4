"""Several outputs that train at once: their sum, the loss and the metrics of each, what else a run does with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles import losses
from tests.support.models import Array, save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.artifacts.manifest import Head, Manifest, read_manifest
from tgdonnx.cli.results import epoch_line
from tgdonnx.engines import ENGINES, EngineName
from tgdonnx.errors import ArtifactsError, DataError, MissingArrayError, UntrainableError
from tgdonnx.finetuning import RunData, TrainOptions, Watch, train
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session
from tgdonnx.graphs.tensor_specs import TensorSpec

NETWORK = """g (float[N, 2, H, W] x) => (float[N, 1, H, W] boxes, float[N, H, W, 3] scores, float[N, 6, H, W] spare) {
    spare = Conv<pads=[1, 1, 1, 1]>(x, v, c)
    r = Relu(spare)
    boxes = Conv(r, w, d)
    logits = Conv(r, u, e)
    scores = Transpose<perm = [0, 2, 3, 1]>(logits)
}"""
LOSS = "boxes: mse(weight=valid), scores: 2*ce(ignore=255)"
RNG = np.random.default_rng(3)
OPTIONS = TrainOptions(epochs=2, batch=3, learning_rate=1e-2)
ON_EACH = pytest.mark.parametrize(
    "engine", ["onnxruntime", pytest.param("onnxruntime-training", marks=pytest.mark.training)]
)


def model() -> onnx.ModelProto:
    return text_model(NETWORK, v=(6, 2, 3, 3), c=(6,), w=(1, 6, 1, 1), d=(1,), u=(3, 6, 1, 1), e=(3,))


def arrays(samples: int = 6) -> dict[str, Array]:
    labels = RNG.integers(0, 3, (samples, 5, 4)).astype(np.uint8)
    labels[0] = 255
    labels[1, 2:] = 255
    valid = RNG.uniform(size=(samples, 1, 5, 4)) > 0.3
    valid[2] = False
    x = RNG.normal(size=(samples, 2, 5, 4)).astype(np.float32)
    return {"x": x, "boxes": RNG.normal(size=(samples, 1, 5, 4)).astype(np.float32), "scores": labels, "valid": valid}


def built(directory: Path, loss: str = LOSS, engine: EngineName = "onnxruntime", **options: Any) -> Path:
    save(model(), directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", tgdonnx.AllLayers(), overwrite=True)
    building = tgdonnx.BuildOptions(loss=loss, engine=engine, **options)
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts", building, overwrite=True)
    return directory / "artifacts"


def outputs(data: Mapping[str, Array]) -> tuple[Array, Array]:
    """Of the vendor's model, with classes as axis 1."""
    boxes, scores = open_session(model()).run(["boxes", "scores"], {"x": data["x"]})
    return boxes.astype(np.float64), np.moveaxis(scores, -1, 1).astype(np.float64)


def test_the_manifest_has_a_head_per_output_and_says_what_every_input_is_for(tmp_path: Path) -> None:
    manifest = read_manifest(built(tmp_path))
    assert manifest.heads == (
        Head("boxes", "boxes", "mse(weight=valid)"),
        Head("scores", "scores", "2.0*ce(ignore=255)", 3, "the model ends in a Transpose that takes axis 1 there"),
    )
    assert manifest.inputs == (
        TensorSpec("x", "float32", (None, 2, None, None)),
        TensorSpec("boxes", "float32", (None, 1, None, None), role="target"),
        TensorSpec("scores", "int64", (None, None, None), 3, role="target"),
        TensorSpec("valid", "float32", (None, None, None, None), role="weights"),
    )
    assert manifest.options.loss == "boxes: mse(weight=valid), scores: 2.0*ce(ignore=255)"
    assert manifest.options.output == "boxes"


@ON_EACH
def test_the_loss_is_the_sum_of_its_parts_and_outputs_are_those_of_the_model(
    engine: EngineName, tmp_path: Path
) -> None:
    data = arrays()
    batch = [data["x"], data["boxes"], data["scores"].astype(np.int64), data["valid"].astype(np.float32)]
    boxes, scores = outputs(data)
    found = Session(built(tmp_path, engine=engine)).evaluate(batch)
    expected = losses.mse(boxes, data["boxes"], data["valid"]), 2 * losses.ce(scores, data["scores"], 255)
    assert found.parts == pytest.approx(expected, rel=1e-5)
    assert found.loss == pytest.approx(sum(expected), rel=1e-5)
    assert np.abs(found.outputs[0] - boxes).max() < 1e-5
    assert np.abs(np.moveaxis(found.outputs[1], -1, 1) - scores).max() < 1e-5


@ON_EACH
@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_step_logs_the_loss_of_each(engine: EngineName, accumulate: int, tmp_path: Path) -> None:
    directory, data = built(tmp_path, engine=engine), arrays()
    options = replace(OPTIONS, epochs=1, batch=3, accumulate=accumulate)
    train(directory, data, options)
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert len(steps) == 2 // accumulate
    order = np.random.default_rng([options.seed, 1]).permutation(6)
    boxes, scores = outputs(data)
    expected = [
        (
            losses.mse(boxes[chosen], data["boxes"][chosen], data["valid"][chosen]),
            2 * losses.ce(scores[chosen], data["scores"][chosen], 255),
        )
        for chosen in (order[:3], order[3:])[:accumulate]
    ]
    assert [steps[0]["losses"][name] for name in ("boxes", "scores")] == pytest.approx(np.mean(expected, 0), rel=1e-5)
    assert sum(steps[-1]["losses"].values()) == pytest.approx(steps[-1]["loss"], rel=1e-6)


@ON_EACH
def test_validation_logs_the_loss_and_the_metrics_of_each_by_what_counts(engine: EngineName, tmp_path: Path) -> None:
    directory, data, said = built(tmp_path, engine=engine), arrays(), []
    report = train(
        directory,
        RunData({**data, "names": np.arange(6)}, validation=data),
        replace(OPTIONS, metrics=("rmse", "accuracy")),
        watch=Watch(on_remark=said.append),
    )
    start, *_, last = report.epochs
    boxes, scores = outputs(data)
    squares = np.where(data["valid"], (boxes - data["boxes"]) ** 2, np.nan)
    per_sample = [np.sqrt(np.nanmean(square)) for place, square in enumerate(squares) if place != 2]
    right = np.where(data["scores"] != 255, scores.argmax(1) == data["scores"], np.nan)
    assert start.metrics["boxes rmse"] == pytest.approx(np.mean(per_sample), rel=1e-5)
    assert start.metrics["scores accuracy"] == pytest.approx(np.nanmean(right[1:].reshape(5, -1), 1).mean(), rel=1e-9)
    assert list(start.metrics) == ["boxes rmse", "scores accuracy", "boxes loss", "scores loss"]
    for epoch in report.epochs:
        parts = [epoch.metrics[name] for name in ("boxes loss", "scores loss")]
        assert sum(part or 0 for part in parts) == pytest.approx(epoch.validation, rel=1e-6)
    assert last.validation is not None
    assert last.validation < (start.validation or 0)
    assert "left out: 'names'; what is taken is x, boxes, scores, valid" in said
    assert "scores: axis 3 counts classes, for the model ends in a Transpose that takes axis 1 there" in said
    record = read_record(directory)
    assert record is not None
    assert record.metrics == ("boxes rmse", "scores accuracy")
    table = (directory / "log.csv").read_text().splitlines()[0]
    assert "validation boxes loss,validation scores loss" in table


def test_a_run_goes_on_as_if_it_was_never_cut_off(tmp_path: Path) -> None:
    data = arrays()
    whole = train(built(tmp_path), data, OPTIONS)
    directory = built(tmp_path)
    train(directory, data, replace(OPTIONS, epochs=1))
    assert train(directory, data, OPTIONS, resume=True).loss == whole.loss


def test_the_vendors_own_task_is_guarded_by_the_first_metric_with_targets_or_without(tmp_path: Path) -> None:
    data = arrays()
    without = {"x": data["x"], "boxes": data["boxes"]}
    for retain, guarded, labelled in ((data, "boxes psnr", True), (without, "boxes rmse", False)):
        directory = built(tmp_path)
        report = train(directory, RunData(data, retain=retain), OPTIONS)
        record = read_record(directory)
        assert record is not None
        assert record.retention is not None
        assert (record.retention.guarded, record.retention.labelled) == (guarded, labelled)
        if not labelled:
            assert set(report.epochs[0].retain) == {"boxes rmse", "scores accuracy", "scores dice"}
            assert report.epochs[0].retain["boxes rmse"] == pytest.approx(0, abs=1e-6)
            assert report.epochs[0].retain["scores accuracy"] == 1


def test_images_to_agree_on_have_a_target_for_each_output(tmp_path: Path) -> None:
    data = arrays()
    data["spare"] = open_session(model()).run(["spare"], {"x": data["x"]})[0]
    directory = built(tmp_path, "boxes: l1, spare: 0.5*mse")
    images = {"x": arrays()["x"]}
    report = train(directory, RunData(data, agree=images), replace(OPTIONS, agree_share=0.5))
    assert report.steps == 8
    with pytest.raises(ArtifactsError, match=r"those of the loss ce\(ignore=255\) are class indices"):
        train(built(tmp_path, "boxes: l1, scores: ce(ignore=255)"), RunData(data, agree=images), OPTIONS)
    with pytest.raises(ArtifactsError, match=r"has no weights, which the loss mse\(weight=valid\) takes from the data"):
        train(
            built(tmp_path, "boxes: mse(weight=valid)"),
            RunData({**data, "target": data["boxes"]}, agree=images),
            OPTIONS,
        )


def test_one_output_that_is_named_is_compared_with_the_array_target(tmp_path: Path) -> None:
    directory, data = built(tmp_path, "scores: ce(ignore=255)"), arrays()
    assert read_manifest(directory).heads[0].target == "target"
    report = train(directory, RunData({"x": data["x"], "labels": data["scores"]}, validation=None), OPTIONS)
    assert report.steps == 4


def test_one_output_that_is_named_is_compared_with_the_array_of_its_name_where_there_is_no_target(
    tmp_path: Path,
) -> None:
    directory, data, said = built(tmp_path, "mse", output="boxes"), arrays(), []
    del data["valid"]
    report = train(directory, data, OPTIONS, watch=Watch(on_remark=said.append))
    assert said == ["left out: 'scores'; what is taken is x, target", "boxes: taken as the target"]
    boxes, _ = outputs(data)
    order = np.random.default_rng([OPTIONS.seed, 1]).permutation(6)[: OPTIONS.batch]
    assert report.loss[0] == pytest.approx(np.mean((boxes - data["boxes"])[order] ** 2), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "options", "kind", "message"),
    [
        ("boxes: l1, z: l1", {}, UntrainableError, "has no output 'z'; expected one of boxes, scores, spare"),
        ("l1", {}, UntrainableError, "or give several a loss, as in `loss='boxes: mse, scores: mse'`"),
        ("boxes: l1, scores: l1", {"output": "boxes"}, ArtifactsError, "names its outputs, and so does output 'boxes'"),
        ("boxes: mse(weight=x), scores: ce", {}, ArtifactsError, "weights from the array 'x', which is an input"),
        ("boxes: l1, scores: ce(class_weights=[1,2])", {}, UntrainableError, r"the output 3 classes \(axis 3\)"),
    ],
)
def test_outputs_and_weights_that_cannot_be_are_refused(
    loss: str, options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        built(tmp_path, loss, **options)


def test_data_that_does_not_fit_is_told_by_the_output(tmp_path: Path) -> None:
    directory, data = built(tmp_path), arrays()
    with pytest.raises(MissingArrayError, match="no array 'boxes'; expected x, boxes, scores, valid"):
        train(directory, {"x": data["x"], "scores": data["scores"], "valid": data["valid"]}, OPTIONS)
    with pytest.raises(DataError, match=r"the target 'boxes' does not fit the output: .* expected \[1, 1, 5, 4\]"):
        train(directory, {**data, "boxes": data["boxes"][:, :, 1:]}, OPTIONS)
    with pytest.raises(DataError, match=r"the weights 'valid' do not fit 'boxes': expected \[1, 1, 5, 4\]"):
        train(directory, {**data, "valid": data["valid"][:, :, 1:]}, OPTIONS)
    with pytest.raises(DataError, match=r"valid\[0, 0, 0, 0\] is -1; expected weights of 0"):
        train(directory, {**data, "valid": -np.ones(data["valid"].shape)}, OPTIONS)
    with pytest.raises(DataError, match=r"needs 'scores' in 0 to 2, found 0 to 255 .*; 1 of 120 values is outside\)"):
        train(
            directory, {**data, "scores": np.where(np.arange(120).reshape(6, 5, 4) == 77, 9, data["scores"])}, OPTIONS
        )
    validated = RunData(data, validation=data)
    with pytest.raises(DataError, match="ssim needs at least 11 elements"):
        train(directory, validated, replace(OPTIONS, metrics=("ssim",)))
    assert not (directory / "run.json").exists()


def test_data_in_which_no_label_counts_is_refused_before_the_first_step(tmp_path: Path) -> None:
    directory, data = built(tmp_path, "ce(ignore=255)", output="scores"), arrays()
    content = {"x": data["x"], "target": data["scores"]}
    ignored = {"x": data["x"], "target": np.full_like(data["scores"], 255)}
    with pytest.raises(DataError, match="nothing to measure, for every label is 255, which the loss ignores; validate"):
        train(directory, RunData(content, validation=ignored), OPTIONS)
    with pytest.raises(DataError, match="nothing to learn from, for every label is 255, which the loss ignores; train"):
        train(directory, RunData(ignored, validation=content), OPTIONS)
    assert not (directory / "run.json").exists()


def test_data_in_which_nothing_of_one_output_counts_is_refused_before_the_first_step(tmp_path: Path) -> None:
    directory, data = built(tmp_path), arrays()
    with pytest.raises(DataError, match="nothing to learn from, for every weight of 'boxes' is 0; train on data"):
        train(directory, {**data, "valid": np.zeros_like(data["valid"])}, OPTIONS)
    assert not (directory / "run.json").exists()


def test_an_output_of_which_nothing_counts_is_not_called_infinite(tmp_path: Path) -> None:
    directory, data = built(tmp_path, "boxes: mse, scores: ce(ignore=255)"), arrays()
    content = {name: data[name] for name in ("x", "boxes", "scores")}
    ignored = {**content, "scores": np.full_like(data["scores"], 255)}
    report = train(directory, RunData(content, validation=ignored), replace(OPTIONS, metrics=("rmse", "accuracy")))
    assert "scores accuracy nothing to measure" in epoch_line(report.epochs[0])
    assert "infinite" not in epoch_line(report.epochs[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_manifest_of_format_2_has_one_head(engine: EngineName, tmp_path: Path) -> None:
    directory = built(tmp_path, "ce(ignore=255)", engine, output="scores")
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    (head,) = content.pop("heads")
    content["format"], content["options"]["class_axis"] = 2, head["class_axis"]
    for spec in content["inputs"]:
        del spec["role"]
    before = read_manifest(directory)
    path.write_text(json.dumps(content))
    assert without_reason(read_manifest(directory)) == replace(without_reason(before), format=2)


def without_reason(manifest: Manifest) -> Manifest:
    return replace(manifest, heads=tuple(replace(head, why_class_axis="") for head in manifest.heads))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["inputs"].reverse(), "inputs are not in the order"),
        (lambda c: c["heads"].reverse(), "heads have other targets than its inputs"),
        (
            lambda c: c["heads"][1].update(class_axis=None),
            r"damaged \(the loss .* does not go with the class_axis None - at `\$.heads",
        ),
        (lambda c: c["heads"][0].update(loss="l3"), r"damaged \(expected loss to be one of .* - at `\$.heads"),
        (lambda c: c["heads"].clear(), "heads"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    directory = built(tmp_path)
    content = json.loads((directory / "manifest.json").read_text())
    change(content)
    (directory / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactsError, match=message):
        read_manifest(directory)
