"""A training run of ONNX Runtime on an artifacts directory: step, evaluate, save, load.

A checkpoint is one file with parameters, optimizer state and the state of the run (a property, as JSON), written beside its
place and renamed: it is there whole or not at all, and its parts belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest, parse_loss, read_manifest
from tgdonnx.artifacts.checkpoints import load_checkpoint, seal
from tgdonnx.artifacts.frozen import require_frozen
from tgdonnx.artifacts.manifest import BEST_CHECKPOINT, CHECKPOINT, EVAL_MODEL, OPTIMIZER_MODEL, TRAINING_MODEL
from tgdonnx.artifacts.matching import require_inputs_of
from tgdonnx.artifacts.optimizers import average_gradients
from tgdonnx.data import Dataset
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning.logs import StepEntry, read_log
from tgdonnx.finetuning.state import RunState
from tgdonnx.modelfile import load_model, replacing
from tgdonnx.runtime import load_training_api, open_inference, reason_of, session_options, writing
from tgdonnx.scratch import scratch_directory

_STATE = "tgdonnx.run"


class Session:
    """The runtime's module, optimizer and checkpoint state, opened together.

    Attributes:
        directory: the artifacts directory.
        manifest: what is in it.
    """

    def __init__(self, directory: Path, *, checkpoint: str = CHECKPOINT) -> None:
        """Opens an artifacts directory.

        Args:
            directory: the artifacts directory.
            checkpoint: the file in it to start from.

        Raises:
            ArtifactsError: the directory is not usable, or the runtime cannot load it.
            RuntimeMissingError: onnxruntime-training is not installed.
        """
        self.directory = directory
        self.manifest: Manifest = read_manifest(directory)
        require_inputs_of(self.manifest, directory)
        require_frozen([directory / TRAINING_MODEL, directory / EVAL_MODEL])
        api = load_training_api()
        self._api = api
        self._checkpoint = checkpoint
        self._state = load_checkpoint(directory, checkpoint)
        try:
            models = [str(directory / name) for name in (TRAINING_MODEL, EVAL_MODEL)]
            self._module = api.Module(models[0], self._state, models[1], "cpu", session_options())
            self._optimizers = {1: api.Optimizer(str(directory / OPTIMIZER_MODEL), self._module)}
        except RuntimeError as error:
            raise ArtifactsError(
                f"ONNX Runtime cannot load {directory}: {reason_of(error)}; build the artifacts again"
            ) from error

    @property
    def run_state(self) -> Optional[RunState]:
        """The state of the run that wrote the checkpoint; None if none of ours did."""
        return _state_of(self._state, self.directory / self._checkpoint)

    @property
    def parameter_bytes(self) -> int:
        """What the parameters take."""
        return sum(int(parameter.data.nbytes) for _, parameter in self._state.parameters)

    def step(self, batch: list[NDArray[Any]], learning_rate: float) -> float:
        """Trains on one batch and returns the loss before the update, which is left out if that is not finite."""
        loss = self.backward(batch)
        if np.isfinite(loss):
            self.update(1, learning_rate)
        else:
            self.discard()
        return loss

    def backward(self, batch: list[NDArray[Any]]) -> float:
        """Adds the gradient of a batch to those since the last update, and returns the loss."""
        self._module.train()
        return float(self._module(*batch))

    def update(self, batches: int, learning_rate: float) -> None:
        """Moves the parameters by the mean of the gradients of the batches since the last update.

        Args:
            batches: how many they are.
            learning_rate: of this update.
        """
        optimizer = self._optimizer_for(batches)
        optimizer.set_learning_rate(learning_rate)
        optimizer.step()
        self._module.lazy_reset_grad()

    def discard(self) -> None:
        """Forgets the gradients since the last update."""
        self._module.lazy_reset_grad()

    def _optimizer_for(self, batches: int) -> Any:
        """Returns the optimizer that divides sums of gradients by ``batches``; all work on the same state."""
        if batches not in self._optimizers:
            model = onnx.load(self.directory / OPTIMIZER_MODEL)
            average_gradients(model, len(self.manifest.trained), batches)
            with scratch_directory() as folder:
                path = folder / OPTIMIZER_MODEL
                onnx.save(model, path)
                self._optimizers[batches] = self._api.Optimizer(str(path), self._module)
        return self._optimizers[batches]

    def evaluate(self, batch: list[NDArray[Any]]) -> tuple[float, NDArray[np.float32]]:
        """Returns the loss of a batch, and the model's output; nothing is trained."""
        self._module.eval()
        loss, output = self._module(*batch)
        return float(loss), output

    def predict(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Returns the model's output with the parameters as they are, without a target; loads the model anew, which takes time.

        Raises:
            DataError: the model does not take inputs of these sizes.
        """
        file = load_model(self.directory / EVAL_MODEL)
        # In the order of the manifest, and not always under its names.
        names = [value.name for value in file.proto.graph.input[: len(self.manifest.inputs)]]
        feeds = dict(zip(names, inputs))
        given = {name: parameter.data for name, parameter in self._state.parameters}
        target = self.manifest.inputs[-1]  # has to be fed, but is not read
        given[names[-1]] = np.zeros([size or 1 for size in target.shape or ()], target.dtype)
        # The loss stays out: a target that does not fit would break it.
        model = open_inference(file, outputs=[file.proto.graph.output[1].name])
        output: NDArray[np.float32]
        (output,) = model.run(feeds, given=given)
        return output

    def require_fit(self, dataset: Dataset) -> None:
        """Checks by one forward pass that samples go through the model, and that the targets fit what comes out.

        Raises:
            DataError: they do not.
        """
        batch = next(dataset.batches(self.manifest.fixed_batch or 1))
        output = self.predict(batch[:-1]).shape
        loss = parse_loss(self.manifest.options["loss"])
        problem = loss.output_problem(output)
        if problem is not None:
            raise DataError(problem)
        expected = loss.target_shape(output, self.manifest.class_axis)
        if batch[-1].shape != expected:
            raise DataError(
                f"the target does not fit the output: for inputs of {', '.join(str(list(a.shape)) for a in batch[:-1])} "
                f"expected {list(expected)}, found {list(batch[-1].shape)}"
            )
        limit = loss.target_limit(output, self.manifest.class_axis)
        if limit is not None:
            dataset.require_target(0, limit, str(loss))

    def parameters_are_finite(self) -> bool:
        """Whether no parameter has become NaN or infinite."""
        return all(bool(np.isfinite(parameter.data).all()) for _, parameter in self._state.parameters)

    def save(self, name: str, run_state: RunState) -> None:
        """Writes a checkpoint into the directory.

        Raises:
            OutputError: it cannot be written.
        """
        self._state.properties[_STATE] = run_state.to_json()
        with replacing(self.directory / name) as temporary:
            with writing(temporary, self.directory / name):
                self._api.CheckpointState.save_checkpoint(self._state, str(temporary), include_optimizer_state=True)
            seal(temporary)


def read_state(directory: Path, checkpoint: str) -> Optional[RunState]:
    """Returns the state of the run that wrote a checkpoint; None if none of ours did.

    Raises:
        ArtifactsError: the checkpoint cannot be read.
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    return _state_of(load_checkpoint(directory, checkpoint), directory / checkpoint)


def _state_of(checkpoint: Any, path: Path) -> Optional[RunState]:
    if _STATE not in checkpoint.properties:
        return None
    text = checkpoint.properties[_STATE]
    if not isinstance(text, str):
        raise ArtifactsError(f"the state in {path} is no text; use the other checkpoint, or build and train again")
    return RunState.from_json(text, str(path))


def steps_kept(directory: Path) -> int:
    """Returns how many steps the checkpoints of a directory hold, the larger number of the two; 0 if none was trained.

    Of one that cannot be read the log has to say.
    """
    steps = 0
    for name in (CHECKPOINT, BEST_CHECKPOINT):
        if (directory / name).is_file():
            try:
                state = read_state(directory, name)
                steps = max(steps, state.step if state is not None else 0)
            except ArtifactsError:
                with suppress(ArtifactsError):
                    steps = max(steps, sum(isinstance(line.entry, StepEntry) for line in read_log(directory)))
    return steps


def read_parameters(directory: Path, checkpoint: str) -> dict[str, NDArray[np.float32]]:
    """Returns the parameters of a checkpoint by name.

    Raises:
        ArtifactsError: the checkpoint cannot be read.
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    state = load_checkpoint(directory, checkpoint)
    return {name: np.array(parameter.data) for name, parameter in state.parameters}
