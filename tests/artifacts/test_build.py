"""What is built: what stock ONNX Runtime makes of it, and what is in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.artifacts.built import FILES, MODELS, batch_for, listing, masked
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.stock_training import TRAINING
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.layers import open_network
from tgdonnx.records import decode_mask

# What stock ONNX Runtime makes of it.


@pytest.mark.training
@pytest.mark.parametrize(("optimizer", "gradient", "clip"), [("adamw", "mask", None), ("sgd", "gate", 0.5)])
def test_the_four_files_train_with_the_stock_interface_and_nothing_of_ours(
    optimizer: str, gradient: str, clip: float | None, tmp_path: Path
) -> None:
    model = models.dncnn(0)
    x, target = batch_for(model)
    options = {"optimizer": optimizer, "gradient": gradient, "clip_norm": clip, "l2": 0.01}
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(0.3), engine="onnxruntime-training", **options)
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint"):
        shutil.copy(directory / name, alone)
    np.savez(alone / "batch.npz", x=x, target=target)
    command = [sys.executable, "-I", "-c", TRAINING, str(alone)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with np.load(alone / "result.npz") as result:
        trainer = open_trainer(directory)
        assert [trainer.step(0.01, x, target) for _ in range(3)] == pytest.approx(result["losses"], rel=1e-6)
        loss, output = trainer.evaluate(x, target)
        assert loss == pytest.approx(float(result["loss"]), rel=1e-6)
        assert loss != result["losses"][0]
        assert relative_error(output, result["output"]) < 1e-6
        assert {name[2:] for name in result if name.startswith("p.")} == set(trainer.parameters)
        for name, values in trainer.parameters.items():
            assert relative_error(result["p." + name], values) < 1e-6, name


@pytest.mark.parametrize(
    "build",
    [models.chain, models.dncnn, models.residual, models.dense, models.grouped, models.three_d, models.shared_weights],
)
def test_training_and_evaluation_agree_at_equal_weights_and_at_first_with_the_vendors_model(
    build: models.Builder, engine: str, tmp_path: Path
) -> None:
    model = build(1)
    x, target = batch_for(model)
    trainer = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), engine=engine))
    loss, output = trainer.evaluate(x, target)
    session = open_session(model)
    assert relative_error(output, session.run(None, {"x": x})[0]) < 2e-6
    for _ in range(3):
        assert loss == pytest.approx(trainer.step(1e-3, x, target), rel=1e-6)
        before, (loss, _) = loss, trainer.evaluate(x, target)
        assert loss != before


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_with_batch_norm_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_samples(
    batch: int, engine: str, tmp_path: Path
) -> None:
    model = models.dncnn(1)
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.normal(size=(batch, 3, 8, 9))).astype(np.float32)  # far from what the running statistics saw
    target = rng.normal(size=x.shape).astype(np.float32)
    trainer = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), engine=engine))
    each = [trainer.gradients(x[i : i + 1], target[i : i + 1])[0] for i in range(batch)]
    assert trainer.gradients(x, target)[0] == pytest.approx(np.mean(each), rel=1e-6)


def test_running_mean_and_variance_never_move(engine: str, tmp_path: Path) -> None:
    model = models.dncnn(1)
    x, target = batch_for(model)
    trainer = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), engine=engine))
    for seed in range(4):
        trainer.step(0.01, *batch_for(model, seed))
    statistics = {"bn2_mean", "bn2_var", "bn3_mean", "bn3_var"}
    assert set(trainer.parameters) == {t.name for t in model.graph.initializer} - statistics
    # With the statistics that the vendor's file has, and with no others, the output is what the runtime computes.
    net = NumpyNet(model)
    moved = {name: values.astype(np.float64) for name, values in trainer.parameters.items()}
    assert relative_error(trainer.evaluate(x, target)[1], net.run({"x": x}, moved)["y"]) < 1e-5


# What is in it.


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 4), (13, 7), (17, 8), (21, 10), (21, 11), (12, 3)])
def test_every_file_keeps_to_versions_that_the_runtime_reads(
    opset: int, ir_version: int, engine: str, tmp_path: Path
) -> None:
    model = text_model(
        "g (float[N, 2, W] x) => (float[N, 3, w] y) { a = Conv(x, w, b)\n r = Relu(a)\n y = Conv(r, v) }",
        opset=opset,
        ir_version=ir_version,
        w=(4, 2, 2),
        b=(4,),
        v=(3, 4, 1),
    )
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), engine=engine)
    assert listing(directory) == FILES[engine]
    for name in MODELS[engine]:
        proto = onnx.load(directory / name)
        assert 4 <= proto.ir_version <= 10
        assert max(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")) <= 21
    x = np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32)
    target = np.zeros((2, 3, 5), np.float32)
    trainer = open_trainer(directory)
    assert trainer.step(1e-3, x, target) > trainer.evaluate(x, target)[0]


def test_the_masked_model_is_kept_byte_for_byte(tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))
    assert (directory / "masked.onnx").read_bytes() == (tmp_path / "masked.onnx").read_bytes()


@pytest.mark.parametrize("engine", MODELS)
def test_building_twice_gives_the_same_files(engine: str, tmp_path: Path) -> None:
    path = masked(models.dncnn(0), tmp_path)
    for name in ("one", "two"):
        tgdonnx.build(path, tmp_path / name, tgdonnx.BuildOptions(l2=0.1, clip_norm=1.0, engine=engine))
    for name in (*MODELS[engine], "manifest.json", "masked.onnx"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_the_report_and_the_manifest_say_what_trains_and_what_is_fed(tmp_path: Path) -> None:
    model = models.dncnn(0)
    chosen = tgdonnx.Filters({"w1": [3, 1], "w3": [0]})
    path = masked(model, tmp_path, chosen)
    report = tgdonnx.build(
        path, tmp_path / "artifacts", tgdonnx.BuildOptions(l2=0.5, clip_norm=2.0, gradient="gate", optimizer="sgd")
    )
    assert report.directory == str(tmp_path / "artifacts")
    expected = {"w1": (1, 3), "b1": (1, 3), "w3": (0,), "b3": (0,), "bn3_scale": (0,), "bn3_offset": (0,)}
    assert set(report.trained) == set(expected)
    assert report.frozen == ()
    manifest = read_manifest(tmp_path / "artifacts")
    assert manifest.format == 3
    assert {t.vendor_name: t.retrain for t in manifest.trained} == expected
    assert all(t.kernels is None and t.dtype == "FLOAT" for t in manifest.trained)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert {t.vendor_name: t.shape for t in manifest.trained} == {name: shapes[name] for name in expected}
    assert manifest.options.as_dict() == report.options
    assert dict(report.options) == {
        **{"loss": "mse", "data_range": 1.0, "optimizer": "sgd", "momentum": 0.0, "l2": 0.5, "l2_sp": 0.0},
        **{"clip_norm": 2.0, "gradient": "gate", "form": "masked", "output": "y"},
    }
    retrainable = sum(int(np.prod(shapes[name])) for name in shapes if not name.endswith(("_mean", "_var")))
    trains = 2 * 27 + 2 + 10 * 15 + 1 + 1 + 1
    assert manifest.rho == report.rho == pytest.approx(trains / retrainable, rel=1e-12)
    inputs = [(spec.name, spec.dtype, spec.shape) for spec in report.inputs]
    assert inputs == [("x", "float32", (None, 3, None, None)), ("target", "float32", (None, 3, None, None))]
    assert manifest.inputs == report.inputs
    assert manifest.fixed_batch is None
    assert set(manifest.versions) == {"tgdonnx", "onnx"}


def expanded(shape: tuple[int, ...], group: int, retrain: tuple[int, ...], maps: tuple[int, ...]) -> Array:
    """The filters and maps that train, element by element."""
    trains = np.zeros(shape, bool)
    trains[list(retrain)] = True
    filters, maps_in_group = shape[0] // group, shape[1] if len(shape) > 1 else 1
    for c in maps:
        first = c // maps_in_group * filters
        trains[first : first + filters, c % maps_in_group] = True
    return trains


def test_in_readers_mode_the_manifest_lists_the_filters_and_the_maps_that_train(tmp_path: Path) -> None:
    model = models.grouped(0)
    groups = {node.input[1]: a.i for node in model.graph.node for a in node.attribute if a.name == "group"}
    report = tgdonnx.mask(
        models.save(model, tmp_path / "model.onnx"),
        tmp_path / "masked.onnx",
        tgdonnx.Phi(0.3),
        tgdonnx.MaskOptions(mode="readers"),
    )
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    listed = {t.vendor_name: t for t in read_manifest(tmp_path / "artifacts").trained}
    asked = {p.name: p for p in report.params if p.retrain or p.maps}
    assert listed.keys() == asked.keys()
    assert sum(tensor.kernels is not None for tensor in listed.values()) >= 2
    network = open_network(tmp_path / "model.onnx")
    for name, tensor in listed.items():
        expected = expanded(tensor.shape, groups.get(name, 1), asked[name].retrain, asked[name].maps)
        found = decode_mask(tensor.retrain, tensor.kernels, network, name)
        assert np.array_equal(np.broadcast_to(found, tensor.shape), np.broadcast_to(expected, tensor.shape)), name


@pytest.mark.parametrize("output", ["y", "side"])
def test_of_several_outputs_the_chosen_one_is_trained_and_only_what_it_needs(output: str, tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, W] x, float[N, 1, W] other) => (float[N, 3, w] y, float[N, 2, w] side) {
            a = Conv(x, w, b)
            r = Relu(a)
            y = Conv(r, v)
            e = Elu(r)
            s = Conv(e, u)
            side = Add(s, other)
        }""",
        w=(4, 2, 1),
        b=(4,),
        v=(3, 4, 1),
        u=(2, 4, 1),
    )
    path = masked(model, tmp_path, tgdonnx.Filters({"v": [1], "u": [0]}))
    report = tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(output=output))
    assert report.options["output"] == output
    assert report.trained == (("v",) if output == "y" else ("u",))
    assert report.frozen == (("u",) if output == "y" else ("v",))
    assert [spec.name for spec in report.inputs] == (["x", "target"] if output == "y" else ["x", "other", "target"])
    feeds = {
        name: np.random.default_rng(0).normal(size=(2, c, 5)).astype(np.float32) for name, c in (("x", 2), ("other", 1))
    }
    expected = open_session(model).run([output], feeds)[0]
    used = [feeds[spec.name] for spec in report.inputs[:-1]]
    loss, found = open_trainer(tmp_path / "artifacts").evaluate(*used, np.zeros_like(expected))
    assert relative_error(found, expected) < 2e-6
    assert loss == pytest.approx(float(np.mean(expected.astype(np.float64) ** 2)), rel=1e-6)


def test_the_batch_size_that_a_model_fixes_is_known(tmp_path: Path) -> None:
    model = text_model("g (float[4, 2, W] x) => (float[4, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 1))
    assert read_manifest(make_artifacts(model, tmp_path, tgdonnx.AllLayers())).fixed_batch == 4


def test_weights_in_external_data_are_found_and_kept_with_the_masked_model(tmp_path: Path) -> None:
    model = models.dncnn(0)
    (tmp_path / "vendor").mkdir()
    onnx.save(model, tmp_path / "vendor" / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    tgdonnx.mask(tmp_path / "vendor" / "model.onnx", tmp_path / "vendor" / "masked.onnx", tgdonnx.Phi(0.3))
    tgdonnx.build(tmp_path / "vendor" / "masked.onnx", tmp_path / "artifacts")
    assert (tmp_path / "artifacts" / "masked.onnx.data").read_bytes() == (tmp_path / "vendor" / "w.bin").read_bytes()
    shutil.rmtree(tmp_path / "vendor")
    inside = models.dncnn(0)
    x, target = batch_for(inside)
    _, output = open_trainer(tmp_path / "artifacts").evaluate(x, target)
    expected = open_session(inside).run(None, {"x": x})[0]
    assert relative_error(output, expected) < 2e-6


def test_what_was_built_is_built_from_the_vendors_own_tensors_in_constant_nodes_too(tmp_path: Path) -> None:
    (tmp_path / "constants").mkdir()
    (tmp_path / "initializers").mkdir()
    x, target = batch_for(models.dncnn(0))
    found = []
    for name, build in (("constants", models.constant_nodes), ("initializers", models.dncnn)):
        directory = make_artifacts(build(0), tmp_path / name, tgdonnx.Phi(0.3))
        found.append(open_trainer(directory).gradients(x, target))
    assert found[0][0] == found[1][0]
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        assert np.array_equal(gradient, found[1][1][name])


def test_a_percentile_of_100_whose_threshold_is_above_every_score_is_read_again(tmp_path: Path) -> None:
    artifacts = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Percentile(100))
    phi = read_manifest(artifacts).selection["phi"]
    assert 1 < phi < 1.001
