"""A training run of ONNX Runtime's on-device training API: its module, optimizer and checkpoint state, opened together.

A checkpoint is one file with parameters, optimizer state and the state of the run (a property, as JSON), written beside its
place and renamed: it is there whole or not at all, and its parts belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.engines.frozen import require_frozen
from tgdonnx.engines.onnxruntime_training.checkpoints import RUN_PROPERTY, load_checkpoint, run_of, seal
from tgdonnx.engines.onnxruntime_training.files import EVAL_MODEL, OPTIMIZER_MODEL, TRAINING_MODEL
from tgdonnx.engines.onnxruntime_training.optimizers import average_gradients
from tgdonnx.engines.protocol import Batch, BatchLoss
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import replacing
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.runtime import CPU, Device, load_training_api, reason_of, session_options, writing


class ModuleSession:
    """The runtime's module, optimizer and checkpoint state.

    Attributes:
        run: the state of the run that wrote the checkpoint, as JSON; None if there was none.
    """

    def __init__(
        self,
        directory: Path,
        checkpoint: str,
        inputs: Sequence[str],  # noqa: ARG002  # the module takes arrays in order
        parameters: Sequence[str],
        device: Device = CPU,
    ) -> None:
        """Opens artifacts; see `tgdonnx.engines.protocol.Opening`."""
        assert device == CPU, "its last release has no CUDA for a Python that is still used"
        require_frozen([directory / TRAINING_MODEL, directory / EVAL_MODEL])
        self._directory, self._count = directory, len(parameters)
        self._api = load_training_api()
        self._state = load_checkpoint(directory, checkpoint)
        self.run: Optional[str] = run_of(self._state, directory / checkpoint)
        try:
            models = [str(directory / name) for name in (TRAINING_MODEL, EVAL_MODEL)]
            self._module = self._api.Module(models[0], self._state, models[1], "cpu", session_options())
            self._optimizers = {1: self._api.Optimizer(str(directory / OPTIMIZER_MODEL), self._module)}
        except (RuntimeError, UnicodeDecodeError) as error:  # what it says may quote bytes of a damaged file
            raise ArtifactsError(
                f"ONNX Runtime cannot load {directory}: {reason_of(error)}", remedy="build the artifacts again"
            ) from error

    def step(self, batches: Iterable[Batch], learning_rate: float) -> list[BatchLoss]:
        """Moves the parameters by the mean gradient of some batches; see `tgdonnx.engines.TrainingSession`."""
        losses: list[BatchLoss] = []
        self._module.train()
        try:
            for batch in batches:
                found = self._module(*batch)  # an array, or of several losses a tuple
                loss, *parts = map(float, found if isinstance(found, tuple) else (found,))
                losses.append(BatchLoss(loss, parts))
                if not np.isfinite(losses[-1]):
                    return losses
            optimizer = self._optimizer_for(len(losses))
            optimizer.set_learning_rate(learning_rate)
            optimizer.step()
        finally:
            self._module.lazy_reset_grad()
        return losses

    def evaluate(self, batch: Batch) -> tuple[float, tuple[NDArray[np.float32], ...]]:
        """Returns the loss of a batch, and what else the eval model gives; nothing is trained."""
        self._module.eval()
        loss, *others = self._module(*batch)
        return float(loss), tuple(others)

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Returns copies of the parameters, by name."""
        return {name: np.array(parameter.data) for name, parameter in self._state.parameters}

    def set_parameters(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Puts other values in place of parameters; see `tgdonnx.engines.TrainingSession`."""
        for name, array in values.items():
            parameter = self._state.parameters[name]
            assert array.shape == parameter.data.shape, name
            parameter.data = np.ascontiguousarray(array, np.float32)

    def save(self, path: Path, run: str) -> None:
        """Writes a checkpoint; see `tgdonnx.engines.TrainingSession`."""
        self.run = run
        self._state.properties[RUN_PROPERTY] = run
        with replacing(path) as temporary:
            with writing(temporary, path):
                self._api.CheckpointState.save_checkpoint(self._state, str(temporary), include_optimizer_state=True)
            seal(temporary)

    def _optimizer_for(self, batches: int) -> Any:
        """Returns the optimizer that divides sums of gradients by ``batches``; all work on the same state."""
        if batches not in self._optimizers:
            model = onnx.load(self._directory / OPTIMIZER_MODEL)
            average_gradients(model, self._count, batches)
            with scratch_directory() as folder:
                path = folder / OPTIMIZER_MODEL
                onnx.save(model, path)
                self._optimizers[batches] = self._api.Optimizer(str(path), self._module)
        return self._optimizers[batches]
