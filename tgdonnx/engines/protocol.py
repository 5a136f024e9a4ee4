"""What an engine is: it writes artifacts for a problem, and trains what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import RuntimeMissingError
from tgdonnx.runtime import Device

EngineName = Literal["onnxruntime", "onnxruntime-training"]
OptimizerName = Literal["adamw", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "sgd")
GradientKind = Literal["mask", "gate"]
GRADIENTS: tuple[GradientKind, ...] = ("mask", "gate")
Batch = Sequence[NDArray[Any]]
"""The arrays of the inputs, in their order: inputs of the model, targets, weights."""


class BatchLoss(float):
    """The loss of a batch.

    Attributes:
        parts: of several outputs that train, the loss of each; it is their sum. Empty where one trains.
    """

    parts: tuple[float, ...]

    def __new__(cls, loss: float, parts: Sequence[float] = ()) -> BatchLoss:
        """Makes one."""
        made = super().__new__(cls, loss)
        made.parts = tuple(parts)
        return made


@dataclass(frozen=True)
class Objective:
    """What is minimised besides the loss, and how.

    Attributes:
        optimizer: ``adamw`` or ``sgd``.
        momentum: of sgd.
        l2: factor of the squared weights.
        regularised: the parameters that it applies to.
        l2_sp: factor of the squared distance from the start.
        clip_norm: largest norm of the gradient; None for no limit.
        masks: for names of parameters of which not all trains the retrain mask.
        gates: for names of values of the graph what their gradient is multiplied by.
    """

    optimizer: OptimizerName = "adamw"
    momentum: float = 0.0
    l2: float = 0.0
    regularised: frozenset[str] = frozenset()
    l2_sp: float = 0.0
    clip_norm: Optional[float] = None
    masks: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    gates: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What artifacts are made of.

    Attributes:
        model: a lowered graph; its outputs are the loss, a scalar, the outputs that train, and of several the loss of each; its
            inputs are what a step is fed. The parameters are initializers. Used up by whoever writes it.
        parameters: their names.
        objective: how to minimise.
    """

    model: ir.Model = field(repr=False)
    parameters: tuple[str, ...]
    objective: Objective


def part_losses(graph: ir.Graph) -> list[ir.Value]:
    """Returns those outputs of the graph of a problem that are the losses of several outputs."""
    others = list(graph.outputs)[1:]
    return others[len(others) // 2 :] if len(others) > 1 else []


class TrainingSession(Protocol):
    """A training run on artifacts."""

    run: Optional[str]
    """The state of the run that wrote the checkpoint, as JSON; None if there was none."""

    def step(self, batches: Iterable[Batch], learning_rate: float) -> list[BatchLoss]:
        """Moves the parameters by the mean gradient of some batches.

        Args:
            batches: one or more.
            learning_rate: of this step.

        Returns:
            The loss of each batch, up to one that is not finite; then nothing moved.
        """
        ...

    def evaluate(self, batch: Batch) -> tuple[float, tuple[NDArray[np.float32], ...]]:
        """Returns the loss of a batch, and what else the eval model gives; nothing is trained."""
        ...

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Returns copies of the parameters, by name."""
        ...

    def set_parameters(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Puts other values in place of parameters; what the optimizer remembers stays.

        Args:
            values: by names of parameters, each of its shape.
        """
        ...

    def save(self, path: Path, run: str) -> None:
        """Writes a checkpoint.

        Args:
            path: the file.
            run: the state of the run, as JSON.

        Raises:
            OutputError: it cannot be written.
        """
        ...


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        parameters: by name.
        run: the state of the run that wrote it, as JSON; None if there was none.
    """

    parameters: Mapping[str, NDArray[np.float32]] = field(repr=False)
    run: Optional[str]


class Opening(Protocol):
    """Opens a training session."""

    def __call__(
        self, directory: Path, checkpoint: str, inputs: Sequence[str], parameters: Sequence[str], device: Device
    ) -> TrainingSession:
        """Opens artifacts.

        Args:
            directory: where they are.
            checkpoint: the file in it to start from.
            inputs: the names, in the graphs, of what a batch is made of.
            parameters: the names of the parameters.
            device: where to run; one of those of the engine.

        Raises:
            ArtifactsError: they are not usable.
            RuntimeMissingError: the runtime is not installed, or does not take the device.
        """
        ...


@dataclass(frozen=True)
class Engine:
    """One way to train.

    Attributes:
        name: what it is called.
        devices: the kinds of devices that it trains on.
        has_momentum: whether its optimizer sgd takes a momentum.
        models: the files of its artifacts that are models.
        eval_model: the one of these that gives loss and output.
        checkpoint: the file with parameters and optimizer state.
        best_checkpoint: the same of the best epoch.
        differentiate: builds the gradient of a problem, and forgets it.
        write: writes models and checkpoint of a problem into a directory.
        open: opens a training session.
        read: reads a checkpoint, and checks that it is as it was written.
    """

    name: EngineName
    devices: tuple[str, ...]
    has_momentum: bool
    models: tuple[str, ...]
    eval_model: str
    checkpoint: str
    best_checkpoint: str
    differentiate: Callable[[Problem], None]
    write: Callable[[Problem, Path], None]
    open: Opening
    read: Callable[[Path, str], Checkpoint]

    def require_device(self, device: Device) -> None:
        """Checks that the engine trains on a device; whether there is one here, `tgdonnx.runtime.usable_device` tells.

        Raises:
            RuntimeMissingError: it does not.
        """
        if device.kind not in self.devices:
            raise RuntimeMissingError(
                f"the engine {self.name} trains on the device {' or '.join(self.devices)}, not on {device}; "
                "build for the engine onnxruntime, or use another device"
            )
