"""A few steps on artifacts without anything of ours that trains, to look at gradients and updates from outside.

Artifacts of onnxruntime-training are opened by its own interface, those of onnxruntime by plain inference sessions.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from safetensors.numpy import load_file

import tgdonnx
from tests.oracles.numpy_net import NumpyNet, loss_gradient, loss_of
from tests.support import models
from tests.support.sessions import open_session
from tgdonnx.artifacts import read_manifest
from tgdonnx.engines.onnxruntime.models import BATCHES, RATE, STEP, moment_names, sum_name
from tgdonnx.engines.onnxruntime.optimizers import moment_count
from tgdonnx.runtime import load_training_api, session_options

Array = NDArray[Any]


class Trainer(Protocol):
    """Artifacts that take steps."""

    def gradients(self, *batch: Array) -> tuple[float, dict[str, Array]]:
        """Returns the loss and what the optimizer would be given, without a step.

        A limit of the norm is in it with the engine onnxruntime, and is not yet in it with onnxruntime-training.
        """
        ...

    def step(self, learning_rate: float, *batch: Array) -> float: ...

    def evaluate(self, *batch: Array) -> tuple[float, Array]: ...

    @property
    def parameters(self) -> dict[str, Array]: ...

    def move_to(self, parameters: Mapping[str, Array]) -> None: ...


def open_trainer(directory: Path) -> Trainer:
    """Opens artifacts, whatever their engine is."""
    engine = read_manifest(directory).engine
    return StockTrainer(directory) if engine == "onnxruntime-training" else StepTrainer(directory)


class StockTrainer:
    """The module, the optimizer and the checkpoint state of artifacts of onnxruntime-training."""

    def __init__(self, directory: Path) -> None:
        api = load_training_api()
        self.state = api.CheckpointState.load_checkpoint(str(directory / "checkpoint"))
        models_ = [str(directory / name) for name in ("training_model.onnx", "eval_model.onnx")]
        # With the options that it makes by itself, onnxruntime-training 1.19.2 writes beyond its memory for some graphs.
        self.module = api.Module(models_[0], self.state, models_[1], "cpu", session_options())
        self.optimizer = api.Optimizer(str(directory / "optimizer_model.onnx"), self.module)

    def gradients(self, *batch: Array) -> tuple[float, dict[str, Array]]:
        """Returns the loss and what the optimizer would be given, without a step."""
        self.module.train()
        loss = float(self.module(*batch))
        found = {name: np.array(parameter.grad) for name, parameter in self.state.parameters}
        self.module.lazy_reset_grad()
        return loss, found

    def step(self, learning_rate: float, *batch: Array) -> float:
        self.module.train()
        self.optimizer.set_learning_rate(learning_rate)
        loss = float(self.module(*batch))
        self.optimizer.step()
        self.module.lazy_reset_grad()
        return loss

    def evaluate(self, *batch: Array) -> tuple[float, Array]:
        self.module.eval()
        loss, output = self.module(*batch)
        return float(loss), np.array(output)

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: np.array(parameter.data) for name, parameter in self.state.parameters}

    def move_to(self, parameters: Mapping[str, Array]) -> None:
        for name, values in parameters.items():
            self.state.parameters[name].data = values


class StepTrainer:
    """The models of artifacts of onnxruntime, and their state."""

    def __init__(self, directory: Path) -> None:
        names = ("step", "gradients", "update", "eval")
        self._sessions = {name: open_session(directory / f"{name}.onnx", session_options()) for name in names}
        self._state = dict(load_file(directory / "state.safetensors"))
        manifest = read_manifest(directory)
        self._inputs = [spec.name for spec in manifest.inputs]
        self._parameters = [tensor.name for tensor in manifest.trained]
        self._moments = moment_count(manifest.options.optimizer, manifest.options.momentum)
        self._optimizer = manifest.options.optimizer
        self._updates = 0

    def gradients(self, *batch: Array) -> tuple[float, dict[str, Array]]:
        """Taken from what the optimizer makes of them when it remembers nothing yet."""
        zeros = {sum_name(name): np.zeros_like(self._state[name]) for name in self._parameters}
        added = self._run("gradients", {**self._fed(batch), **zeros})
        sums = {name: added[f"{name}.after"] for name in zeros}
        moments = {
            each: np.zeros_like(self._state[name])
            for name in self._parameters
            for each in moment_names(name, self._moments)
        }
        rate = 2.0**60  # so that nothing but the gradient is left of what it moved
        feeds = {**sums, **moments, BATCHES: np.float32(1), RATE: np.float32(rate), STEP: np.int64(1)}
        after = self._run("update", feeds)
        found = {}
        for name in self._parameters:
            if self._moments:
                share = np.float32(1 - 0.9) if self._optimizer == "adamw" else np.float32(1)
                found[name] = after[f"{moment_names(name, 1)[0]}.after"] / share
            else:
                moved = self._state[name].astype(np.float64) - after[f"{name}.after"]
                found[name] = (moved / rate).astype(np.float32)
        return float(added[self._first("gradients")]), found

    def step(self, learning_rate: float, *batch: Array) -> float:
        self._updates += 1
        numbers = {RATE: np.float32(learning_rate), STEP: np.int64(self._updates)}
        after = self._run("step", {**self._fed(batch), **numbers})
        self._state = {name: after[f"{name}.after"] for name in self._state}
        return float(after[self._first("step")])

    def evaluate(self, *batch: Array) -> tuple[float, Array]:
        loss, output = self._run("eval", self._fed(batch)).values()
        return float(loss), output

    @property
    def parameters(self) -> dict[str, Array]:
        return {name: self._state[name].copy() for name in self._parameters}

    def move_to(self, parameters: Mapping[str, Array]) -> None:
        self._state.update(parameters)

    def _fed(self, batch: Sequence[Array]) -> dict[str, Array]:
        assert len(batch) == len(self._inputs)
        return dict(zip(self._inputs, batch))

    def _first(self, model: str) -> str:
        return str(self._sessions[model].get_outputs()[0].name)

    def _run(self, model: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        session = self._sessions[model]
        given = {**self._state, **feeds}
        wanted = {value.name: np.asarray(given[value.name]) for value in session.get_inputs()}
        return dict(zip([value.name for value in session.get_outputs()], session.run(None, wanted)))


def make_artifacts(
    model: onnx.ModelProto, directory: Path, strategy: tgdonnx.Strategy, *, mode: str = "paper", **options: Any
) -> Path:
    """Masks and builds; returns the artifacts directory."""
    models.save(model, directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", strategy, tgdonnx.MaskOptions(mode=mode))
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts", tgdonnx.BuildOptions(**options))
    return directory / "artifacts"


def true_gradients(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    target: Array,
    *,
    loss: str = "mse",
    logits: str | None = None,
    tensors: Mapping[str, Array] | None = None,
    gates: Mapping[str, Array] | None = None,
) -> tuple[float, dict[str, Array]]:
    """Returns the loss and its gradient by every value, in float64 by `NumpyNet`.

    Args:
        model: the vendor's.
        feeds: its inputs.
        target: what the output is compared with.
        loss: see `loss_of`.
        logits: the value that the loss takes; the model's first output if None.
        tensors: take the place of the model's.
        gates: see `NumpyNet.gradients`.
    """
    net = NumpyNet(model)
    name = logits or net.outputs[0]
    output = net.run(feeds, tensors)[name]
    seeds = {name: loss_gradient(loss, output, target)}
    return loss_of(loss, output, target), net.gradients(feeds, seeds, tensors=tensors, gates=gates)


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference, in units of the largest expected magnitude."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, f"{found.shape} and {expected.shape}"
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def select_filters(model: onnx.ModelProto, **rows: Sequence[int]) -> tgdonnx.Filters:
    """The named rows of the named weights."""
    stored = {tensor.name for tensor in model.graph.initializer}
    assert set(rows) <= stored
    return tgdonnx.Filters(dict(rows))


def main(directories: Sequence[str]) -> None:
    """Writes, into each of some artifacts directories, the gradients for its ``batch.npz``."""
    for directory in map(Path, directories):
        with np.load(directory / "batch.npz") as batch:
            _, gradients = open_trainer(directory).gradients(*batch.values())
        np.savez(directory / "gradients.npz", **gradients)


if __name__ == "__main__":
    main(sys.argv[1:])
