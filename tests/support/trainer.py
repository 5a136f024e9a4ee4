"""A few steps of the runtime's own training interface, to look at gradients and updates from outside."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

import tgdonnx
from tests.oracles.numpy_net import NumpyNet, loss_gradient, loss_of
from tests.support import models
from tgdonnx.runtime import load_training_api, session_options

Array = NDArray[Any]


class Trainer:
    """The module, the optimizer and the checkpoint state of an artifacts directory."""

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
            _, gradients = Trainer(directory).gradients(*batch.values())
        np.savez(directory / "gradients.npz", **gradients)


if __name__ == "__main__":
    main(sys.argv[1:])
