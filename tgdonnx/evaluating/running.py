"""Model files as functions of the inputs of a batch, fed as a step of training is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.errors import DataError, ModelFileError, TgdonnxError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.record import is_gated, record_of
from tgdonnx.gated_model.settling import settled
from tgdonnx.graphs.tensor_specs import shared_inputs
from tgdonnx.runtime import CPU, Device, open_inference

Array = NDArray[Any]
Runner = Callable[[Sequence[Array]], list[Array]]
_FLOATS = ("float16", "float32", "float64")


class NotShownError(TgdonnxError):
    """There is nothing to show; the message says why, for the page."""


class Runners:
    """Models as functions of the inputs of a batch, that give the outputs that train; each is opened once, if at all."""

    def __init__(self, manifest: Manifest, device: Device = CPU) -> None:
        """Takes the manifest of the artifacts, which says what the models are fed, and where they run."""
        self.manifest, self._device = manifest, device
        self._opened: dict[Path, Runner] = {}

    def of(self, file: ModelFile) -> Runner:
        """Returns a model, as such a function; of a gated one that only an input sets, the tuned network.

        Raises:
            NotShownError: the runtime cannot load it; the function raises it where it cannot be run.
        """
        if file.path not in self._opened:
            self._opened[file.path] = _runner(_alone(file), self.manifest, self._device)
        return self._opened[file.path]


def needs_batches_of_one(file: ModelFile) -> bool:
    """Whether a file decides once for all of a batch, as the detector of a gated one does."""
    return is_gated(file.proto) and record_of(file).detector is not None


def _alone(file: ModelFile) -> ModelFile:
    return settled(file, 1.0) if is_gated(file.proto) and not needs_batches_of_one(file) else file


def _runner(file: ModelFile, manifest: Manifest, device: Device) -> Runner:
    wanted, shared = [head.output for head in manifest.heads], shared_inputs(manifest.inputs)
    try:
        model = open_inference(file, device=device)
    except ModelFileError as error:
        raise NotShownError(f"{error}.") from error
    types = {port.name: port.dtype for port in model.inputs if port.dtype in _FLOATS}

    def run(arrays: Sequence[Array]) -> list[Array]:
        count = next((len(array) for place, array in enumerate(arrays) if place not in shared), 1)
        missing = (manifest.fixed_batch or count) - count
        feeds = {}
        for place, (spec, array) in enumerate(zip(manifest.inputs, arrays)):
            if missing and place not in shared:
                array = np.concatenate([array, np.repeat(array[-1:], missing, 0)])
            name = spec.vendor_name or spec.name
            feeds[name] = array.astype(types.get(name) or array.dtype)
        try:
            found = model.run(feeds, wanted)
        except DataError as error:
            raise NotShownError(f"{error}.") from error
        return [output[:count] for output in found]

    return run


def centre(target: Array, shape: tuple[int, ...]) -> Array:
    """Returns the centre of targets that are larger than outputs of a shape, as a run takes it (`crop_target`).

    What has not that rank, or is smaller along an axis, stays as it is.
    """
    if target.ndim != len(shape) or any(a < b for a, b in zip(target.shape, shape)):
        return target
    starts = [(a - b) // 2 for a, b in zip(target.shape, shape)]
    return target[tuple(slice(start, start + size) for start, size in zip(starts, shape))]
