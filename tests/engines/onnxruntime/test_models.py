"""The models of the engine: steps against the optimizers' formulas in numpy, and divided steps against whole ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.gradients.checking import run
from tgdonnx.engines.onnxruntime.messages import turn_into
from tgdonnx.engines.onnxruntime.models import (
    BATCHES,
    RATE,
    STEP,
    Models,
    Objective,
    make_models,
    moment_names,
    sum_name,
)
from tgdonnx.engines.onnxruntime.optimizers import moment_count
from tgdonnx.engines.protocol import OptimizerName

Array = NDArray[np.float32]
RNG = np.random.default_rng(2)
X, TARGET = (RNG.normal(size=(5, size)).astype(np.float32) for size in (3, 2))
START = {"w": RNG.normal(size=(3, 2)).astype(np.float32), "b": RNG.normal(size=(2,)).astype(np.float32)}


def _forward() -> ir.Model:
    """A line, with its mean squared error: loss and output."""
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[N,3] x, float[N,2] target) => (float loss, float[N,2] y) '
        "{ h = MatMul (x, w)  y = Add (h, b)  d = Sub (y, target)  s = Mul (d, d)  loss = ReduceMean <keepdims=0> (s) }"
    )
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in START.items())
    return ir.from_proto(proto)


def _gradient(weights: dict[str, Array]) -> dict[str, NDArray[np.float64]]:
    x, w = X.astype(np.float64), {name: array.astype(np.float64) for name, array in weights.items()}
    difference = x @ w["w"] + w["b"] - TARGET
    return {"w": x.T @ difference * 2 / difference.size, "b": difference.sum(0) * 2 / difference.size}


def _models(objective: Objective) -> Models:
    return make_models(_forward(), list(START), objective)


def _run(model: ir.Model, feeds: dict[str, Any]) -> dict[str, Array]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    given = {value.name: feeds[value.name] for value in proto.graph.input}
    return dict(zip([value.name for value in proto.graph.output], run(proto, given)))


def _state(objective: Objective) -> dict[str, Array]:
    count = moment_count(objective.optimizer, objective.momentum)
    moments = {each: np.zeros_like(START[name]) for name in START for each in moment_names(name, count)}
    return {**START, **moments}


def _steps(objective: Objective, rates: Sequence[float]) -> list[dict[str, Array]]:
    model, state, found = _models(objective).step, _state(objective), []
    for number, rate in enumerate(rates, start=1):
        numbers = {RATE: np.array(rate, np.float32), STEP: np.array(number, np.int64)}
        after = _run(model, {"x": X, "target": TARGET, **state, **numbers})
        state = {name: after[f"{name}.after"] for name in state}
        found.append(state)
    return found


RATES = (0.1, 0.05, 0.2, 0.1)


def test_adamw_is_that_of_its_paper() -> None:
    weights = {name: array.astype(np.float64) for name, array in START.items()}
    mean, square = ({name: np.zeros(array.shape) for name, array in START.items()} for _ in range(2))
    for number, (rate, found) in enumerate(zip(RATES, _steps(Objective(), RATES)), start=1):
        for name, gradient in _gradient(weights).items():
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.999 * square[name] + 0.001 * gradient**2
            first, second = mean[name] / (1 - 0.9**number), square[name] / (1 - 0.999**number)
            weights[name] = weights[name] - rate * first / (np.sqrt(second) + 1e-8)
        for name in START:
            np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_with_and_without_momentum(momentum: float) -> None:
    weights = {name: array.astype(np.float64) for name, array in START.items()}
    moved = {name: np.zeros(array.shape) for name, array in START.items()}
    for rate, found in zip(RATES, _steps(Objective("sgd", momentum), RATES)):
        for name, gradient in _gradient(weights).items():
            moved[name] = momentum * moved[name] + gradient
            weights[name] = weights[name] - rate * moved[name]
        for name in START:
            np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=1e-6)


def test_regularisers_and_mask_apply_alike() -> None:
    mask = np.array([[1, 0]], np.float32)
    objective = Objective("sgd", l2=0.3, regularised=frozenset(["w"]), l2_sp=0.7, masks={"w": mask})
    weights = {name: array.astype(np.float64) for name, array in START.items()}
    for rate, found in zip(RATES, _steps(objective, RATES)):
        gradient = _gradient(weights)
        for name in START:
            pull = gradient[name] + 0.7 * (weights[name] - START[name]) + (0.3 * weights[name] if name == "w" else 0)
            weights[name] = weights[name] - rate * pull * (mask if name == "w" else 1)
        for name in START:
            np.testing.assert_allclose(found[name], weights[name], rtol=2e-6, atol=1e-6)
        assert found["w"][:, 1].tobytes() == START["w"][:, 1].tobytes()


@pytest.mark.parametrize("limit", [0.05, 100.0])
def test_gradients_are_scaled_down_together(limit: float) -> None:
    gradient = _gradient(START)
    norm = np.sqrt(sum((each**2).sum() for each in gradient.values()))
    (found,) = _steps(Objective("sgd", clip_norm=limit), [0.5])
    for name in START:
        expected = START[name] - 0.5 * gradient[name] * min(1, limit / norm)
        np.testing.assert_allclose(found[name], expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(
    "objective", [Objective(), Objective("sgd", 0.9, l2_sp=0.1, clip_norm=0.3)], ids=["adamw", "sgd"]
)
def test_gradients_and_update_together_are_a_step(objective: Objective) -> None:
    models, state = _models(objective), _state(objective)
    numbers = {RATE: np.array(0.1, np.float32), STEP: np.array(1, np.int64)}
    whole = _run(models.step, {"x": X, "target": TARGET, **state, **numbers})
    sums: dict[str, Array] = {sum_name(name): np.zeros_like(array) for name, array in START.items()}
    for part in (slice(0, 5), slice(0, 5)):
        after = _run(models.gradients, {"x": X[part], "target": TARGET[part], **START, **sums})
        sums = {name: after[f"{name}.after"] for name in sums}
        assert after["loss"] == whole["loss"]
    divided = _run(models.update, {**state, **sums, **numbers, BATCHES: np.array(2, np.float32)})
    for name in state:
        assert divided[f"{name}.after"].tobytes() == whole[f"{name}.after"].tobytes(), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_what_gradients_and_step_have_in_common_is_written_as_if_each_were_alone(optimizer: OptimizerName) -> None:
    models = _models(Objective(optimizer, regularised=frozenset({"w"}), l2=0.1, clip_norm=1.0))
    message = ir.to_proto(models.step)
    turn_into(message, models.gradients)
    assert message == ir.to_proto(models.gradients)
    names = [node.name for node in message.graph.node if node.name]
    assert len(set(names)) == len(names)


def test_eval_gives_loss_and_output_and_moves_nothing() -> None:
    found = _run(_models(Objective()).eval, {"x": X, "target": TARGET, **START})
    expected = X.astype(np.float64) @ START["w"] + START["b"]
    np.testing.assert_allclose(found["y"], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found["loss"], ((expected - TARGET) ** 2).mean(), rtol=1e-6)
    assert set(found) == {"loss", "y"}


@pytest.mark.parametrize("parameters", [("first", "last"), ("last", "first")])
def test_the_parameter_nearest_to_the_loss_is_moved_by_the_last_node_whatever_order_is_asked_for(
    parameters: tuple[str, str],
) -> None:
    # The runtime begins with the last node that nobody reads; so the gradient of an activation need not be kept.
    proto = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[N,3] x, float[N,2] target) => (float loss, float[N,2] y) '
        "{ h = MatMul (x, first)  y = MatMul (h, last)  d = Sub (y, target)  s = Mul (d, d)  "
        "loss = ReduceMean <keepdims=0> (s) }"
    )
    proto.graph.initializer.extend(
        numpy_helper.from_array(RNG.normal(size=size).astype(np.float32), name)
        for name, size in (("first", (3, 4)), ("last", (4, 2)))
    )
    models = make_models(ir.from_proto(proto), parameters, Objective())
    for graph, ending in ((models.step.graph, ".after"), (models.gradients.graph, ".sum.after")):
        place = {str(value.name): place for place, node in enumerate(graph) for value in node.outputs}
        first, last = (
            next(at for name, at in place.items() if name.endswith(word + ending)) for word in ("first", "last")
        )
        assert first < last
