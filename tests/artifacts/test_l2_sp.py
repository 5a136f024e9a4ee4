"""The pull to the vendor's values, L2-SP: its formula, in both forms, and what it must not move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.artifacts.selections import batch_for
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import make_artifacts, open_trainer, relative_error, true_gradients
from tgdonnx.artifacts import read_manifest
from tgdonnx.finetuning import TrainOptions

FORMS = ("masked", "thin")
ROWS = {"w1": [1, 2], "w2": [0, 9], "w3": [6]}
TRAINED = {  # of `models.dncnn`, with the tensors that share a mask
    **{"w1": [1, 2], "b1": [1, 2], "w2": [0, 9], "bn2_scale": [0, 9], "bn2_offset": [0, 9]},
    **{"w3": [6], "b3": [6], "bn3_scale": [6], "bn3_offset": [6]},
}


def tensors(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def rows_of(directory: Path, values: dict[str, Array]) -> dict[str, Array]:
    """For each tensor that trains the rows that do, by its name in the vendor's file."""
    found = {}
    for entry in read_manifest(directory).trained:
        rows = values[entry.name]
        found[entry.vendor_name] = rows if entry.part is not None else rows[TRAINED[entry.vendor_name]]
    return found


def build(tmp_path: Path, **options: Any) -> tuple[onnx.ModelProto, Path]:
    model = models.dncnn(2)
    return model, make_artifacts(model, tmp_path, tgdonnx.Filters(ROWS), **options)


@pytest.mark.parametrize("form", FORMS)
def test_at_the_start_it_adds_exactly_nothing(form: str, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    model, directory = build(tmp_path, form=form, l2_sp=7.0)
    _, plain = build(tmp_path / "plain", form=form)
    feeds, target = batch_for(model)
    pulled, expected = (open_trainer(path).gradients(*feeds.values(), target) for path in (directory, plain))
    assert pulled[0] == expected[0]
    assert pulled[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert np.array_equal(pulled[1][name], gradient), name


@pytest.mark.parametrize("l2", [0.0, 0.5])
@pytest.mark.parametrize("form", FORMS)
def test_it_adds_the_way_from_the_vendors_values_to_all_that_trains(form: str, l2: float, tmp_path: Path) -> None:
    model, directory = build(tmp_path, form=form, l2_sp=3.5, l2=l2)
    feeds, target = batch_for(model)
    trainer = open_trainer(directory)
    for _ in range(2):
        trainer.step(0.01, *feeds.values(), target)
    start, now = tensors(model), dict(tensors(model))
    for name, rows in rows_of(directory, trainer.parameters).items():
        now[name] = start[name].copy()
        now[name][TRAINED[name]] = rows
        assert np.abs(now[name] - start[name]).max() > 1e-4, f"{name} has moved"
    loss, gradients = trainer.gradients(*feeds.values(), target)
    expected_loss, expected = true_gradients(model, feeds, target, tensors={k: v.astype(float) for k, v in now.items()})
    assert abs(loss / expected_loss - 1) < 1e-6, "the loss that is told is the loss alone"
    found = rows_of(directory, gradients)
    assert found.keys() == TRAINED.keys()
    for name, rows in TRAINED.items():
        pull = 3.5 * (now[name] - start[name]) + (l2 * now[name] if name in ROWS else 0)
        assert relative_error(found[name], (expected[name] + pull)[rows]) < 1e-5, name
    if form == "masked":
        for name, gradient in gradients.items():
            assert not np.delete(gradient, TRAINED[name], axis=0).any(), name


@pytest.mark.parametrize("form", FORMS)
def test_frozen_filters_stay_bit_identical_and_trained_ones_closer_to_the_vendor(form: str, tmp_path: Path) -> None:
    data = {name: np.random.default_rng(i).normal(size=(6, 3, 9, 8)) for i, name in enumerate(("x", "target"))}
    data = {name: array.astype(np.float32) for name, array in data.items()}
    way = {}
    for factor in (0.0, 1e6):
        directory = tmp_path / str(factor)
        directory.mkdir()
        model = models.dncnn(2)
        artifacts = make_artifacts(model, directory, tgdonnx.Filters(ROWS), form=form, l2_sp=factor)
        tgdonnx.train(artifacts, data, TrainOptions(epochs=15, batch=3, learning_rate=3e-3))
        tgdonnx.export(artifacts, directory / "tuned.onnx")
        assert tgdonnx.verify(directory / "model.onnx", directory / "tuned.onnx", masked=directory / "masked.onnx").ok
        start, tuned = tensors(model), tensors(onnx.load(directory / "tuned.onnx"))
        for name, values in start.items():
            kept = np.setdiff1d(np.arange(len(values)), TRAINED.get(name, []))
            assert np.array_equal(tuned[name][kept], values[kept]), name
        way[factor] = np.sqrt(sum(np.sum((tuned[name] - start[name]) ** 2) for name in TRAINED))
    assert 0 < way[1e6] < 0.6 * way[0.0], way


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_is_pulled_to_the_vendors_values_and_not_to_where_it_was_cut_off(
    form: str, tmp_path: Path
) -> None:
    data = {name: np.random.default_rng(i).normal(size=(6, 3, 9, 8)) for i, name in enumerate(("x", "target"))}
    data = {name: array.astype(np.float32) for name, array in data.items()}
    losses = []
    for epochs in ((4,), (2, 4)):
        directory = tmp_path / str(len(epochs))
        directory.mkdir()
        artifacts = make_artifacts(models.dncnn(2), directory, tgdonnx.Filters(ROWS), form=form, l2_sp=1e5)
        for count in epochs:
            options = TrainOptions(epochs=count, batch=3, learning_rate=3e-3)
            report = tgdonnx.train(artifacts, data, options, resume=count != epochs[0])
        losses.append(report.loss)
    assert len(losses[0]) == 8
    assert losses[0] == losses[1]


def test_the_manifest_says_it(tmp_path: Path) -> None:
    _, directory = build(tmp_path, l2_sp=0.25)
    assert read_manifest(directory).options.l2_sp == 0.25


def test_a_weight_in_half_precision_starts_at_its_value_in_float32(tmp_path: Path) -> None:
    model = models.chain(1)
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), "w2.half"))
    cast = onnx.helper.make_node("Cast", ["w2.half"], ["w2"], "cast", to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters({"w2.half": [1, 3]}), l2_sp=1.0)
    feeds, target = batch_for(models.chain(1))
    _, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    (tmp_path / "plain").mkdir()
    plain = make_artifacts(model, tmp_path / "plain", tgdonnx.Filters({"w2.half": [1, 3]}))
    _, expected = open_trainer(plain).gradients(*feeds.values(), target)
    for name, gradient in expected.items():
        assert np.array_equal(gradients[name], gradient), name
