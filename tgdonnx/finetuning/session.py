"""A training run on an artifacts directory: the engine's session, with what it takes and where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Artifacts, Manifest, open_artifacts, read_manifest
from tgdonnx.artifacts.consistency import require_inputs_of
from tgdonnx.artifacts.manifest import Head
from tgdonnx.data import Dataset
from tgdonnx.data.targets import TargetLimits
from tgdonnx.engines import Batch, BatchLoss, TrainingSession
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import load_model
from tgdonnx.finetuning.borders import may_be_cut
from tgdonnx.finetuning.state import RunState
from tgdonnx.graphs.tensor_specs import TARGET, count_inputs
from tgdonnx.runtime import CPU, Device, InferenceModel, open_inference
from tgdonnx.runtime.kept_open import kept_open

_MOST_SIZES = 16


@dataclass(frozen=True)
class Evaluated:
    """What a batch comes to.

    Attributes:
        loss: what is minimised.
        outputs: those that train, in the order of the heads.
        parts: the loss of each; ``loss`` is their sum.
    """

    loss: float
    outputs: tuple[NDArray[np.float32], ...]
    parts: tuple[float, ...]


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
    def graph_inputs(self) -> tuple[str, ...]:
        """What the graphs of the artifacts call the inputs of a step, in order."""
        return tuple(self._inputs)

    @property
    def parameter_bytes(self) -> int:
        """What the parameters take."""
        return sum(array.nbytes for array in self._engine.parameters().values())

    def step(self, batches: Iterable[Batch], learning_rate: float) -> list[BatchLoss]:
        """Moves the parameters by the mean gradient of some batches.

        Args:
            batches: one or more.
            learning_rate: of this step.

        Returns:
            The loss of each batch, up to one that is not finite; then nothing moved.
        """
        return self._engine.step(batches, learning_rate)

    def evaluate(self, batch: Batch) -> Evaluated:
        """Returns the loss of a batch, and the outputs that train; nothing is trained."""
        loss, others = self._engine.evaluate(batch)
        count = len(self.manifest.heads)
        # Of one output the part is the whole, which the model gives once.
        return Evaluated(loss, others[:count], tuple(float(part) for part in others[count:]) or (loss,))

    def predict(self, inputs: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float32], ...]:
        """Returns the outputs that train with the parameters as they are, without targets; the first time opens a model for it.

        Raises:
            DataError: the model does not take inputs of these sizes.
        """
        given = self._engine.parameters()
        count = count_inputs(self.manifest.inputs)
        for name, spec in zip(self._inputs[count:], self.manifest.inputs[count:]):  # have to be fed, but are not read
            given[name] = np.zeros([size or 1 for size in spec.shape or ()], spec.dtype)
        return tuple(self._predictor.run(dict(zip(self._inputs, inputs[:count])), given=given))

    @cached_property
    def _predictor(self) -> InferenceModel:
        # The loss stays out: a target that does not fit would break it.
        model = self._eval_model
        wanted = [value.name for value in model.proto.graph.output[1 : 1 + len(self.manifest.heads)]]
        return kept_open(
            lambda: None if model.external_files else (model.sha256, *wanted, self.device),
            lambda: open_inference(model, outputs=wanted, device=self.device),
        )

    def close_predictor(self) -> None:
        """Lets go of what `predict` opened."""
        self.__dict__.pop("_predictor", None)

    @property
    def artifacts(self) -> Artifacts:
        """The artifacts, with the masked model."""
        if self._artifacts is None:
            self._artifacts = open_artifacts(self.directory)
        return self._artifacts

    def require_fit(self, dataset: Dataset) -> None:
        """Checks by forward passes that samples go through the model, and that the targets fit what comes out.

        Of samples of several sizes it takes one of each, up to `_MOST_SIZES`.

        Raises:
            DataError: they do not.
        """
        fixed = self.manifest.fixed_batch or 1
        batches = dataset.batches(fixed) if fixed > 1 else dataset.first_of_each_size()
        for number, batch in enumerate(islice(batches, 1 if fixed > 1 else _MOST_SIZES)):
            self._require_batch_fits(dataset, batch, others=number > 0)

    def _require_batch_fits(self, dataset: Dataset, batch: Batch, *, others: bool) -> None:
        """Checks a batch; ``others``: some of another size went through the model."""
        fed = batch[: count_inputs(self.manifest.inputs)]
        try:
            outputs = self.predict(fed)
        except DataError as error:
            if others:
                error.add(
                    f"samples of another size went through: bring those of {_shapes(fed)} to a size that the model takes, or "
                    "train on patches (`patch`)"
                )
            raise
        for head, output in zip(self.manifest.heads, outputs):
            loss, axis = head.formula, 1 if head.class_axis is None else head.class_axis
            problem = loss.output_problem(output.shape, axis)
            if problem is not None:
                raise DataError(problem)
            found, expected = batch[self.manifest.place_of(head)].shape, head.target_shape(output.shape)
            if found != expected:
                place = self.manifest.place_of(head)
                border = may_be_cut(dataset, place, batch, expected)
                raise DataError(
                    f"{_the(head)} does not fit the output: for inputs of {_shapes(fed)} expected {list(expected)}, found "
                    f"{list(found)}{_axis_hint(head, output.shape, found)}",
                    remedy="`crop_target` compares the centre of targets" if border else "",
                    options={"crop_target": True} if border else None,
                )
            self._require_weights(head, batch, expected)
            limit = loss.target_limit(output.shape, axis)
            if limit is not None:
                labels = head.class_axis is not None
                dataset.require_target(TargetLimits(head.target, 0, limit, head.loss, labels, loss.ignore))

    def weights_of(self, head: Head, batch: Batch) -> Optional[NDArray[Any]]:
        """Returns the array of a batch that says what the elements of a head's target count; None if they count alike."""
        return weights_of(self.manifest, head, batch)

    def _require_weights(self, head: Head, batch: Batch, expected: tuple[int, ...]) -> None:
        """Checks that weights spread over the elements that they are of."""
        weights = self.weights_of(head, batch)
        if weights is None:
            return
        found, fits = weights.shape, len(weights.shape) == len(expected)
        if not fits or any(
            size != want and (axis, size) != (1, 1) for axis, (size, want) in enumerate(zip(found, expected))
        ):
            raise DataError(
                f"the weights {head.formula.weights[0]!r} do not fit {head.target!r}: expected {list(expected)}, or 1 along "
                f"axis 1; found {list(found)}"
            )

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """Returns copies of the parameters, by name."""
        return self._engine.parameters()

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


def weights_of(manifest: Manifest, head: Head, batch: Batch) -> Optional[NDArray[Any]]:
    """Does what `Session.weights_of` does, without a session."""
    for place, spec in enumerate(manifest.inputs):
        if spec.role == "weights" and spec.name in head.formula.weights:
            return batch[place]
    return None


def _the(head: Head) -> str:
    return "the target" if head.target == TARGET else f"the target {head.target!r}"


def _shapes(arrays: Sequence[NDArray[Any]]) -> str:
    return ", ".join(str(list(array.shape)) for array in arrays)


def _axis_hint(head: Head, output: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Says where labels would fit if another axis counted classes."""
    if head.class_axis is None:
        return ""
    last = len(output) - 1
    other = last if head.class_axis == 1 else 1
    if other == head.class_axis or output[:other] + output[other + 1 :] != target:
        return ""
    name = head.formula.functions[0].name
    return (
        f"; classes are counted along axis {head.class_axis} of the output {list(output)}: if it is axis {other}, say so: "
        f"`loss='{name}(axis={other})'`"
    )


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


def read_parameters(directory: Path, checkpoint: str) -> dict[str, NDArray[np.float32]]:
    """Returns the parameters of a checkpoint by name.

    Raises:
        ArtifactsError: the checkpoint cannot be read.
        RuntimeMissingError: the runtime of the engine, which reads it, is not installed.
    """
    return dict(read_manifest(directory).runtime.read(directory, checkpoint).parameters)
