"""A training run on an artifacts directory: the engine's session, with what it takes and where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Artifacts, Manifest, open_artifacts, parse_loss, read_manifest
from tgdonnx.artifacts.consistency import require_inputs_of
from tgdonnx.data import Dataset
from tgdonnx.data.layouts import SPACE
from tgdonnx.engines import Batch, TrainingSession
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.files.model_file import load_model
from tgdonnx.finetuning.logs import StepEntry, read_log
from tgdonnx.finetuning.state import RunState
from tgdonnx.runtime import CPU, Device, InferenceModel, open_inference


class Session:
    """Artifacts that are opened to train.

    Attributes:
        directory: the artifacts directory.
        device: where it runs.
        manifest: what is in it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        checkpoint: Optional[str] = None,
        artifacts: Optional[Artifacts] = None,
        device: Device = CPU,
    ) -> None:
        """Opens an artifacts directory.

        Args:
            directory: the artifacts directory.
            checkpoint: the file in it to start from; the latest if None.
            artifacts: the same, where they are open.
            device: where to run.

        Raises:
            ArtifactsError: the directory is not usable, or the runtime cannot load it.
            RuntimeMissingError: the runtime of its engine is not installed, or the engine does not train on the device.
        """
        self.directory, self.device, self._artifacts = directory, device, artifacts
        self.manifest: Manifest = read_manifest(directory)
        require_inputs_of(self.manifest, directory)
        engine = self.manifest.runtime
        engine.require_device(device)
        self._eval_model = load_model(directory / engine.eval_model)
        # In the order of the manifest, and not always under its names.
        given = self._eval_model.proto.graph.input
        self._inputs = [value.name for value in given[: len(self.manifest.inputs)]]
        parameters = [tensor.name for tensor in self.manifest.trained]
        self._checkpoint = checkpoint or engine.checkpoint
        self._engine: TrainingSession = engine.open(directory, self._checkpoint, self._inputs, parameters, device)

    @property
    def run_state(self) -> Optional[RunState]:
        """The state of the run that wrote the checkpoint; None if none of ours did."""
        return _state_of(self._engine.run, self.directory / self._checkpoint)

    @property
    def parameter_bytes(self) -> int:
        """What the parameters take."""
        return sum(array.nbytes for array in self._engine.parameters().values())

    def step(self, batches: Iterable[Batch], learning_rate: float) -> list[float]:
        """Moves the parameters by the mean gradient of some batches.

        Args:
            batches: one or more.
            learning_rate: of this step.

        Returns:
            The loss of each batch, up to one that is not finite; then nothing moved.
        """
        return self._engine.step(batches, learning_rate)

    def evaluate(self, batch: Batch) -> tuple[float, NDArray[np.float32]]:
        """Returns the loss of a batch, and the model's output; nothing is trained."""
        return self._engine.evaluate(batch)

    def predict(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Returns the model's output with the parameters as they are, without a target; the first time opens a model for that.

        Raises:
            DataError: the model does not take inputs of these sizes.
        """
        given = self._engine.parameters()
        target = self.manifest.inputs[-1]  # has to be fed, but is not read
        given[self._inputs[-1]] = np.zeros([size or 1 for size in target.shape or ()], target.dtype)
        output: NDArray[np.float32]
        (output,) = self._predictor.run(dict(zip(self._inputs, inputs)), given=given)
        return output

    @cached_property
    def _predictor(self) -> InferenceModel:
        # The loss stays out: a target that does not fit would break it.
        wanted = [self._eval_model.proto.graph.output[1].name]
        return open_inference(self._eval_model, outputs=wanted, device=self.device)

    def close_predictor(self) -> None:
        """Lets go of what `predict` opened."""
        self.__dict__.pop("_predictor", None)

    @property
    def artifacts(self) -> Artifacts:
        """The artifacts, with the masked model."""
        if self._artifacts is None:
            self._artifacts = open_artifacts(self.directory)
        return self._artifacts

    def border(self, dataset: Dataset) -> tuple[int, ...]:
        """Returns by how many pixels targets are larger than outputs, per axis of space; samples of every size are tried.

        Raises:
            DataError: targets are smaller, differ from outputs in other axes, or the border differs between sizes.
        """
        found: dict[tuple[int, ...], list[int]] = {}
        loss, axes = parse_loss(self.manifest.options.loss), dataset.target_axes
        for sample in dataset.first_of_each_size():
            *inputs, target = (np.repeat(array, self.manifest.fixed_batch or 1, 0) for array in sample)
            expected = loss.target_shape(self.predict(inputs).shape, self.manifest.class_axis)
            less = [size - wanted for size, wanted in zip(target.shape, expected)]
            if (
                target.ndim != len(expected)
                or min(less) < 0
                or any(n for n, x in zip(less[1:], axes) if x not in SPACE)
            ):
                raise DataError(
                    f"only the centre of a target can be cut: for inputs of {', '.join(str(list(a.shape)) for a in inputs)} "
                    f"expected at least {list(expected)}, found {list(target.shape)}"
                )
            found.setdefault(tuple(n for n, x in zip(less[1:], axes) if x in SPACE), list(target.shape))
        if len(found) > 1:
            said = "; ".join(f"{shape}: {'x'.join(map(str, less))}" for less, shape in found.items())
            raise DataError(
                f"the border that outputs lack differs between sizes of targets ({said})",
                remedy="train on patches (`patch`), which have one size",
            )
        return next(iter(found))

    def require_fit(self, dataset: Dataset) -> None:
        """Checks by one forward pass that samples go through the model, and that the targets fit what comes out.

        Raises:
            DataError: they do not.
        """
        batch = next(dataset.batches(self.manifest.fixed_batch or 1))
        output = self.predict(batch[:-1]).shape
        loss = parse_loss(self.manifest.options.loss)
        problem = loss.output_problem(output)
        if problem is not None:
            raise DataError(problem)
        expected = loss.target_shape(output, self.manifest.class_axis)
        if batch[-1].shape != expected:
            found = batch[-1].shape
            sizes = list(zip(found, expected)) if len(found) == len(expected) else []
            border = any(size > wanted for size, wanted in sizes) and all(size >= wanted for size, wanted in sizes)
            raise DataError(
                f"the target does not fit the output: for inputs of {', '.join(str(list(a.shape)) for a in batch[:-1])} "
                f"expected {list(expected)}, found {list(found)}",
                remedy="`crop_target` compares the centre of targets" if border else "",
                options={"crop_target": True} if border else None,
            )
        limit = loss.target_limit(output, self.manifest.class_axis)
        if limit is not None:
            dataset.require_target(0, limit, str(loss))

    def set_parameters(self, values: Mapping[str, NDArray[np.float32]]) -> None:
        """Puts other values in place of parameters, to evaluate with them; no model is opened anew."""
        self._engine.set_parameters(values)

    def parameters_are_finite(self) -> bool:
        """Whether no parameter has become NaN or infinite."""
        return all(bool(np.isfinite(array).all()) for array in self._engine.parameters().values())

    def save(self, name: str, run_state: RunState) -> None:
        """Writes a checkpoint into the directory.

        Raises:
            OutputError: it cannot be written.
        """
        self._engine.save(self.directory / name, run_state.to_json())


def read_state(directory: Path, checkpoint: str) -> Optional[RunState]:
    """Returns the state of the run that wrote a checkpoint; None if none of ours did.

    Raises:
        ArtifactsError: the checkpoint cannot be read.
        RuntimeMissingError: the runtime of the engine, which reads it, is not installed.
    """
    read = read_manifest(directory).runtime.read(directory, checkpoint)
    return _state_of(read.run, directory / checkpoint)


def _state_of(run: Optional[str], path: Path) -> Optional[RunState]:
    return None if run is None else RunState.from_json(run, str(path))


def steps_kept(directory: Path) -> int:
    """Returns how many steps the checkpoints of a directory hold, the larger number of the two; 0 if none was trained.

    Of one that cannot be read the log has to say.
    """
    steps, engine = 0, read_manifest(directory).runtime
    for name in (engine.checkpoint, engine.best_checkpoint):
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
        RuntimeMissingError: the runtime of the engine, which reads it, is not installed.
    """
    return dict(read_manifest(directory).runtime.read(directory, checkpoint).parameters)
