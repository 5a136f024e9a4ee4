"""A training run on any ONNX Runtime: state stays on the device, and every step writes it into the other of two buffers.

A step whose loss is not finite moves nothing: what it wrote is not taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.engines.frozen import FROZEN_DATA, require_frozen
from tgdonnx.engines.onnxruntime.models import AFTER, BATCHES, RATE, STEP, sum_name
from tgdonnx.engines.onnxruntime.state import State, read_state, write_state
from tgdonnx.engines.protocol import BatchLoss
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.runtime import load_onnxruntime, reason_of
from tgdonnx.runtime.devices import CPU, Device, open_on
from tgdonnx.runtime.kept_open import kept_open

Array = NDArray[Any]
STEP_MODEL, GRADIENT_MODEL, UPDATE_MODEL, EVAL_MODEL = "step.onnx", "gradients.onnx", "update.onnx", "eval.onnx"


class StepSession:
    """The models of an artifacts directory, opened as they are needed, and the state that goes through them.

    Attributes:
        directory: the artifacts directory.
        updates: how often the optimizer moved the parameters.
        run: the state of the run that wrote the checkpoint, as JSON; None if there was none.
    """

    def __init__(
        self, directory: Path, checkpoint: str, inputs: Sequence[str], parameters: Sequence[str], device: Device = CPU
    ) -> None:
        """Opens a checkpoint.

        Args:
            directory: the artifacts directory.
            checkpoint: the file in it to start from.
            inputs: the names of what a batch is made of, in its order.
            parameters: the names of the parameters.
            device: where to run.

        Raises:
            ArtifactsError: the checkpoint is not usable.
            RuntimeMissingError: no onnxruntime is installed.
        """
        require_frozen([directory / name for name in (STEP_MODEL, GRADIENT_MODEL, EVAL_MODEL)])
        state = read_state(directory / checkpoint)
        missing = [name for name in parameters if name not in state.tensors]
        if missing:
            raise ArtifactsError(
                f"{directory / checkpoint} has no parameter {missing[0]!r}", remedy="build the artifacts again"
            )
        self.directory, self.updates, self.run = directory, state.updates, state.run
        self._runtime, self._device = load_onnxruntime(), device
        self._inputs, self._parameters = tuple(inputs), tuple(parameters)
        # The runtime takes the memory of an array for its own, so every buffer has an array of its own.
        self._now = {name: self._value(np.array(array)) for name, array in state.tensors.items()}
        self._next = {name: self._value(np.zeros_like(array)) for name, array in state.tensors.items()}
        self._sums: dict[str, Any] = {}
        self._bound_values: dict[str, Any] = {}
        self._sessions: dict[str, Any] = {}

    def step(self, batches: Iterable[Sequence[Array]], learning_rate: float) -> list[BatchLoss]:
        """Moves the parameters by the mean gradient of some batches.

        Args:
            batches: one or more; each the arrays of the inputs, in order.
            learning_rate: of this step.

        Returns:
            The loss of each batch, up to one that is not finite; then nothing moved.

        Raises:
            DataError: the models do not run on a batch.
        """
        losses: list[BatchLoss] = []
        waiting: Optional[Sequence[Array]] = None
        for batch in batches:
            if waiting is not None:
                losses.append(self._add_gradient(waiting, first=not losses))
                if not np.isfinite(losses[-1]):
                    return losses
            waiting = batch
        assert waiting is not None, "a step needs a batch"
        if not losses:
            return [self._whole_step(waiting, learning_rate)]
        losses.append(self._add_gradient(waiting, first=False))
        if np.isfinite(losses[-1]):
            self._update(len(losses), learning_rate)
        return losses

    def evaluate(self, batch: Sequence[Array]) -> tuple[float, tuple[NDArray[np.float32], ...]]:
        """Returns the loss of a batch, and what else the eval model gives; nothing is trained.

        Raises:
            DataError: the model does not run on the batch.
        """
        session = self._open(EVAL_MODEL)
        binding = self._bound(session, self._fed(batch))
        for value in session.get_outputs():
            binding.bind_output(value.name, "cpu")
        self._run(session, binding)
        loss, *others = binding.copy_outputs_to_cpu()
        return float(loss), tuple(others)

    def gradients(self, batch: Sequence[Array]) -> tuple[float, dict[str, NDArray[np.float32]]]:
        """Returns the loss of a batch, and its gradient by every parameter, neither regularised nor masked; nothing is trained.

        Raises:
            DataError: the model does not run on the batch.
        """
        loss = self._add_gradient(batch, first=True)
        found = {name: np.array(self._sums[sum_name(name)].numpy()) for name in self._parameters}
        self._sums = {}
        return loss, found

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Returns copies of the parameters."""
        return {name: np.array(self._now[name].numpy()) for name in self._parameters}

    def set_parameters(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Puts other values in place of parameters; see `tgdonnx.engines.TrainingSession`."""
        for name, array in values.items():
            assert array.shape == tuple(self._now[name].shape()), name
            self._now[name] = self._value(np.array(array, np.float32))

    def save(self, path: Path, run: str) -> None:
        """Writes a checkpoint.

        Args:
            path: the file.
            run: the state of the run, as JSON.

        Raises:
            OutputError: it cannot be written.
        """
        self.run = run
        tensors = {name: np.array(value.numpy()) for name, value in self._now.items()}
        write_state(path, State(tensors, self.updates, run))

    def _whole_step(self, batch: Sequence[Array], learning_rate: float) -> BatchLoss:
        session = self._open(STEP_MODEL)
        binding = self._bound(session, {**self._fed(batch), **self._numbers(learning_rate)})
        losses = self._bind_losses(session, binding)
        self._move(session, binding)
        found = _told(losses)
        if np.isfinite(found):
            self._take()
        return found

    def _add_gradient(self, batch: Sequence[Array], *, first: bool) -> BatchLoss:
        session = self._open(GRADIENT_MODEL)
        zeros = {sum_name(name): np.zeros(self._now[name].shape(), np.float32) for name in self._parameters}
        if first:
            self._sums = {name: self._value(array) for name, array in zeros.items()}
        after = {name: self._value(array) for name, array in zeros.items()}
        binding = self._bound(session, {**self._fed(batch), **self._sums})
        losses = self._bind_losses(session, binding)
        for name, value in after.items():
            binding.bind_ortvalue_output(f"{name}{AFTER}", value)
        self._run(session, binding)
        self._sums = after
        return _told(losses)

    def _update(self, batches: int, learning_rate: float) -> None:
        session = self._open(UPDATE_MODEL)
        count = self._value(np.array(batches, np.float32))
        self._move(session, self._bound(session, {BATCHES: count, **self._sums, **self._numbers(learning_rate)}))
        self._take()
        self._sums = {}

    def _fed(self, batch: Sequence[Array]) -> dict[str, Any]:
        return {name: self._value(array) for name, array in zip(self._inputs, batch)}

    def _numbers(self, learning_rate: float) -> dict[str, Any]:
        step = np.array(self.updates + 1, np.int64)
        return {RATE: self._value(np.array(learning_rate, np.float32)), STEP: self._value(step)}

    def _bind_losses(self, session: Any, binding: Any) -> list[Any]:
        """Binds the losses, which are the outputs that are no state and no sum; returns where they will be."""
        names = [value.name for value in session.get_outputs() if not value.name.endswith(AFTER)]
        losses = [self._value(np.zeros((), np.float32)) for _ in names]
        for name, loss in zip(names, losses):
            binding.bind_ortvalue_output(name, loss)
        return losses

    def _bound(self, session: Any, given: dict[str, Any]) -> Any:
        """Returns a binding of what a model reads: what is given, and the state."""
        binding, values = session.io_binding(), {**self._now, **given}
        # A binding keeps no array of numpy's, and one that had to be brought into order has no other owner.
        self._bound_values = values
        for value in session.get_inputs():
            binding.bind_ortvalue_input(value.name, values[value.name])
        return binding

    def _move(self, session: Any, binding: Any) -> None:
        """Runs a model that gives a new state, into the buffers that are free."""
        for name, value in self._next.items():
            binding.bind_ortvalue_output(f"{name}{AFTER}", value)
        self._run(session, binding)

    def _take(self) -> None:
        self._now, self._next = self._next, self._now
        self.updates += 1

    def _run(self, session: Any, binding: Any) -> None:
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # the runtime raises its own types, which share no base
            raise DataError(f"the model cannot be run on this data: {reason_of(error)}") from error

    def _value(self, array: Array) -> Any:
        """Returns an array on the device. A binding does not keep the memory of an array of numpy's; it keeps this."""
        values = np.asarray(array, order="C")
        return self._runtime.OrtValue.ortvalue_from_numpy(values, self._device.kind, self._device.index)

    def _open(self, name: str) -> Any:
        if name not in self._sessions:
            path = self.directory / name
            self._sessions[name] = kept_open(lambda: self._key(path), lambda: open_on(path, self._device))
        return self._sessions[name]

    def _key(self, path: Path) -> Optional[tuple[str, Device]]:
        """Returns what tells a model from all others; None where part of it lies in another file."""
        if (self.directory / FROZEN_DATA).exists():
            return None
        return hashlib.sha256(path.read_bytes()).hexdigest(), self._device


def _told(losses: Sequence[Any]) -> BatchLoss:
    loss, *parts = (float(value.numpy()) for value in losses)
    return BatchLoss(loss, parts)
