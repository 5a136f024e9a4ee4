"""The features of data where a detector can look, computed by the nodes that it will have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tgdonnx.errors import DataError, ModelFileError
from tgdonnx.gated_model.detector import FEATURES, feature_nodes
from tgdonnx.gated_model.places import Place
from tgdonnx.layers import Network
from tgdonnx.runtime import Device, open_inference
from tgdonnx.sweeping.dropping import whole_model
from tgdonnx.sweeping.running import Feeds, run_all

_PREFIX = "tgdonnx.detector/"
_FLOOR = 1e-4
"""Of the mean variance: maps that do not vary more than that differ by noise."""


@dataclass(frozen=True)
class Moments:
    """Mean and variance over space of every map, of each input, at one place: float64 of shape (N, C)."""

    means: NDArray[np.float64] = field(repr=False)
    variances: NDArray[np.float64] = field(repr=False)

    def floor(self) -> float:
        """Returns what a detector adds to variances, if these are of new inputs."""
        mean = float(self.variances.mean())
        return float(np.float32(_FLOOR * mean)) if mean > 0 and np.isfinite(mean) else 1e-12

    def features(self, floor: float) -> NDArray[np.float64]:
        """Returns means and logarithms of variances, (N, 2 C)."""
        with np.errstate(invalid="ignore"):
            return np.concatenate([self.means, np.log(self.variances + floor)], axis=1)


def moments_at(
    network: Network, where: Sequence[Place], data: Feeds, device: Device, what: str
) -> dict[Place, Moments]:
    """Returns the moments of every input at several places.

    Args:
        network: the model that is run: the tuned one if what is looked at has changed there.
        where: the places.
        data: the inputs.
        device: where it runs.
        what: what messages call the data.

    Raises:
        DataError: the data cannot be run.
        ModelFileError: the runtime cannot load the model.
    """
    model = whole_model(network.file)
    names = []
    for index, place in enumerate(where):
        prefix = f"{_PREFIX}{index}/"
        names += [prefix + "means", prefix + "variances"]
        wanted = {node.output[0]: node for node in feature_nodes(place.value, prefix)}
        model.graph.node.extend(node for name, node in wanted.items() if name != prefix + FEATURES)
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), prefix + "floor"))
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names[-2:])
    try:
        opened = open_inference(model, outputs=names, device=device)
    except ModelFileError as error:
        raise ModelFileError(f"features cannot be computed: {error}") from error
    runs = [
        [array.reshape(array.shape[0], -1).astype(np.float64) for array in run] for run in run_all(opened, data, names)
    ]
    if not runs:
        raise DataError(f"{what} holds no input")
    joined = [np.concatenate(parts) for parts in zip(*runs)]
    return {place: Moments(joined[2 * i], joined[2 * i + 1]) for i, place in enumerate(where)}
