"""A training run of ONNX Runtime on an artifacts directory: step, evaluate, save, load.

A checkpoint is one file with parameters, optimizer state and the state of the run (a property, as JSON), written beside its
place and renamed: it is there whole or not at all, and its parts belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest, parse_loss, read_manifest
from tgdonnx.artifacts.manifest import CHECKPOINT, EVAL_MODEL, OPTIMIZER_MODEL, TRAINING_MODEL
from tgdonnx.artifacts.runtime import load_onnxruntime, load_training_api
from tgdonnx.data import Dataset
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.modelfile import replacing

_STATE = "tgdonnx.run"


@dataclass(frozen=True)
class RunState:
    """Where a run stands, besides its parameters and its optimizer's state.

    Attributes:
        epoch: whole epochs done.
        step: steps done.
        settings: what the run was started with; a resumed run must have the same.
        best_loss: the lowest validation loss so far, or None.
        best_epoch: the epoch after which it was reached; epochs count from 1, 0 is the start.
        best_step: the step after which it was reached.
    """

    epoch: int
    step: int
    settings: Mapping[str, Any]
    best_loss: Optional[float] = None
    best_epoch: Optional[int] = None
    best_step: Optional[int] = None


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
        api = load_training_api()
        self._api = api
        try:
            self._state = api.CheckpointState.load_checkpoint(str(directory / checkpoint))
            options = load_onnxruntime().SessionOptions()
            # The plan by which the runtime lays out activations in memory is wrong for some training graphs, and then so
            # are gradients, or the process dies.
            options.enable_mem_pattern = False
            self._module = api.Module(
                str(directory / TRAINING_MODEL), self._state, str(directory / EVAL_MODEL), "cpu", options
            )
            self._optimizer = api.Optimizer(str(directory / OPTIMIZER_MODEL), self._module)
        except RuntimeError as error:
            raise ArtifactsError(
                f"ONNX Runtime cannot load {directory}: {str(error).splitlines()[0]}; build the artifacts again"
            ) from error

    @property
    def run_state(self) -> Optional[RunState]:
        """The state of the run that wrote the checkpoint; None if none of ours did."""
        if _STATE not in self._state.properties:
            return None
        return RunState(**json.loads(self._state.properties[_STATE]))

    def step(self, batch: list[NDArray[Any]], learning_rate: float) -> float:
        """Trains on one batch and returns the loss before the update."""
        self._module.train()
        self._optimizer.set_learning_rate(learning_rate)
        loss = float(self._module(*batch))
        if np.isfinite(loss):
            self._optimizer.step()
        self._module.lazy_reset_grad()
        return loss

    def mean_loss(self, batches: Iterable[list[NDArray[Any]]]) -> float:
        """Returns the loss over batches, each weighted by its number of samples; nothing is trained."""
        self._module.eval()
        total = count = 0.0
        for batch in batches:
            loss, _ = self._module(*batch)
            total, count = total + float(loss) * len(batch[0]), count + len(batch[0])
        return total / count

    def require_fit(self, dataset: Dataset) -> None:
        """Checks by one forward pass that samples go through the model and that the target fits what comes out.

        Raises:
            DataError: they do not.
        """
        batch = next(dataset.batches(self.manifest.fixed_batch or 1))
        output = self._output_shape(batch)
        loss = parse_loss(self.manifest.options["loss"])
        problem = loss.output_problem(output)
        if problem is not None:
            raise DataError(problem)
        expected = loss.target_shape(output)
        if batch[-1].shape != expected:
            raise DataError(
                f"the target does not fit the output: for inputs of {', '.join(str(list(a.shape)) for a in batch[:-1])} "
                f"expected {list(expected)}, found {list(batch[-1].shape)}"
            )
        limit = loss.target_limit(output)
        if limit is not None:
            dataset.require_target(0, limit, str(loss))

    def _output_shape(self, batch: list[NDArray[Any]]) -> tuple[int, ...]:
        """Runs the eval model up to the model's output, without the loss, which a target that does not fit would break."""
        runtime = load_onnxruntime()
        options, run_options = runtime.SessionOptions(), runtime.RunOptions()
        options.log_severity_level = run_options.log_severity_level = 4
        run_options.only_execute_path_to_fetches = True
        session = runtime.InferenceSession(str(self.directory / EVAL_MODEL), options)
        feeds = {spec.name: array for spec, array in zip(self.manifest.inputs, batch)}
        feeds.update((name, parameter.data) for name, parameter in self._state.parameters)
        try:
            (output,) = session.run([session.get_outputs()[1].name], feeds, run_options)
        except Exception as error:  # the runtime raises its own types, which share no base
            sizes = ", ".join(f"{spec.name} {list(array.shape)}" for spec, array in zip(self.manifest.inputs, batch))
            reason = str(error).splitlines()[0].rpartition("Status Message: ")[2]
            raise DataError(f"the model does not take data of these sizes: {sizes} ({reason})") from error
        return tuple(output.shape)

    def parameters_are_finite(self) -> bool:
        """Whether no parameter has become NaN or infinite."""
        return all(bool(np.isfinite(parameter.data).all()) for _, parameter in self._state.parameters)

    def save(self, name: str, run_state: RunState) -> None:
        """Writes a checkpoint into the directory.

        Raises:
            OutputError: it cannot be written.
        """
        self._state.properties[_STATE] = json.dumps(asdict(run_state))
        with replacing(self.directory / name) as temporary:
            self._api.CheckpointState.save_checkpoint(self._state, str(temporary), include_optimizer_state=True)


def read_parameters(directory: Path, checkpoint: str) -> dict[str, NDArray[np.float32]]:
    """Returns the parameters of a checkpoint by name.

    Raises:
        ArtifactsError: the checkpoint cannot be read.
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    api = load_training_api()
    try:
        state = api.CheckpointState.load_checkpoint(str(directory / checkpoint))
        return {name: np.array(parameter.data) for name, parameter in state.parameters}
    except RuntimeError as error:
        raise ArtifactsError(
            f"{directory / checkpoint} is no readable checkpoint: {str(error).splitlines()[0]}"
        ) from error
