"""The artifacts directory: what stock ONNX Runtime makes of it, what is in it, and what is refused."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.stock_training import TRAINING
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.errors import ArtifactsError, MaskedModelError, OutputError, TgdonnxError, UntrainableError
from tgdonnx.layers import open_network
from tgdonnx.records import decode_mask

BY_SCORE = tgdonnx.Phi(0.3)
MODELS = {
    "onnxruntime": ["eval.onnx", "gradients.onnx", "step.onnx", "update.onnx"],
    "onnxruntime-training": ["eval_model.onnx", "optimizer_model.onnx", "training_model.onnx"],
}
CHECKPOINT = {"onnxruntime": "state.safetensors", "onnxruntime-training": "checkpoint"}
FILES = {
    engine: sorted([".lock", "manifest.json", "masked.onnx", CHECKPOINT[engine], *models_])
    for engine, models_ in MODELS.items()
}
"""Of the artifacts of each engine; none needs a runtime to be written."""


def batch_for(model: onnx.ModelProto, seed: int = 0) -> tuple[Array, Array]:
    x = models.random_feeds(model, seed)["x"]
    y = NumpyNet(model).run({"x": x})[model.graph.output[0].name]
    return x, np.random.default_rng([seed, 1]).normal(size=y.shape).astype(np.float32)


def masked(model: onnx.ModelProto, directory: Path, strategy: tgdonnx.Strategy = BY_SCORE, **options: Any) -> Path:
    models.save(model, directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", strategy, tgdonnx.MaskOptions(**options))
    return directory / "masked.onnx"


def listing(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


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


# What is refused, and that nothing is left behind.


def refused(
    directory: Path, path: Path, error: type[TgdonnxError], message: str, *, overwrite: bool = False, **options: Any
) -> None:
    """Building fails with the message, and leaves the directory as it was."""
    before = listing(directory)
    with pytest.raises(error, match=message) as caught:
        tgdonnx.build(path, directory / "artifacts", tgdonnx.BuildOptions(**options), overwrite=overwrite)
    assert len(str(caught.value).splitlines()) <= 2
    assert listing(directory) == before


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


# The directory.


@pytest.mark.parametrize("engine", MODELS)
def test_a_directory_that_exists_is_replaced_only_when_told_to(engine: str, tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine))
    before = (tmp_path / "artifacts" / "manifest.json").read_bytes()
    refused(tmp_path, path, OutputError, "exists; pass `overwrite=True`", l2=0.5)
    assert (tmp_path / "artifacts" / "manifest.json").read_bytes() == before
    (tmp_path / "artifacts" / "log.jsonl").write_text("of an earlier run\n")
    other, _ = sorted(MODELS, key=lambda name: name == engine)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(l2=0.5, engine=other), overwrite=True)
    assert listing(tmp_path / "artifacts") == FILES[other]
    assert read_manifest(tmp_path / "artifacts").options.l2 == 0.5
    assert listing(tmp_path) == ["artifacts", "masked.onnx", "model.onnx"]


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "artifacts").mkdir()
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime"))
    assert listing(tmp_path / "artifacts") == FILES["onnxruntime"]


def test_a_directory_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "thesis.txt").write_text("precious")
    refused(tmp_path, path, OutputError, "other files than artifacts", overwrite=True)
    assert listing(tmp_path / "artifacts") == ["thesis.txt"]


def test_a_file_in_the_way_and_a_missing_parent_are_told(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; the artifacts need a directory"):
        tgdonnx.build(path, tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="nowhere"):
        tgdonnx.build(path, tmp_path / "nowhere" / "artifacts")


@pytest.mark.parametrize("engine", MODELS)
def test_a_failure_while_writing_leaves_the_old_artifacts_whole(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = masked(models.chain(0), tmp_path)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine))
    before = {name: (tmp_path / "artifacts" / name).read_bytes() for name in FILES[engine]}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("tgdonnx.artifacts.build"), "write_model", full)
    with pytest.raises(OutputError, match="No space left on device"):
        tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(l2=1.0, engine=engine), overwrite=True)
    assert {name: (tmp_path / "artifacts" / name).read_bytes() for name in FILES[engine]} == before
    assert listing(tmp_path) == ["artifacts", "masked.onnx", "model.onnx"]


# Reading it.


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return make_artifacts(models.chain(0), tmp_path, tgdonnx.Phi(0.3))


def edited(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_newer_format_is_refused_with_the_remedy(artifacts: Path) -> None:
    edited(artifacts, lambda content: content.update(format=4))
    with pytest.raises(ArtifactsError, match="format 4; this version reads up to 3: update tgdonnx"):
        read_manifest(artifacts)


def test_keys_that_a_later_version_added_are_ignored(artifacts: Path) -> None:
    before = read_manifest(artifacts)
    edited(artifacts, lambda content: content.update(colour="blue"))
    assert read_manifest(artifacts) == before


@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine in MODELS for name in (*MODELS[engine], CHECKPOINT[engine])]
)
def test_a_missing_file_is_named(engine: str, name: str, tmp_path: Path) -> None:
    directory = make_artifacts(models.chain(0), tmp_path, tgdonnx.Phi(0.3), engine=engine)
    (directory / name).unlink()
    with pytest.raises(ArtifactsError, match=f"{name} is missing"):
        read_manifest(directory)


def test_a_missing_masked_model_is_named(artifacts: Path) -> None:
    (artifacts / "masked.onnx").unlink()
    with pytest.raises(ArtifactsError, match=r"masked\.onnx is missing"):
        read_manifest(artifacts)


def test_a_directory_without_a_manifest_is_no_artifacts_directory(artifacts: Path) -> None:
    (artifacts / "manifest.json").unlink()
    with pytest.raises(ArtifactsError, match=r"no artifacts directory: it has no manifest\.json"):
        read_manifest(artifacts)
    with pytest.raises(ArtifactsError, match="no artifacts directory"):
        read_manifest(artifacts / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "{}", '{"format": "new"}', '{"format": 1}', "\x00"])
def test_a_damaged_manifest_is_told(text: str, artifacts: Path) -> None:
    (artifacts / "manifest.json").write_text(text)
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)


def test_a_manifest_that_is_no_text_is_told(artifacts: Path) -> None:
    (artifacts / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)


@pytest.mark.parametrize("key", ["versions", "options", "base_sha256", "selection", "rho", "inputs", "trained"])
def test_a_manifest_without_a_key_is_told(key: str, artifacts: Path) -> None:
    edited(artifacts, lambda content: content.pop(key))
    with pytest.raises(ArtifactsError, match=f"is damaged .*{key}"):
        read_manifest(artifacts)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(trained=[{}]),
        lambda content: content.update(inputs=[{"name": "x"}]),
        lambda content: content.update(inputs=3),
        lambda content: content["trained"][0].update(vendor_place="nowhere"),
        lambda content: content["trained"][0].update(retrain=None),
    ],
)
def test_a_manifest_with_an_entry_of_the_wrong_kind_is_told(
    change: Callable[[dict[str, Any]], object], artifacts: Path
) -> None:
    edited(artifacts, change)
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)


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
