"""The gradients that artifacts of the engine compute, before any mask, as ``gradients.onnx`` gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tests.support.sessions import open_session
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import TrainedTensor
from tgdonnx.engines.onnxruntime.models import sum_name
from tgdonnx.engines.onnxruntime.state import STATE, read_state
from tgdonnx.runtime import session_options

Array = NDArray[Any]


def feeds_of(directory: Path, batch: Sequence[Array]) -> dict[str, Array]:
    """What ``gradients.onnx`` is fed for a batch: its arrays, the parameters, and sums that are still zero."""
    names = [value.name for value in onnx.load(directory / "gradients.onnx", load_external_data=False).graph.input]
    feeds, state = dict(zip(names, batch)), read_state(directory / STATE).tensors
    for tensor in read_manifest(directory).trained:
        start = state[tensor.name]
        feeds.update({tensor.name: start, sum_name(tensor.name): np.zeros_like(start)})
    return feeds


def gradients_in(directory: Path, outputs: Mapping[str, Array]) -> list[tuple[TrainedTensor, Array]]:
    """The gradients of all parameters, from the outputs of ``gradients.onnx``."""
    return [(tensor, outputs[f"{sum_name(tensor.name)}.after"]) for tensor in read_manifest(directory).trained]


def gradients_of(directory: Path, batch: Sequence[Array]) -> list[tuple[TrainedTensor, Array]]:
    """The gradient of the loss by every parameter, by ONNX Runtime.

    Args:
        directory: artifacts that were just built.
        batch: arrays for the inputs, in the order of the manifest; the target last.
    """
    session = open_session(directory / "gradients.onnx", session_options())
    outputs = session.run(None, feeds_of(directory, batch))
    return gradients_in(directory, dict(zip([value.name for value in session.get_outputs()], outputs)))


def part_of(array: Array, tensor: TrainedTensor) -> Array:
    """What a parameter holds of the tensor in the vendor's file."""
    for axis in tensor.part or ():
        array = np.take(array, axis.indices, axis.axis)
    return array
