"""What can be measured of activations while a model runs, on images or on random input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.layers import Network
from tgdonnx.runtime import Device, open_inference
from tgdonnx.sweeping.running import Feeds, run_all

Array = NDArray[Any]
_RUNS = 4
_MOST_BYTES = 2**26  # of activations that are held at a time
Measure = TypeVar("Measure")


@dataclass(frozen=True)
class RandomFeeds:
    """Random input for a model: numbers in [0, 1), as of images, or 0 and 1 for inputs that take no fractions.

    Attributes:
        seed: of the random numbers.
    """

    inputs: tuple[tuple[str, tuple[int, ...], Any], ...] = field(repr=False)
    seed: int

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Yields the same arrays each time."""
        rng = np.random.default_rng([self.seed, 0])
        for _ in range(_RUNS):
            yield {name: _random(rng, shape, dtype) for name, shape, dtype in self.inputs}


def random_feeds(network: Network, seed: int) -> RandomFeeds:
    """Returns random input for a model; sizes that it leaves open are those that tracing assumes.

    Raises:
        DataError: the rank of an input is not known, or it takes text.
    """
    inputs = []
    for value in network.graph.inputs:
        if value.name in network.graph.initializers:
            continue
        shape, dtype = network.sizes.shapes.get(value), value.dtype or ir.DataType.FLOAT
        if shape is None or dtype == ir.DataType.STRING:
            what = "takes text" if shape is not None else "has no shape"
            raise DataError(
                f"the input {value.name!r} {what}, so there is no random input", remedy="name images with `calibrate`"
            )
        inputs.append((str(value.name), shape, dtype.numpy()))
    return RandomFeeds(tuple(inputs), seed)


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Array:
    if np.issubdtype(dtype, np.floating):
        return rng.random(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)


def observe_activations(
    model: onnx.ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    feeds: Feeds,
    device: Device,
    measure: Callable[[str, Array], Measure],
) -> dict[str, tuple[Measure, ...]]:
    """Returns for each named activation what is measured of it, run by run.

    Args:
        model: with its weights in it.
        shapes: for names of activations of the main graph about how large they are; a few are held in memory at a time.
        feeds: what to run on.
        device: where to run.
        measure: takes the name and the activation.

    Raises:
        ModelFileError: the runtime cannot load the model.
        DataError: the model cannot be run on the data.
    """
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    given = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in shapes if name not in given)
    opened = open_inference(exposed, device=device)
    return {
        name: measured
        for names in _portions(shapes)
        for name, measured in zip(
            names,
            zip(*([measure(n, a) for n, a in zip(names, run)] for run in run_all(opened, feeds, names))),
        )
    }


def _portions(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Sequence[str]]:
    """Divides names so that the activations of a portion fit into memory, or each is alone."""
    portion: list[str] = []
    room = _MOST_BYTES
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        if portion and size > room:
            yield portion
            portion, room = [], _MOST_BYTES
        portion.append(name)
        room -= size
    if portion:
        yield portion
