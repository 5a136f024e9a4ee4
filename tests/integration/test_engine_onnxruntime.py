"""The engine of any ONNX Runtime, from the vendor's file to the proof; `.ci/run` does it again where there is no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.independent import assert_only_changed, expected_masks
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import true_gradients
from tests.support.tuning import PHI, data_for, interrupt
from tgdonnx.artifacts import read_manifest
from tgdonnx.finetuning.session import read_parameters

ENGINE = "onnxruntime"
FORMS = ("masked", "thin")


def weaker(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Images, and four fifths of what the vendor makes of them: that can be learned."""
    x = np.random.default_rng(seed).normal(size=(4, 3, 7, 8)).astype(np.float32)
    return {"x": x, "target": (0.8 * outputs(model.SerializeToString(), x)).astype(np.float32)}


def outputs(model: bytes, x: Array) -> Array:
    return np.asarray(open_session(model).run(None, {"x": x})[0])


def mean_square(model: bytes, data: dict[str, Array]) -> float:
    return float(np.square(outputs(model, data["x"]).astype(np.float64) - data["target"]).mean())


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_tuned_validated_reported_and_proved(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = models.dncnn(0)
    base, tuned = models.save(model, tmp_path / "model.onnx"), tmp_path / "tuned.onnx"
    validation = weaker(model, 2)
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(weaker(model, 3), validation=validation),
        tuned,
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=3, batch=1, accumulate=2, learning_rate=3e-2),
        building=tgdonnx.BuildOptions(engine=ENGINE, form=form),
        results=tgdonnx.Results(report=tmp_path / "report.html", artifacts=tmp_path / "artifacts"),
    )
    assert read_manifest(tmp_path / "artifacts").engine == ENGINE
    assert report.train.steps == 6
    assert report.verify.ok
    assert report.verify.proof == "recomputed"
    assert_only_changed(model, base.read_bytes(), tuned.read_bytes(), expected_masks(model, PHI))
    epochs = {epoch.step: epoch.validation for epoch in report.train.epochs}
    assert epochs[0] == pytest.approx(mean_square(base.read_bytes(), validation), rel=1e-5)
    assert epochs[report.train.best.step] == pytest.approx(mean_square(tuned.read_bytes(), validation), rel=1e-5)
    assert min(epochs.values()) == epochs[report.train.best.step] < 0.9 * epochs[0]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "tuned.onnx" in page
    assert page.count("<svg") + page.count("<img") > 1
    assert not caplog.records, "libraries log what a user of the Python API sees on the terminal"


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(form: str, accumulate: int, tmp_path: Path) -> None:
    model = models.dncnn(0)
    tgdonnx.mask(models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", tgdonnx.Phi(PHI))
    run = tgdonnx.TrainOptions(epochs=3, batch=2, learning_rate=1e-3, accumulate=accumulate, schedule="cosine")
    losses = []
    for name in ("whole", "cut"):
        directory = tmp_path / name
        tgdonnx.build(
            tmp_path / "masked.onnx", directory, tgdonnx.BuildOptions(engine=ENGINE, form=form, clip_norm=0.5)
        )
        if name == "cut":
            with pytest.raises(InterruptedError):
                tgdonnx.train(
                    directory,
                    tgdonnx.RunData(data_for(model), validation=weaker(model, 2)),
                    run,
                    watch=tgdonnx.Watch(on_progress=interrupt),
                )
        report = tgdonnx.train(
            directory, tgdonnx.RunData(data_for(model), validation=weaker(model, 2)), run, resume=name == "cut"
        )
        losses.append(([epoch.validation for epoch in report.epochs], report.loss))
        tgdonnx.export(directory, tmp_path / f"{name}.onnx")
    assert losses[0] == losses[1]
    whole, cut = ((tmp_path / f"{name}.onnx").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert whole != (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_a_step_over_several_batches_follows_the_gradient_of_all_of_them_in_float64(form: str, tmp_path: Path) -> None:
    model, rate = models.dncnn(0), 1e-4
    data = data_for(model)
    chosen = tgdonnx.Filters({"w2": [1, 7], "w4": [2]})
    tgdonnx.mask(models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", chosen)
    tgdonnx.build(
        tmp_path / "masked.onnx",
        tmp_path / "artifacts",
        tgdonnx.BuildOptions(engine=ENGINE, form=form, optimizer="sgd"),
    )
    before = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    run = tgdonnx.TrainOptions(steps=1, batch=2, accumulate=3, learning_rate=rate)
    tgdonnx.train(tmp_path / "artifacts", data, run)
    after = read_parameters(tmp_path / "artifacts", "state.safetensors")
    net = NumpyNet(model)
    name = net.outputs[0]
    output = net.run({"x": data["x"]})[name]
    gradients = net.gradients({"x": data["x"]}, {name: 2 * (output - data["target"]) / output.size})
    for tensor in read_manifest(tmp_path / "artifacts").trained:
        rows = list(tensor.retrain)
        old = before[tensor.vendor_name][rows].astype(np.float64)
        new = after[tensor.name] if tensor.part is not None else after[tensor.name][rows]
        expected = old - rate * gradients[tensor.vendor_name][rows]
        assert np.abs(new - expected).max() <= 1e-3 * np.abs(expected - old).max() + 1e-7 * np.abs(old).max()


def test_one_changed_bit_of_a_frozen_filter_is_no_proof(tmp_path: Path) -> None:
    model = models.chain(0)
    base, tuned = models.save(model, tmp_path / "model.onnx"), tmp_path / "tuned.onnx"
    options = tgdonnx.TrainOptions(steps=2, batch=3, learning_rate=1e-3)
    tgdonnx.finetune(
        base,
        data_for(model),
        tuned,
        tgdonnx.Filters({"w2": [0]}),
        options,
        building=tgdonnx.BuildOptions(engine=ENGINE),
    )
    assert tgdonnx.verify(base, tuned).ok
    changed = bytearray(tuned.read_bytes())
    (frozen,) = (tensor.raw_data for tensor in model.graph.initializer if tensor.name == "w3")
    changed[changed.index(frozen) + 5] ^= 4
    tuned.write_bytes(changed)
    report = tgdonnx.verify(base, tuned)
    assert not report.ok
    assert any("'w3'" in violation for violation in report.violations)


@pytest.mark.parametrize("form", FORMS)
def test_momentum_is_that_of_the_textbook_with_gradients_in_float64(form: str, tmp_path: Path) -> None:
    model, rate, steps = models.chain(0), 2e-3, 4
    data = data_for(model)
    tgdonnx.mask(models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", tgdonnx.Filters({"w2": [0, 1]}))
    chosen = tgdonnx.BuildOptions(engine=ENGINE, form=form, optimizer="sgd", momentum=0.9)
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", chosen)
    run = tgdonnx.TrainOptions(steps=steps, batch=len(data["x"]), learning_rate=rate)
    tgdonnx.train(tmp_path / "artifacts", data, run)
    found = read_parameters(tmp_path / "artifacts", "state.safetensors")
    start = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    tensors, moved = dict(start), {name: np.zeros(array.shape) for name, array in start.items()}
    for _ in range(steps):
        _, gradients = true_gradients(model, {"x": data["x"]}, data["target"], tensors=tensors)
        for tensor in read_manifest(tmp_path / "artifacts").trained:
            name, rows = tensor.vendor_name, list(tensor.retrain)
            moved[name][rows] = 0.9 * moved[name][rows] + gradients[name][rows]
            tensors[name] = tensors[name] - rate * moved[name]
    for tensor in read_manifest(tmp_path / "artifacts").trained:
        rows = list(tensor.retrain)
        new = found[tensor.name] if tensor.part is not None else found[tensor.name][rows]
        expected, old = tensors[tensor.vendor_name][rows], start[tensor.vendor_name][rows]
        assert np.abs(expected - old).max() > 1e-3 * np.abs(old).max()
        assert np.abs(new - expected).max() <= 1e-4 * np.abs(expected - old).max() + 1e-7 * np.abs(old).max()


def test_a_run_with_momentum_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path) -> None:
    model = models.chain(0)
    tgdonnx.mask(models.save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", tgdonnx.AllLayers())
    found = []
    for name, lengths in {"whole": [6], "cut": [3, 6]}.items():
        chosen = tgdonnx.BuildOptions(engine=ENGINE, optimizer="sgd", momentum=0.9)
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / name, chosen)
        for steps in lengths:
            run = tgdonnx.TrainOptions(steps=steps, batch=2, learning_rate=1e-4)
            report = tgdonnx.train(tmp_path / name, data_for(model), run, resume=steps != lengths[0])
        found.append(report.loss)
        tgdonnx.export(tmp_path / name, tmp_path / f"{name}.onnx")
    assert found[0] == found[1]
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "cut.onnx").read_bytes()


@pytest.mark.parametrize("form", FORMS)
def test_sizes_that_a_file_declares_as_minus_one_are_open(form: str, tmp_path: Path) -> None:
    model = models.dncnn(0)
    for size in model.graph.input[0].type.tensor_type.shape.dim:
        if size.dim_param:
            size.dim_value = -1
    base, tuned = models.save(model, tmp_path / "model.onnx"), tmp_path / "tuned.onnx"
    report = tgdonnx.finetune(
        base,
        tgdonnx.RunData(weaker(models.dncnn(0), 3)),
        tuned,
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=2, batch=2, learning_rate=1e-3),
        building=tgdonnx.BuildOptions(engine=ENGINE, form=form),
    )
    assert report.train.loss[-1] < report.train.loss[0]
    assert report.verify.ok
