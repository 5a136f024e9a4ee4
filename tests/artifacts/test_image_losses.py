"""SSIM as a loss: against scikit-image, against its definition in float64, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, reduce
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import structural_similarity

import tgdonnx
from tests.artifacts.loss_graphs import graph, loss_and_gradient, off_by
from tests.oracles.numpy_net import loss_of
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.errors import DataError, TgdonnxError, UntrainableError
from tgdonnx.finetuning import TrainOptions


def images(shape: tuple[int, ...], seed: int = 0, scale: float = 1.0) -> tuple[Array, Array]:
    """Noisy images, and smooth ones of values between 0 and ``scale``."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(0, rng.uniform(2, 9), size) for size in shape]
    target = 0.5 + 0.5 * np.sin(reduce(np.add.outer, axes))
    x = target + 0.2 * rng.normal(size=shape)
    return (scale * x).astype(np.float32), (scale * target).astype(np.float32)


def ssim_loss(x: Array, target: Array, data_range: float = 1.0) -> float:
    """One minus mean SSIM from its definition in float64: deviations from the mean of every window, weighted."""
    rank = x.ndim - 2
    profile = [math.exp(-(offset**2) / (2 * 1.5**2)) for offset in range(-5, 6)]
    weights = reduce(np.multiply.outer, [np.array(profile)] * rank)
    weights = weights / weights.sum()
    places = tuple(range(-rank, 0))

    def windows(array: Array) -> Array:
        return sliding_window_view(array.astype(np.float64), (11,) * rank, axis=places)

    def mean(array: Array) -> Array:
        return (array * weights).sum(axis=places, keepdims=True)

    a, b = windows(x), windows(target)
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean((a - mean_a) ** 2), mean((b - mean_b) ** 2)
    covariance = mean((a - mean_a) * (b - mean_b))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(1 - np.mean(luminance * structure))


def slopes(loss: Callable[[Array], float], x: Array) -> Array:
    """Central differences in float64."""
    x, found = x.astype(np.float64), np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-5
        found[index] = (loss(x + step) - loss(x - step)) / 2e-5
    return found


@cache
def slopes_of_images(shape: tuple[int, ...], seed: int) -> Array:
    x, target = images(shape, seed)
    return slopes(lambda moved: ssim_loss(moved, target), x)


@pytest.mark.parametrize("data_range", [1.0, 255.0])
@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((2, 3, 50), "2, 3, 50"),
        ((3, 2, 11), "N, 2, L"),
        ((2, 3, 20, 27), "2, 3, 20, 27"),
        ((3, 1, 31, 12), "N, 1, H, W"),
        ((2, 2, 13, 12, 14), "N, C, D, H, W"),
    ],
)
def test_the_value_is_that_of_scikit_image(shape: tuple[int, ...], dims: str, data_range: float) -> None:
    x, target = images(shape, scale=data_range)
    value, _ = loss_and_gradient("ssim", x, target, dims=dims, data_range=data_range)
    scores = [
        structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=data_range,
        )
        for a, b in zip(x.reshape(-1, *shape[2:]), target.reshape(-1, *shape[2:]))
    ]
    assert 0.05 < value < 0.99
    assert abs(value - (1 - np.mean(scores))) < 1e-6
    assert abs(value - ssim_loss(x, target, data_range)) < 1e-6


@pytest.mark.parametrize("dims", ["static", "dynamic"])
@pytest.mark.parametrize("shape", [(2, 2, 17), (2, 2, 12, 14), (2, 1, 11, 13, 12)])
def test_the_gradient_is_the_slope_of_the_definition(shape: tuple[int, ...], dims: str) -> None:
    x, target = images(shape, seed=3)
    names = ", ".join(map(str, shape)) if dims == "static" else ", ".join(f"size{axis}" for axis in range(len(shape)))
    _, gradient = loss_and_gradient("ssim", x, target, dims=names)
    assert relative_error(gradient, slopes_of_images(shape, 3)) < 5e-6


def test_equal_images_have_no_loss_and_no_slope() -> None:
    _, target = images((2, 3, 16, 16))
    value, gradient = loss_and_gradient("ssim", target.copy(), target)
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("offset", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("noise", [1e-3, 0.2])
def test_digits_are_kept_far_from_zero_and_close_to_the_target(offset: float, noise: float) -> None:
    _, target = images((1, 2, 13, 12))
    target += np.float32(offset)
    x = (target + noise * np.random.default_rng(1).normal(size=target.shape)).astype(np.float32)
    value, gradient = loss_and_gradient("ssim", x, target)
    assert value == pytest.approx(ssim_loss(x, target), rel=2e-5)
    assert relative_error(gradient, slopes(lambda moved: ssim_loss(moved, target), x)) < 1e-4


@pytest.mark.parametrize("opset", range(8, 22))
def test_every_operator_set_that_can_be_trained_has_ssim(opset: int) -> None:
    x, target = images((2, 2, 12, 13))
    value, gradient = loss_and_gradient("ssim", x, target, opset=opset)
    assert abs(value - ssim_loss(x, target)) < 1e-6
    way = np.random.default_rng(1).normal(size=x.shape)
    exact = x.astype(np.float64)
    slope = (ssim_loss(exact + 1e-5 * way, target) - ssim_loss(exact - 1e-5 * way, target)) / 2e-5
    assert abs(float((gradient * way).sum()) - slope) < 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(way)


def test_one_graph_takes_images_of_any_size() -> None:
    session = open_session(ir.to_proto(graph("ssim", (), dims="N, C, H, W")).SerializeToString())
    for shape in ((1, 1, 11, 30), (3, 2, 24, 15)):
        x, target = images(shape)
        assert abs(float(session.run(None, {"x": x, "target": target})[0]) - ssim_loss(x, target)) < 1e-6


# Sums.


def test_a_sum_has_the_weighted_value_and_gradient_of_its_terms() -> None:
    x, target = images((2, 3, 15, 14))
    value, gradient = loss_and_gradient("0.75*l1 + ssim + 3*charbonnier", x, target)
    parts = {name: loss_and_gradient(name, x, target) for name in ("l1", "ssim", "charbonnier")}
    weights = {"l1": 0.75, "ssim": 1, "charbonnier": 3}
    assert value == pytest.approx(sum(weights[name] * parts[name][0] for name in parts), rel=1e-6)
    assert value == pytest.approx(
        0.75 * loss_of("l1", x, target) + ssim_loss(x, target) + 3 * loss_of("charbonnier", x, target), rel=1e-5
    )
    assert off_by(gradient, sum(weights[name] * parts[name][1] for name in parts)) < 1e-6


def test_bce_joins_others_behind_a_sigmoid_and_takes_the_logits_there() -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(0, 2, (2, 3, 12, 12)).astype(np.float32), rng.random((2, 3, 12, 12)).astype(np.float32)
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    value, gradient = loss_and_gradient("0.5*bce+2*mse", x, target, "y = Sigmoid(x)")
    assert value == pytest.approx(0.5 * loss_of("bce", x.astype(np.float64), target) + 2 * loss_of("mse", p, target))
    expected = (0.5 * (p - target) + 4 * (p - target) * p * (1 - p)) / x.size
    assert off_by(gradient, expected) < 1e-6


def test_refuses_bce_with_others_where_the_output_is_logits() -> None:
    with pytest.raises(UntrainableError, match=r"does not end in Sigmoid; use bce alone"):
        graph("bce+mse", (2, 3))


# Through build and train.


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_a_model_trains_on_a_sum_with_the_same_gradient_in_both_forms(form: str, tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, H, W] x) => (float[N, 3, h, w] y) { t = Conv(x, v)\n u = Relu(t)\n y = Conv(u, w, b) }",
        v=(6, 2, 3, 3),
        w=(3, 6, 3, 3),
        b=(3,),
    )
    directory = make_artifacts(
        model, tmp_path, tgdonnx.Filters({"v": [1, 4], "w": [0]}), loss="0.2 * l1 + 0.8*ssim", data_range=2, form=form
    )
    options = read_manifest(directory).options
    assert (options.loss, options.data_range) == ("0.2*l1+0.8*ssim", 2)
    x, _ = images((2, 2, 19, 18))
    target = images((2, 3, 15, 14), seed=1)[1]
    trainer = open_trainer(directory)
    loss, gradients = trainer.gradients(x, target)
    output = trainer.evaluate(x, target)[1].astype(np.float64)
    assert loss == pytest.approx(0.2 * loss_of("l1", output, target) + 0.8 * ssim_loss(output, target, 2.0), rel=1e-5)
    (name,) = (name for name in gradients if name.endswith("w") or "w.retrained" in name)
    found = gradients[name][0]
    expected = np.zeros(found.shape)
    weight = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    hidden = open_session(with_output(model, "u").SerializeToString()).run(["u"], {"x": x})[0]
    windows = sliding_window_view(hidden.astype(np.float64), (3, 3), axis=(2, 3))

    def loss_at(values: Array) -> float:
        filters = weight["w"].astype(np.float64)
        filters[0] = values
        y = np.einsum("nchwij,mcij->nmhw", windows, filters) + weight["b"].reshape(-1, 1, 1)
        return 0.2 * loss_of("l1", y, target) + 0.8 * ssim_loss(y, target, 2.0)

    expected = slopes(loss_at, weight["w"][0])
    assert relative_error(found, expected) < 2e-5


def with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ("N, 3", r"axes sample, channel, and one to three of space; found \[\?, 3\]"),
        ("N, 3, 10, 40", r"at least 11 along every axis of space.* found \[\?, 3, 10, 40\]"),
        ("N, 3, 12, 12, 12, 12", r"one to three of space; found \[\?, 3, 12, 12, 12, 12\]"),
    ],
)
def test_refuses_outputs_that_ssim_cannot_compare(outputs: str, message: str) -> None:
    with pytest.raises(UntrainableError, match=message):
        graph("0.5*ssim+mse", (), dims=outputs)


def test_an_output_of_unknown_rank_is_refused() -> None:
    model = ir.from_proto(text_model("g (float[3, 4] x) => (float[3, 4] y) { y = Identity(x) }"))
    model.graph.outputs[0].shape = None
    with pytest.raises(UntrainableError, match="known rank; declare the shapes of the model's inputs"):
        tgdonnx.artifacts.losses.add_loss(model, model.graph.outputs[0], tgdonnx.artifacts.parse_loss("ssim"))


def test_images_smaller_than_the_window_are_refused_before_training(tmp_path: Path) -> None:
    directory = make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3), loss="ssim")
    before = sorted(directory.iterdir())
    data = {name: np.zeros((4, 3, 12, 10), np.float32) for name in ("x", "target")}
    with pytest.raises(DataError, match=r"at least 11 .* found \[1, 3, 12, 10\]; use larger images") as caught:
        tgdonnx.train(directory, data, TrainOptions(epochs=1))
    assert isinstance(caught.value, TgdonnxError)
    assert sorted(directory.iterdir()) == before


@pytest.mark.parametrize(
    ("dims", "kernel", "size"), [("W", (3,), (23,)), ("D, H, W", (3, 3, 3), (14, 13, 15)), ("H, W", (3, 3), (17, 15))]
)
def test_both_forms_give_the_same_gradient_in_every_number_of_dimensions(
    dims: str, kernel: tuple[int, ...], size: tuple[int, ...], tmp_path: Path
) -> None:
    text = f"g (float[N, 2, {dims}] x) => (float[N, 3, {dims.lower()}] y) {{ t = Conv(x, v)\n y = Relu(t) }}"
    model = text_model(text, v=(3, 2, *kernel))
    x = images((2, 2, *size))[0]
    target = images((2, 3, *(length - 2 for length in size)), seed=1)[1]
    found = {}
    for form in ("masked", "thin"):
        (tmp_path / form).mkdir()
        directory = make_artifacts(model, tmp_path / form, tgdonnx.Filters({"v": [0, 2]}), loss="ssim", form=form)
        _, gradients = open_trainer(directory).gradients(x, target)
        (gradient,) = gradients.values()
        found[form] = gradient if form == "thin" else gradient[[0, 2]]
    assert relative_error(found["thin"], found["masked"]) < 1e-5
    filters = onnx.numpy_helper.to_array(model.graph.initializer[0])
    places = tuple(range(2, 2 + len(kernel)))
    windows = sliding_window_view(x.astype(np.float64), kernel, axis=places)
    axes = "xyz"[: len(kernel)]

    def loss_at(rows: Array) -> float:
        moved = filters.astype(np.float64)
        moved[[0, 2]] = rows
        y = np.einsum(f"nc...{axes},mc{axes}->nm...", windows, moved)
        return ssim_loss(np.maximum(y, 0), target)

    assert relative_error(found["thin"], slopes(loss_at, filters[[0, 2]])) < 1e-5
