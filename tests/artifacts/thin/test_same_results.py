"""Thin and masked artifacts of the same masked model train the same network, and export the same file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.artifacts.thin.forms import (
    FORMS,
    arrays_of,
    batch_for,
    build_both,
    build_with_masks,
    checkpoint_of,
    classifier,
    halves,
    kernel_mask,
    train,
    transposed,
)
from tests.masked_model.regrown import compared
from tests.oracles.independent import tensors_of
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import MANIFEST
from tgdonnx.artifacts.opened import open_artifacts
from tgdonnx.artifacts.vendor_outputs import vendor_outputs
from tgdonnx.errors import ArtifactsError

STEPS = 50
NETWORKS: dict[str, models.Builder] = {
    **models.MODELS,
    **{builder.__name__: builder for builder in (transposed, classifier, halves)},
}
OPTIONS: list[dict[str, Any]] = [
    {"optimizer": optimizer, "l2": l2, "clip_norm": clip_norm}
    for optimizer, (l2, clip_norm) in itertools.product(("adamw", "sgd"), ((0.0, None), (0.02, 0.5)))
]
SELECTIONS: dict[str, tuple[tgdonnx.Strategy, str]] = {
    "by score": (tgdonnx.Phi(0.35), "paper"),
    "by score, with readers": (tgdonnx.Phi(0.35), "readers"),
    "all": (tgdonnx.AllLayers(), "paper"),
}


def tamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Divides weights by the root of what they sum over, so that fifty steps neither stand still nor run away."""
    for tensor in tensors_of(model).values():
        array = numpy_helper.to_array(tensor)
        if array.ndim > 1 and array.dtype.kind == "f":
            small = (array / np.sqrt(np.prod(array.shape[1:]))).astype(array.dtype)
            tensor.CopyFrom(numpy_helper.from_array(small, tensor.name))
    return model


def network_of(name: str, seed: int) -> onnx.ModelProto:
    """Returns a network whose weights are neither large nor small."""
    model = NETWORKS[name](seed)
    return tamed(model) if name in models.MODELS else model


def distances(found: Array, expected: Array) -> Array:
    """The distance of every row, in units of its norm; numbers that stand alone are in units of the largest."""
    if expected.ndim < 2:
        return np.abs(found - expected) / np.abs(expected).max()
    difference, rows = (value.reshape(len(value), -1) for value in (found - expected, expected))
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(rows, axis=1)


def same_after_training(directory: Path, batch: list[Array], optimizer: str) -> set[str]:
    """Asserts that both forms give the same losses and tuned files; returns the tensors that changed."""
    rate = {"adamw": 1e-3, "sgd": 0.05}[optimizer]
    losses = {form: train(directory / form, batch, STEPS, rate) for form in FORMS}
    assert losses["masked"][-1] < losses["masked"][0]
    assert losses["thin"] == pytest.approx(losses["masked"], rel=1e-5)
    for form in FORMS:
        tgdonnx.export(directory / form, directory / f"{form}.tuned.onnx")
    found = compared(directory / "model.onnx", directory / "thin.tuned.onnx", masked=directory / "masked.onnx")
    assert found.ok, found.violations
    base, masked, thin = (
        arrays_of(directory / name) for name in ("model.onnx", "masked.tuned.onnx", "thin.tuned.onnx")
    )
    masks = arrays_of(directory / "masked.onnx")
    changed = {name for name in base if not np.array_equal(base[name], masked[name])}
    for name, array in base.items():
        frozen = np.broadcast_to(masks.get(f"{name}.retrain_mask", 0) == 0, array.shape)
        assert np.array_equal(thin[name][frozen], array[frozen]), name
        if name in changed:
            assert distances(thin[name], masked[name]).max() <= 1e-5, name
    return changed


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "halves"])
def test_losses_and_tuned_models_are_the_same(network: str, selection: str, tmp_path: Path) -> None:
    model, (strategy, mode) = network_of(network, 1), SELECTIONS[selection]
    output = {"output": "y"} if len(model.graph.output) > 1 else {}
    options = OPTIONS[(sorted(NETWORKS).index(network) + list(SELECTIONS).index(selection)) % len(OPTIONS)]
    build_both(model, tmp_path, strategy, mode=mode, **options, **output)
    batch = batch_for(model)
    assert same_after_training(tmp_path, batch, options["optimizer"])


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_they_are_with_every_optimizer_regulariser_and_limit(options: dict[str, Any], tmp_path: Path) -> None:
    model = tamed(models.dncnn(2))
    build_both(model, tmp_path, tgdonnx.Filters({"w1": [0, 5], "w2": [9], "w3": [*range(7)], "w4": [1]}), **options)
    batch = batch_for(model)
    changed = same_after_training(tmp_path, batch, options["optimizer"])
    assert changed == {
        *("w1", "b1", "w2", "bn2_scale", "bn2_offset"),
        *("w3", "b3", "bn3_scale", "bn3_offset", "w4"),
    }


@pytest.mark.parametrize("l2_sp", [0.0, 0.3])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_they_are_where_rows_and_columns_train(options: dict[str, Any], l2_sp: float, tmp_path: Path) -> None:
    """As where filters are regrown: w3 reads maps that only its own new filters read, and the last layer reads others anew."""
    model = tamed(models.dncnn(2))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    shapes = {name: array.shape for name, array in tensors.items()}
    masks = {
        "w1": kernel_mask(shapes["w1"], (0, 1), [0, 5], []),
        "w2": kernel_mask(shapes["w2"], (0, 1), [9], [0, 5]),
        "bn2_scale": kernel_mask(shapes["bn2_scale"], (0, 0), [9], []),
        "bn2_offset": kernel_mask(shapes["bn2_offset"], (0, 0), [9], []),
        "w3": kernel_mask(shapes["w3"], (0, 1), [1, 4, 6], []),
        "bn3_scale": kernel_mask(shapes["bn3_scale"], (0, 0), [1, 4], []),  # not the rows of w3
        "w4": kernel_mask(shapes["w4"], (0, 1), [], [1, 4, 6]),
    }
    reports = build_with_masks(model, tmp_path, masks, l2_sp=l2_sp, **options)
    assert not reports["thin"].unthinned
    assert same_after_training(tmp_path, batch_for(model), options["optimizer"]) == set(masks)


@pytest.mark.parametrize(
    ("network", "axes"),
    [
        ("grouped", {"w5": (0, 1)}),
        ("transposed", {"w2": (1, 0), "w3": (0, 1)}),
        ("classifier", {"w2": (0, 1), "w3": (1, 0)}),
    ],
)
def test_they_are_in_groups_and_matrices(network: str, axes: dict[str, tuple[int, int]], tmp_path: Path) -> None:
    model = network_of(network, 1)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    masks = {name: kernel_mask(shapes[name], along, [1, 2], [0, 3]) for name, along in axes.items()}
    reports = build_with_masks(model, tmp_path, masks)
    assert not reports["thin"].unthinned
    assert same_after_training(tmp_path, batch_for(model), "adamw") == set(masks)


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
@pytest.mark.parametrize("network", ["chain", "transposed", "classifier", "residual"])
def test_they_are_for_one_filter(network: str, name: str, tmp_path: Path) -> None:
    model = network_of(network, 0)
    build_both(model, tmp_path, tgdonnx.Filters({name: [3]}), optimizer="sgd")
    batch = batch_for(model)
    assert name in same_after_training(tmp_path, batch, "sgd")


def test_in_half_precision_they_are_but_for_the_last_bit_of_what_is_written(tmp_path: Path) -> None:
    model = halves(0)
    build_both(model, tmp_path, tgdonnx.Filters({"w1": [0, 4], "w2": [3]}))
    batch = batch_for(model)
    losses = [train(tmp_path / form, batch, STEPS, 1e-3) for form in ("masked", "thin")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for form in ("masked", "thin"):
        tgdonnx.export(tmp_path / form, tmp_path / f"{form}.tuned.onnx")
    base, masked, thin = (arrays_of(tmp_path / f"{name}.onnx") for name in ("model", "masked.tuned", "thin.tuned"))
    for name, rows in {"w1": [0, 4], "b1": [0, 4], "w2": [3]}.items():
        assert np.array_equal(np.delete(thin[name], rows, 0), np.delete(base[name], rows, 0))
        assert (thin[name][rows] != base[name][rows]).any()
        spacing = np.spacing(np.abs(masked[name]).astype(np.float16)).astype(np.float64)
        assert (np.abs(thin[name] - masked[name]) <= spacing).all()


@pytest.mark.parametrize("mode", ["paper", "readers"])
def test_the_norm_that_limits_the_step_counts_the_same_gradients(mode: str, tmp_path: Path) -> None:
    """A step of SGD at rate 1 with the norm cut to 0.01 moves the parameters by 0.01 in all, in either form."""
    model = models.chain(1)
    chosen = tgdonnx.Filters({"w1": [3], "w2": [1], "w3": [0, 9]})
    build_both(model, tmp_path, chosen, mode=mode, optimizer="sgd", clip_norm=0.01)
    batch = batch_for(model)
    for form in ("masked", "thin"):
        before = checkpoint_of(tmp_path / form)
        train(tmp_path / form, batch, 1, 1.0)
        after = checkpoint_of(tmp_path / form)
        moved = np.sqrt(sum(((after[name].astype(float) - before[name]) ** 2).sum() for name in before))
        assert moved == pytest.approx(0.01, rel=1e-4), form
        assert all((after[name] != before[name]).any() for name in before), form


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("mode", ["paper", "readers"])
def test_a_run_that_was_cut_off_continues_as_if_it_had_not_been(mode: str, accumulate: int, tmp_path: Path) -> None:
    model = models.dncnn(0)
    data = {"x": models.random_feeds(model, 1)["x"], "target": models.random_feeds(model, 2)["x"]}
    outputs = []
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        build_both(model, tmp_path / name, tgdonnx.Phi(0.35), mode=mode, clip_norm=0.5)
        artifacts = tmp_path / name / "thin"
        run = tgdonnx.TrainOptions(epochs=4 * accumulate, batch=1, learning_rate=1e-3, accumulate=accumulate)
        if name == "cut":
            with pytest.raises(InterruptedError):
                tgdonnx.train(artifacts, data, run, watch=tgdonnx.Watch(on_progress=_interrupt))
        tgdonnx.train(artifacts, data, run, resume=name == "cut")
        tgdonnx.export(artifacts, tmp_path / name / "tuned.onnx")
        outputs.append(arrays_of(tmp_path / name / "tuned.onnx"))
    assert all(np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_with_gradients_of_several_batches_they_are_the_same(optimizer: str, tmp_path: Path) -> None:
    model = tamed(models.dncnn(2))
    build_both(model, tmp_path, tgdonnx.Phi(0.35), mode="readers", optimizer=optimizer, clip_norm=0.5, l2_sp=0.1)
    data = {"x": models.random_feeds(model, 1)["x"], "target": models.random_feeds(model, 2)["x"]}
    data = {name: np.concatenate([array, -array, array[:1] / 2]) for name, array in data.items()}
    run = tgdonnx.TrainOptions(epochs=10, batch=1, accumulate=2, learning_rate={"adamw": 1e-3, "sgd": 0.05}[optimizer])
    losses = {form: tgdonnx.train(tmp_path / form, data, run).loss for form in FORMS}
    assert losses["thin"] == pytest.approx(losses["masked"], rel=1e-5)
    for form in FORMS:
        tgdonnx.export(tmp_path / form, tmp_path / f"{form}.tuned.onnx")
    base, masked, thin = (arrays_of(tmp_path / f"{name}.onnx") for name in ("model", "masked.tuned", "thin.tuned"))
    changed = {name for name in base if not np.array_equal(base[name], masked[name])}
    assert {"w1", "w2", "w3", "w4"} <= changed
    for name in changed:
        assert distances(thin[name], masked[name]).max() <= 1e-5, name


def _interrupt(progress: tgdonnx.Progress) -> None:
    if progress.step == 5:
        raise InterruptedError


def test_the_vendors_outputs_are_found_where_tensors_are_in_two_pieces(tmp_path: Path) -> None:
    model = models.dncnn(0)
    build_both(model, tmp_path, tgdonnx.Phi(0.35), mode="readers")
    names = [tensor.vendor_name for tensor in read_manifest(tmp_path / "thin").trained]
    assert len(set(names)) < len(names)
    x = models.random_feeds(model, 3)["x"]
    (expected,) = open_session(model).run(["y"], {"x": x})
    found = vendor_outputs(open_artifacts(tmp_path / "thin"))([x])[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_gate_is_refused(tmp_path: Path) -> None:
    models.save(models.chain(0), tmp_path / "model.onnx")
    tgdonnx.mask(tmp_path / "model.onnx", tmp_path / "masked.onnx", tgdonnx.Phi(0.35))
    with pytest.raises(ArtifactsError, match="form 'thin' computes gradient 'mask' only; use form 'masked'"):
        tgdonnx.build(
            tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions(form="thin", gradient="gate")
        )
    assert not (tmp_path / "artifacts").exists()


def test_a_checkpoint_with_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    model = models.chain(0)
    for name, rows in (("some", [0, 3]), ("others", [1, 2, 5])):
        (tmp_path / name).mkdir()
        build_both(model, tmp_path / name, tgdonnx.Filters({"w1": rows}))
    other, path = (tmp_path / name / "thin" / "state.safetensors" for name in ("others", "some"))
    path.write_bytes(other.read_bytes())
    with pytest.raises(ArtifactsError, match=r"has 'w1' with shape \[3, 3, 3, 3\], expected"):
        tgdonnx.export(tmp_path / "some" / "thin", tmp_path / "tuned.onnx")
    assert not (tmp_path / "tuned.onnx").exists()


def test_a_checkpoint_with_other_columns_is_refused(tmp_path: Path) -> None:
    model = models.chain(0)
    shape = (6, 8, 1, 1)
    for name, columns in (("some", [0, 3]), ("others", [1, 2, 5])):
        (tmp_path / name).mkdir()
        build_with_masks(model, tmp_path / name, {"w2": kernel_mask(shape, (0, 1), [4], columns)})
    other, path = (tmp_path / name / "thin" / "state.safetensors" for name in ("others", "some"))
    path.write_bytes(other.read_bytes())
    with pytest.raises(ArtifactsError, match=r"has 'w2' with shape \[5, 3, 1, 1\], expected \[6, 8, 1, 1\]"):
        tgdonnx.export(tmp_path / "some" / "thin", tmp_path / "tuned.onnx")
    assert not (tmp_path / "tuned.onnx").exists()


def test_artifacts_of_format_1_are_read(tmp_path: Path) -> None:
    """There, a tensor has the axis of the rows alone, as ``thin_axis``."""
    model = models.dncnn(0)
    build_both(model, tmp_path, tgdonnx.Filters({"w1": [0, 5], "w2": [3], "w4": [0, 1, 2]}))
    train(tmp_path / "thin", batch_for(model), 3, 1e-3)
    tgdonnx.export(tmp_path / "thin", tmp_path / "new.onnx")
    path = tmp_path / "thin" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["format"] = 1
    del manifest["heads"]
    for spec in manifest["inputs"]:
        del spec["role"]
    for tensor in manifest["trained"]:
        part = tensor.pop("part")
        tensor["thin_axis"] = None if part is None else part[0]["axis"]
    assert {tensor["thin_axis"] for tensor in manifest["trained"]} == {0, None}
    path.write_text(json.dumps(manifest))
    train(tmp_path / "thin", batch_for(model), 0, 1e-3)
    tgdonnx.export(tmp_path / "thin", tmp_path / "old.onnx")
    assert (tmp_path / "new.onnx").read_bytes() == (tmp_path / "old.onnx").read_bytes()
    assert (tmp_path / "new.onnx").read_bytes() != (tmp_path / "model.onnx").read_bytes()
