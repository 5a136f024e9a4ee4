"""Steps of the optimizers against the textbook, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import make_artifacts, open_trainer, true_gradients
from tests.support.training_models import text_model
from tgdonnx.engines.onnxruntime_training.optimizers import optimizer_model

STEPS = 5
FILTERS = tgdonnx.Filters({"w1": [0, 2, 5], "w2": list(range(10)), "w3": [4]})
Tensors = dict[str, Array]


def batches(model: onnx.ModelProto) -> Iterator[tuple[Array, Array]]:
    for seed in range(STEPS):
        x = models.random_feeds(model, seed)["x"]
        y = NumpyNet(model).run({"x": x})[model.graph.output[0].name]
        yield x, np.random.default_rng([seed, 1]).normal(size=y.shape).astype(np.float32)


def sgd(parameters: Tensors, rate: float) -> Callable[[Tensors], None]:
    """p <- p - rate * g"""

    def step(gradients: Tensors) -> None:
        for name, gradient in gradients.items():
            parameters[name] = parameters[name] - rate * gradient

    return step


def adam(parameters: Tensors, rate: float) -> Callable[[Tensors], None]:
    """Kingma and Ba, "Adam", ICLR 2015, algorithm 1."""
    first = {name: np.zeros(p.shape) for name, p in parameters.items()}
    second = {name: np.zeros(p.shape) for name, p in parameters.items()}
    time = 0

    def step(gradients: Tensors) -> None:
        nonlocal time
        time += 1
        for name, gradient in gradients.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            m, v = first[name] / (1 - 0.9**time), second[name] / (1 - 0.999**time)
            parameters[name] = parameters[name] - rate * m / (np.sqrt(v) + 1e-8)

    return step


TEXTBOOK = {"sgd": sgd, "adamw": adam}


def clipped(gradients: Tensors, limit: Optional[float]) -> Tensors:
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    scale = 1.0 if limit is None or norm <= limit else limit / norm
    return {name: g.astype(np.float64) * scale for name, g in gradients.items()}


def norm_of(gradients: Tensors) -> float:
    return float(np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values())))


@pytest.mark.parametrize("clip", [None, "half of the first norm"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_five_steps_are_those_of_the_textbook(
    optimizer: str, l2: float, clip: Optional[str], engine: str, tmp_path: Path
) -> None:
    model = models.dncnn(4)
    (tmp_path / "probe").mkdir()
    probe = open_trainer(make_artifacts(model, tmp_path / "probe", FILTERS, l2=l2, engine=engine))
    norm = norm_of(probe.gradients(*next(batches(model)))[1])
    limit = norm / 2 if clip else None
    rate = 1e-2 if optimizer == "adamw" else 0.1 / norm
    options: dict[str, Any] = {"optimizer": optimizer, "l2": l2, "clip_norm": limit}
    trainer = open_trainer(make_artifacts(model, tmp_path, FILTERS, engine=engine, **options))
    start = trainer.parameters
    expected: Tensors = {name: p.astype(np.float64) for name, p in start.items()}
    step = TEXTBOOK[optimizer](expected, rate)
    for batch in batches(model):
        probe.move_to(trainer.parameters)
        _, gradients = probe.gradients(*batch)
        trainer.step(rate, *batch)
        step(clipped(gradients, limit))
        moved = trainer.parameters
        for name, values in expected.items():
            size = np.abs(values - start[name]).max()
            assert size > 0, name
            assert np.abs(moved[name] - values).max() < 1e-4 * size + 5e-7, name


def test_sgd_follows_a_descent_computed_without_the_runtime(engine: str, tmp_path: Path) -> None:
    model = models.dncnn(4)
    trainer = open_trainer(make_artifacts(model, tmp_path, FILTERS, optimizer="sgd", l2=0.1, engine=engine))
    rows = {"w1": [0, 2, 5], "b1": [0, 2, 5], "w3": [4], "b3": [4], "bn3_scale": [4], "bn3_offset": [4]}
    rows |= dict.fromkeys(["w2", "bn2_scale", "bn2_offset"], range(10))
    assert set(trainer.parameters) == set(rows)
    tensors = {name: values.astype(np.float64) for name, values in trainer.parameters.items()}
    rate = 0.1 / norm_of(trainer.gradients(*next(batches(model)))[1])
    for x, target in batches(model):
        expected_loss, gradients = true_gradients(model, {"x": x}, target, tensors=tensors)
        assert trainer.step(rate, x, target) == pytest.approx(expected_loss, rel=1e-5)
        for name, chosen in rows.items():
            decay = 0.1 * tensors[name] if name in ("w1", "w2", "w3") else 0 * tensors[name]
            tensors[name] = tensors[name].copy()
            tensors[name][list(chosen)] -= rate * (gradients[name] + decay)[list(chosen)]
    for name, values in trainer.parameters.items():
        assert np.abs(values - tensors[name]).max() < 1e-5 * np.abs(tensors[name]).max(), name


@pytest.mark.parametrize(("gradient", "l2", "clip"), [("mask", 0.0, None), ("gate", 0.2, 0.01), ("mask", 0.2, 0.01)])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_rows_are_bit_identical_after_any_steps(
    optimizer: str, gradient: str, l2: float, clip: Optional[float], engine: str, tmp_path: Path
) -> None:
    model = models.dncnn(4)
    options: dict[str, Any] = {"optimizer": optimizer, "gradient": gradient, "l2": l2, "clip_norm": clip}
    trainer = open_trainer(make_artifacts(model, tmp_path, FILTERS, engine=engine, **options))
    start = trainer.parameters
    norm = norm_of(trainer.gradients(*next(batches(model)))[1])
    rate = 0.05 if optimizer == "adamw" else 0.1 / min(norm, clip or norm)
    for batch in batches(model):
        trainer.step(rate, *batch)
    for name, rows in {"w1": [0, 2, 5], "b1": [0, 2, 5], "w3": [4], "bn3_scale": [4], "w2": list(range(10))}.items():
        end = trainer.parameters[name]
        frozen = np.setdiff1d(np.arange(len(end)), rows)
        assert end[frozen].tobytes() == start[name][frozen].tobytes(), name
        assert np.isfinite(end).all()
        assert (end[rows] != start[name][rows]).reshape(len(rows), -1).any(axis=1).all(), name


def test_adamw_adds_its_epsilon_to_the_root_of_the_corrected_second_moment(engine: str, tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 2))
    trainer = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers(), engine=engine))
    x = np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32) * np.float32(1e-7)
    target = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    gradient = trainer.gradients(x, target)[1]["w"].astype(np.float64)
    assert 1e-9 < np.abs(gradient).max() < 1e-7, "of the size of epsilon"
    start = trainer.parameters["w"].astype(np.float64)
    trainer.step(1.0, x, target)
    assert np.abs(start - trainer.parameters["w"] - gradient / (np.abs(gradient) + 1e-8)).max() < 1e-5


def test_the_norm_that_is_clipped_counts_only_what_trains(engine: str, tmp_path: Path) -> None:
    model = models.chain(4)
    batch = next(batches(model))
    for name in ("open", "above", "below"):
        (tmp_path / name).mkdir()
    chosen = tgdonnx.Filters({"w1": [0], "w3": [1, 2]})
    options: dict[str, Any] = {"optimizer": "sgd", "engine": engine}
    free = open_trainer(make_artifacts(model, tmp_path / "open", chosen, **options))
    norm = norm_of(free.gradients(*batch)[1])
    _, whole = true_gradients(model, {"x": batch[0]}, batch[1])
    assert norm_of({name: whole[name] for name in ("w1", "b1", "w3", "b3")}) > 1.2 * norm
    above = open_trainer(make_artifacts(model, tmp_path / "above", chosen, clip_norm=1.1 * norm, **options))
    below = open_trainer(make_artifacts(model, tmp_path / "below", chosen, clip_norm=0.9 * norm, **options))
    start = free.parameters
    rate = 0.01 / norm
    for trainer in (free, above, below):
        trainer.step(rate, *batch)
    for name, values in free.parameters.items():
        assert np.array_equal(above.parameters[name], values), name
    moved = [norm_of({name: p.parameters[name] - start[name] for name in start}) for p in (free, below)]
    assert moved[0] == pytest.approx(0.01, rel=1e-3)
    assert moved[1] == pytest.approx(0.009, rel=1e-3)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_same_steps_give_the_same_bits_whenever_the_artifacts_are_opened(
    clip: Optional[float], engine: str, tmp_path: Path
) -> None:
    model = models.dncnn(0)
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(0.3), clip_norm=clip, engine=engine)
    found = set()
    for _ in range(4):
        trainer = open_trainer(directory)
        for batch in 5 * list(batches(model)):
            trainer.step(1e-3, *batch)
        found.add(b"".join(values.tobytes() for values in trainer.parameters.values()))
    assert len(found) == 1


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimizer_model_has_what_the_runtime_can_load(name: str, clip_norm: Optional[float]) -> None:
    model = optimizer_model(name, 2, clip_norm=clip_norm, ir_version=8)
    assert model.ir_version == 8
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17, "com.microsoft": 1}
    assert [node.op_type for node in model.graph.node][-1] == {"adamw": "AdamWOptimizer", "sgd": "SGDOptimizerV2"}[name]
    decay = [a.f for node in model.graph.node for a in node.attribute if a.name == "weight_decay"]
    assert decay == ([0.0] if name == "adamw" else [])
