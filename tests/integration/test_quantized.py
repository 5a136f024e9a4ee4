"""Models with integer weights behind DequantizeLinear, through all stages."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.oracles.numpy_net import NumpyNet, loss_gradient, loss_of
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tests.support.models import Array
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tests.support.training_models import text_model
from tgdonnx.engines.onnxruntime.state import STATE, read_state
from tgdonnx.errors import ModelFileError, UntrainableError
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_models import fetch  # a script, no part of the package

KINDS = [
    *(
        Kind(activations, weights, per_channel, transposed=transposed)
        for activations, weights, per_channel, transposed in itertools.product(
            (np.uint8, np.int8), (np.int8, np.uint8), (True, False), (True, False)
        )
    ),
    Kind(zero_points=False),
    Kind(biases="float32"),
    Kind(biases="none", per_channel=False),
]
SOME_FILTERS = {"a.w": [0, 2, 5], "c.w": [1, 3], "e.w": [2]}


def batch_for(path: Path, *, noise: float = 0.3) -> list[Array]:
    """Inputs, some beyond what the first grid reaches, and a target near what the model makes of them."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 2, (3, 2, 8, 8)).astype(np.float32)
    y = infer(path, {"x": x})
    return [x, (y + rng.normal(0, noise, y.shape)).astype(np.float32)]


def infer(path: Path, feeds: dict[str, Array], output: str | None = None) -> Array:
    """What the model computes node by node, as ONNX defines the operators: integer arithmetic rounds elsewhere."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    (y,) = open_session(str(path), options).run([output] if output else None, feeds)
    return np.asarray(y)


def tensors_of(path: Path) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def train(
    directory: Path, batch: list[Array], *, steps: int, learning_rate: float, checkpoint: str = CHECKPOINT
) -> list[float]:
    """Steps on one batch; returns the loss before each, and behind the last, from the eval model."""
    session = Session(directory)
    losses = [session.evaluate(batch).loss]
    losses += [loss for _ in range(steps) for loss in session.step([batch], learning_rate)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    session.save(checkpoint, RunState(0, steps, {}))
    return [*losses[1:], session.evaluate(batch).loss]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_stage_works_and_the_loss_is_that_of_the_exported_integers(kind: Kind, tmp_path: Path) -> None:
    model = quantized(kind)
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters(SOME_FILTERS))
    vendor, tuned, untuned = (tmp_path / f"{name}.onnx" for name in ("model", "tuned", "untuned"))
    assert tgdonnx.check(vendor).trainable

    tgdonnx.export(directory, untuned)
    assert tgdonnx.verify(vendor, untuned).changed == ()
    assert tensors_of(untuned).keys() == tensors_of(vendor).keys()
    assert untuned.read_bytes().startswith(vendor.read_bytes())

    batch = batch_for(vendor)
    losses = train(directory, batch, steps=20, learning_rate=4e-3)
    assert losses[-1] < 0.97 * losses[0]
    assert loss_of("mse", infer(vendor, {"x": batch[0]}), batch[1]) == pytest.approx(losses[0], rel=1e-5)
    tgdonnx.export(directory, tuned)
    report = tgdonnx.verify(vendor, tuned, masked=tmp_path / "masked.onnx")
    assert report.ok, report.violations
    assert loss_of("mse", infer(tuned, {"x": batch[0]}), batch[1]) == pytest.approx(losses[-1], rel=1e-5)

    before, after = tensors_of(vendor), tensors_of(tuned)
    for name, old in before.items():
        rows = SOME_FILTERS.get(name.replace(".b", ".w"), [])
        axis = 1 if name == "c.w" and kind.transposed else 0
        moved = {int(row) for row in np.nonzero(old != after[name])[axis]} if old.ndim else set()
        assert old.dtype == after[name].dtype
        assert moved <= set(rows), name
        assert moved == set(rows) if name.endswith(".w") else True, name
    assert {entry.name for entry in report.changed} >= set(SOME_FILTERS)


@pytest.mark.parametrize("kind", [Kind(), Kind(np.int8, np.uint8), Kind(per_channel=False)], ids=str)
@pytest.mark.parametrize("steps", [0, 6])
def test_gradients_are_straight_through_and_stop_at_saturated_weights(kind: Kind, steps: int, tmp_path: Path) -> None:
    model = quantized(kind)
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers())
    batch = batch_for(tmp_path / "model.onnx")
    if steps:  # so large that some weights leave what their integers reach
        train(directory, batch, steps=steps, learning_rate=0.1)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    net = NumpyNet(onnx.load(tmp_path / "tuned.onnx"))
    values = net.run({"x": batch[0]})
    expected = net.gradients({"x": batch[0]}, {"y": loss_gradient("mse", values["y"], batch[1])})
    trainer, stored = open_trainer(directory), tensors_of(tmp_path / "model.onnx")
    loss, found = trainer.gradients(*batch)
    assert loss == pytest.approx(loss_of("mse", values["y"], batch[1]), rel=1e-5)
    saturated = 0
    for name, gradient in found.items():
        latent, inside = trainer.parameters[name], np.ones(stored[name].shape, bool)
        if name.endswith(".w"):
            scale, zero_point = (stored[f"{name}.{part}"] for part in ("scale", "zero_point"))
            shape = (-1, 1, 1, 1) if scale.ndim else ()
            integers = np.rint(latent / scale.reshape(shape)) + zero_point.reshape(shape).astype(float)
            ends = np.iinfo(stored[name].dtype)
            inside = (integers >= ends.min) & (integers <= ends.max)
        saturated += int((~inside).sum())
        assert not gradient[~inside].any()
        assert relative_error(gradient, expected[f"{name}.dq"] * inside) < 1e-5, name
    assert (saturated > 0) == (steps > 0)


@pytest.mark.parametrize("kind", KINDS[::3], ids=str)
def test_thin_artifacts_train_the_same_integers(kind: Kind, tmp_path: Path) -> None:
    tuned, losses = {}, {}
    for form in ("masked", "thin"):
        (tmp_path / form).mkdir()
        directory = make_artifacts(quantized(kind), tmp_path / form, tgdonnx.Filters(SOME_FILTERS), form=form)
        losses[form] = train(directory, batch_for(tmp_path / form / "model.onnx"), steps=6, learning_rate=4e-3)
        tgdonnx.export(directory, tmp_path / form / "tuned.onnx")
        assert tgdonnx.verify(tmp_path / form / "model.onnx", tmp_path / form / "tuned.onnx").ok
        tuned[form] = tensors_of(tmp_path / form / "tuned.onnx")
    thin = open_trainer(tmp_path / "thin" / "artifacts").parameters
    assert thin["tgdonnx::a.w.retrained"].shape == (3, 2, 3, 3)
    assert thin["tgdonnx::e.w.retrained"].shape == (1, 5, 1, 1)
    # Rounding to the grid works on the rows that train; the others are constants.
    nodes = onnx.load(tmp_path / "thin" / "artifacts" / "step.onnx").graph.node
    assert not [node for node in nodes if node.op_type == "Div" and "whole" in node.input[0]]
    assert losses["thin"] == pytest.approx(losses["masked"], rel=1e-4)
    for name, values in tuned["masked"].items():
        # The two add up gradients in another order; at the border of two integers that can show.
        step = 1 if values.dtype.kind in "iu" else 1e-6
        np.testing.assert_allclose(tuned["thin"][name].astype(float), values, rtol=0, atol=step)
        assert (tuned["thin"][name] != values).mean() < 0.02 or values.dtype.kind == "f", name


def test_a_frozen_weight_and_one_that_did_not_move_keep_their_integer_of_32_bits(tmp_path: Path) -> None:
    # 2^24 + 1 and its neighbours are one number in float32.
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 3, w] y) {
            b = DequantizeLinear<axis = 0>(bias, s)
            a = Conv(x, w1, b)
            y = Conv(a, w2)
        }""",
        w1=(4, 2, 1),
        w2=(3, 4, 1),
        bias=np.array([2**24 + 1, 2**24 + 3, 77, -(2**24) - 1], np.int32),
        s=np.full(4, 1e-9, np.float32),
    )
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters({"w1": [1, 2, 3]}))
    x = np.random.default_rng(0).normal(size=(2, 2, 8)).astype(np.float32)
    tgdonnx.export(directory, tmp_path / "untuned.onnx")
    assert (tensors_of(tmp_path / "untuned.onnx")["bias"] == tensors_of(tmp_path / "model.onnx")["bias"]).all()
    train(directory, [x, np.zeros((2, 3, 8), np.float32)], steps=2, learning_rate=1e-3)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    old, new = (tensors_of(tmp_path / f"{name}.onnx")["bias"] for name in ("model", "tuned"))
    assert (old != new).tolist() == [False, True, True, True]
    assert np.abs(np.abs((new[1:].astype(float) - old[1:]) * 1e-9) - 2e-3).max() < 1e-5  # two steps of AdamW


def test_a_float_weight_behind_a_pair_trains_and_stays_float(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 3, w] y) {
            q = QuantizeLinear(w1, s, z)
            d = DequantizeLinear(q, s, z)
            a = Conv(x, d)
            y = Conv(a, w2)
        }""",
        w1=(4, 2, 1),
        w2=(3, 4, 1),
        s=np.float32(0.02),
        z=np.int8(0),
    )
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters({"w1": [1, 2]}))
    rng = np.random.default_rng(0)
    batch = [rng.normal(size=shape).astype(np.float32) for shape in ((2, 2, 8), (2, 3, 8))]
    losses = train(directory, batch, steps=10, learning_rate=1e-2)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx").ok
    assert loss_of("mse", infer(tmp_path / "tuned.onnx", {"x": batch[0]}), batch[1]) == pytest.approx(
        losses[-1], rel=1e-5
    )
    assert losses[-1] < losses[0]
    assert tensors_of(tmp_path / "tuned.onnx")["w1"].dtype == np.float32


def test_integers_on_two_grids_stay_frozen_and_the_mask_says_why(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, 8] x) => (float[N, 3, w] y) {
            d = DequantizeLinear(w1, s)
            e = DequantizeLinear(w1, other)
            a = Conv(x, d)
            b = Conv(x, e)
            c = Add(a, b)
            y = Conv(c, w2)
        }""",
        w1=np.random.default_rng(0).integers(-9, 9, (4, 2, 1)).astype(np.int8),
        w2=(3, 4, 1),
        s=np.float32(0.1),
        other=np.float32(0.2),
    )
    path = models.save(model, tmp_path / "model.onnx")
    report = tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    notes = {entry.name: (entry.retrain, entry.note) for entry in report.params}
    assert notes["w1"] == ((), "frozen: it is dequantised in several ways; store it once for each")
    assert notes["w2"] == ((0, 1, 2), "")


def between(lines: str, **tensors: Any) -> onnx.ModelProto:
    return text_model(
        f"g (float[1, 2, 8] x) => (float[1, m, 8] y) {{ a = Conv(x, w1)\n {lines}\n y = Conv(b, w3) }}",
        w1=(4, 2, 1),
        w3=(3, 4, 1),
        s=np.float32(0.1),
        z=np.uint8(3),
        **tensors,
    )


INTEGER_ARITHMETIC = {
    "QLinearConv": (
        """q = QuantizeLinear(a, s, z)
        [culprit] c = QLinearConv(q, s, z, w2, s, z, s, z)
        b = DequantizeLinear(c, s, z)""",
        {"w2": np.ones((4, 4, 1), np.uint8)},
    ),
    "DynamicQuantizeLinear": (
        """[culprit] q, qs, qz = DynamicQuantizeLinear(a)
        c = ConvInteger(q, w2, qz)
        f = Cast<to = 1>(c)
        b = Mul(f, qs)""",
        {"w2": np.ones((4, 4, 1), np.uint8)},
    ),
    "MatMulInteger": (
        """q = QuantizeLinear(a, s, z)
        [culprit] c = MatMulInteger(q, w2, z)
        f = Cast<to = 1>(c)
        b = Mul(f, s)""",
        {"w2": np.ones((8, 8), np.uint8)},
    ),
}


@pytest.mark.parametrize("op_type", INTEGER_ARITHMETIC)
def test_integer_arithmetic_between_a_retrained_filter_and_the_output_is_told_with_the_remedy(
    op_type: str, tmp_path: Path
) -> None:
    lines, tensors = INTEGER_ARITHMETIC[op_type]
    path = models.save(between(lines, **tensors), tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    report = tgdonnx.check(tmp_path / "masked.onnx")
    assert not report.trainable
    found = {(finding.code, finding.node): finding for finding in report.findings if finding.severity == "error"}
    assert "quantised with QuantizeLinear and DequantizeLinear around Conv" in found["TGD007", "culprit"].remedy
    assert "`last`" in found["TGD007", "culprit"].remedy
    with pytest.raises(UntrainableError, match="quantised with QuantizeLinear and DequantizeLinear around Conv"):
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    # Filters behind it train.
    tgdonnx.mask(path, tmp_path / "late.onnx", tgdonnx.LastLayers(1))
    assert tgdonnx.check(tmp_path / "late.onnx").trainable
    tgdonnx.build(tmp_path / "late.onnx", tmp_path / "late")


def test_check_says_of_a_model_without_float_convolutions_what_to_ask_for(tmp_path: Path) -> None:
    model = text_model(
        "g (uint8[1, 2, 8] x) => (uint8[1, 4, 8] y) { y = QLinearConv(x, s, z, w, s, z, s, z) }",
        w=np.ones((4, 2, 1), np.uint8),
        s=np.float32(0.1),
        z=np.uint8(3),
    )
    path = models.save(model, tmp_path / "model.onnx")
    report = tgdonnx.check(path)
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [finding.code for finding in errors] == ["TGD007"]
    assert "found 1 QLinearConv, which compute with whole numbers and cannot be trained" in errors[0].message
    assert errors[0].remedy.startswith("ask for the model as it was before quantisation")
    with pytest.raises(ModelFileError, match="quantised with QuantizeLinear and DequantizeLinear around Conv"):
        tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())


@pytest.mark.parametrize("alone", [True, False], ids=["the only weight", "one of several"])
def test_check_names_weights_of_types_that_cannot_train(alone: bool, tmp_path: Path) -> None:
    kind = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4)
    model = text_model(
        f"g (float[N, 2, 8] x) => (float[N, m, w] y) {{ d = DequantizeLinear(w1, s) {'y' if alone else 'a'} = Conv(x, d) "
        f"{'' if alone else 'y = Conv(a, w2)'} }}",
        opset=21,
        ir_version=10,
        w1=np.ones((4, 2, 1), kind),
        s=np.float32(0.1),
        **({} if alone else {"w2": (3, 4, 1)}),
    )
    path = models.save(model, tmp_path / "model.onnx")
    if not alone:  # scores would select nothing
        tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
        path = tmp_path / "masked.onnx"
    report = tgdonnx.check(path)
    found = [finding for finding in report.findings if finding.code == "TGD003"]
    assert [finding.severity for finding in found] == ["error" if alone else "warning"]
    assert found[0].message == "'w1' stays frozen: it is INT4"
    assert found[0].remedy.startswith("training handles floating-point weights, and integers of 8, 16 or 32 bits")
    assert report.trainable == (not alone)


# Models of others, quantised by ONNX Runtime's own tools: name, output, input, its shape, activations.
VENDORS = {
    "ppocr-cls": ("save_infer_model/scale_0.tmp_1", "x", (2, 3, 48, 192), "QUInt8"),
    "centerface": ("537", "input.1", (10, 3, 32, 32), "QInt8"),
}


def quantize_by_the_runtime(source: Path, target: Path, name: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    _, given, shape, kind = VENDORS[name]

    class Noise(CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(0)
            self.batches = iter([{given: rng.random(shape).astype(np.float32)} for _ in range(3)])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.batches, None)

    model = onnx.load(source)
    if model.opset_import[0].version < 13:  # scales per channel came with operator set 13
        model = onnx.version_converter.convert_version(model, 13)
    inputs = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in inputs]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    onnx.save(model, target.with_name("float.onnx"))
    quantize_static(
        str(target.with_name("float.onnx")),
        str(target),
        Noise(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType[kind],
        weight_type=QuantType.QInt8,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", VENDORS)
def test_models_of_others_quantised_by_the_runtimes_tools_go_through_all_stages(name: str, tmp_path: Path) -> None:
    output, given, shape, _ = VENDORS[name]
    vendor, tuned = tmp_path / "model.onnx", tmp_path / "tuned.onnx"
    quantize_by_the_runtime(fetch(name), vendor, name)
    check = tgdonnx.check(vendor, output=output)
    assert check.trainable, check.findings[0]
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.Percentile(10))
    options = tgdonnx.BuildOptions(output=output, engine="onnxruntime", form="masked")
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", options)
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "untuned.onnx")
    assert tgdonnx.verify(vendor, tmp_path / "untuned.onnx").changed == ()
    rng = np.random.default_rng(4)
    x = rng.random(shape).astype(np.float32)
    y = infer(vendor, {given: x}, output)
    target = (y + rng.normal(0, 0.1, y.shape)).astype(np.float32)

    def evaluated() -> Array:
        """What is trained gives, computed as `infer` does: an optimised session lays Convs out in blocks, which rounds their
        sums otherwise, and such a network amplifies that to steps of its grids."""
        evaluation = tmp_path / "artifacts" / "eval.onnx"
        state = read_state(tmp_path / "artifacts" / STATE).tensors
        asked = [value.name for value in onnx.load(evaluation).graph.input]
        return infer(
            evaluation, {name: {given: x, "target": target}.get(name, state.get(name)) for name in asked}, output
        )

    assert np.array_equal(evaluated(), y)
    losses = train(tmp_path / "artifacts", [x, target], steps=3, learning_rate=1e-3, checkpoint=STATE)
    assert losses[-1] < losses[0]
    tgdonnx.export(tmp_path / "artifacts", tuned)
    report = tgdonnx.verify(vendor, tuned)
    assert report.ok, report.violations
    assert len(report.changed) > 30
    assert np.array_equal(infer(tuned, {given: x}, output), evaluated())
    assert not np.array_equal(evaluated(), y)
