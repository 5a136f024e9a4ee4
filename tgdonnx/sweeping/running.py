"""Unlabelled data for a model, and the model run on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts.manifest import input_specs
from tgdonnx.data import DataOptions, Dataset, DataSource, open_dataset
from tgdonnx.data.naming import resolved_map
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec
from tgdonnx.layers import Network
from tgdonnx.runtime import InferenceModel

Array = NDArray[Any]


class Feeds(Protocol):
    """What a model can be run on."""

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Yields what the model is fed, the same each time."""


@dataclass(frozen=True)
class Samples:
    """Unlabelled data for a model.

    Attributes:
        dataset: one array per input of the model.
        inputs: the inputs, in order.
        batch: samples per run: what the model fixes, or one, since some models only say that they take more.
        chosen: the batches to run on.
    """

    dataset: Dataset
    inputs: tuple[TensorSpec, ...]
    batch: int
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen) * self.batch

    def feeds(self) -> Iterator[dict[str, Array]]:
        """Yields what the model is fed, in the order of the data."""
        for index in self.chosen:
            arrays = self.dataset.batch(self.batch, int(index))
            yield {spec.vendor_name or spec.name: array for spec, array in zip(self.inputs, arrays)}


def open_samples(
    source: DataSource,
    network: Network,
    *,
    most: int,
    options: DataOptions = DataOptions(),  # noqa: B008  # frozen
) -> Samples:
    """Opens data for the inputs of a model. An array ``target`` that the model does not take is ignored.

    Args:
        source: see `tgdonnx.data`.
        network: the model.
        most: how many samples to take at most, though never less than one batch; they are spread evenly over the data.
        options: how the data is read; what is for ``target`` in it is ignored.

    Raises:
        DataError: the data cannot be read or does not fit the inputs, or the model fixes a batch size that it does not
            fill.
    """
    if most < 1:
        raise DataError(f"expected at least one sample to run on, got {most}")
    graph = network.graph
    inputs = input_specs([value for value in graph.inputs if value.name not in graph.initializers])
    names = [spec.name for spec in inputs]
    mapped = dict(resolved_map(options.map, inputs))
    targets = {TARGET, *(array for array, name in mapped.items() if name == TARGET)}
    mapped = {array: name for array, name in mapped.items() if array not in targets}
    dataset = open_dataset(source, inputs, replace(options.for_evaluation(names), map=mapped), ignored=sorted(targets))
    batch = dataset.fixed_batch or 1
    if len(dataset) % batch:
        raise DataError(
            f"the model takes {batch} samples at a time, and the data has {len(dataset)}",
            remedy=f"give a multiple of {batch}",
        )
    batches = len(dataset) // batch
    chosen = np.linspace(0, batches - 1, min(batches, max(1, most // batch))).round().astype(np.int64)
    return Samples(dataset, inputs, batch, chosen)


def run_all(model: InferenceModel, samples: Feeds, outputs: Sequence[str]) -> Iterator[list[Array]]:
    """Yields for each batch the outputs of these names.

    Raises:
        DataError: the model cannot be run on the data.
    """
    for feeds in samples.feeds():
        yield model.run(feeds, outputs)
