"""How much the loss on new data depends on every filter: gradients of single samples, and the selections that go by them.

The gradients are those of artifacts of the engine onnxruntime in which every layer trains, without regularisers, so any ONNX
Runtime computes them. The samples are the first of an epoch as a run would draw it, by the run's seed: what is trained on, cut
and varied likewise; never what is held out to validate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import BuildOptions, build_masked
from tgdonnx.artifacts.manifest import Manifest
from tgdonnx.engines import Batch
from tgdonnx.engines.onnxruntime.engine import ONNXRUNTIME
from tgdonnx.engines.onnxruntime.session import StepSession
from tgdonnx.errors import DataError, UntrainableError
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.finetuning.agreement import Samples
from tgdonnx.finetuning.fitting import fit
from tgdonnx.finetuning.opening import open_data
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import training_device
from tgdonnx.layers import Network
from tgdonnx.masked_model import read_masked
from tgdonnx.masking import MaskOptions, mask_network
from tgdonnx.selection import AllLayers, BySensitivity, Sensitivity, Strategy
from tgdonnx.selection.budget import require_fraction, weights_per_filter

MOST_SAMPLES = 64
"""So many samples are looked at, at most: a few training steps' worth."""


def measured(
    strategy: Strategy,
    network: Network,
    data: RunData,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    freeze: Sequence[str] = (),
) -> Strategy:
    """Returns a strategy that can select: one by sensitivity is measured on the data, any other is what it is.

    Args:
        strategy: which filters to retrain.
        network: the vendor's, see `tgdonnx.layers.open_network`.
        data: of the run; what it trains on counts.
        building: how it would be built; the loss and the output count.
        training: how it would train; the seed and the device count.
        freeze: names of layers among which nothing is chosen, see `tgdonnx.masking.MaskOptions`.

    Raises:
        TgdonnxError: as `sensitivity`; the fraction is out of range.
    """
    return measuring(lambda: sensitivity(network, data, building, training, freeze))(strategy)


def measuring(look: Callable[[], Sensitivity]) -> Callable[[Strategy], Strategy]:
    """Returns what does the same with several strategies, and looks at the data once, if one of them needs it."""
    looked = cache(look)

    def measure(strategy: Strategy) -> Strategy:
        if not isinstance(strategy, BySensitivity) or strategy.filters is not None:
            return strategy
        require_fraction(strategy.fraction)
        return strategy.measured(looked())

    return measure


def sensitivity(
    network: Network, data: RunData, building: BuildOptions, training: TrainOptions, freeze: Sequence[str] = ()
) -> Sensitivity:
    """Measures how much the loss on data depends on every filter.

    Args:
        network: the vendor's.
        data: of the run; what it trains on counts.
        building: how it would be built; the loss and the output count.
        training: how it would train; the seed and the device count.
        freeze: names of layers that are left out, see `tgdonnx.masking.MaskOptions`.

    Raises:
        UntrainableError: no gradient reaches a layer.
        DataError: the data does not fit, or a gradient on it is not finite.
        RuntimeMissingError: no onnxruntime is installed, or it cannot use the device.
        TgdonnxError: the model cannot be trained.
    """
    with scratch_directory() as work:
        masked = work / "masked.onnx"
        mask_network(network, masked, AllLayers(), MaskOptions(freeze=tuple(freeze)))
        options = BuildOptions(
            loss=building.loss, data_range=building.data_range, output=building.output, optimizer="sgd"
        )
        _, artifacts = build_masked(read_masked(masked), work / "artifacts", options)
        samples, session = _opened(artifacts.directory, artifacts.manifest, data, training)
        size = artifacts.manifest.fixed_batch or 1
        batches = islice(_batches(samples, size, training.seed), max(1, MOST_SAMPLES // size))
        return _measure(network, artifacts.manifest, session, batches)


def _opened(directory: Path, manifest: Manifest, data: RunData, training: TrainOptions) -> tuple[Samples, StepSession]:
    device = training_device(ONNXRUNTIME, training.device)
    session = Session(directory, device=device)
    # What else is looked at during a run is left out; the split stays, for what it holds out is not trained on.
    data = replace(data, validation=None, retain=None, agree=None)
    options = TrainOptions(batch=manifest.fixed_batch or 1, seed=training.seed, device=training.device)
    try:
        samples, _, _ = open_data(session, data, options)
    except DataError as error:
        raise fit(session, data, options).told(error) from error
    parameters = [tensor.name for tensor in manifest.trained]
    return samples, StepSession(directory, ONNXRUNTIME.checkpoint, session.graph_inputs, parameters, device)


def _batches(samples: Samples, size: int, seed: int) -> Iterator[Batch]:
    for batch in samples.batches(size, epoch=1, seed=seed):
        if len(batch[-1]) == size:
            yield batch


def _measure(network: Network, manifest: Manifest, session: StepSession, batches: Iterator[Batch]) -> Sensitivity:
    layers = {layer.weight.name: layer for layer in network.layers if layer.weight}
    names = {tensor.vendor_name: tensor.name for tensor in manifest.trained if tensor.vendor_name in layers}
    if not names:
        raise UntrainableError("no gradient of the loss reaches a layer, so filters cannot be chosen by it")
    start = session.parameters()
    totals = {weight: np.zeros(start[name].shape) for weight, name in names.items()}
    squares = {weight: np.zeros(start[name].shape) for weight, name in names.items()}
    count = samples = 0
    for batch in batches:
        _, gradients = session.gradients(batch)
        count, samples = count + 1, samples + len(batch[-1])
        for weight, name in names.items():
            gradient = gradients[name].astype(np.float64)
            if not np.isfinite(gradient).all():
                raise DataError(
                    f"the gradient of {weight!r} is not finite on this data, so filters cannot be chosen by it",
                    remedy="scale the data, or choose another selection",
                )
            totals[weight] += gradient
            squares[weight] += np.square(gradient)
    sizes = {weight: weights_per_filter(layers[weight]) for weight in names}
    owners = {
        weight: np.broadcast_to(network.filter_index(weight), start[name].shape) for weight, name in names.items()
    }

    def by_filter(weight: str, elements: NDArray[Any]) -> NDArray[np.float64]:
        sums: NDArray[np.float64] = np.bincount(
            owners[weight].reshape(-1), elements.reshape(-1), layers[weight].filters
        ).astype(np.float64)
        return sums

    steepness, fisher = {}, {}
    for weight, name in names.items():
        gradient = np.sqrt(by_filter(weight, np.square(totals[weight] / count)))
        norm = np.sqrt(by_filter(weight, np.square(start[name].astype(np.float64))))
        with np.errstate(divide="ignore", invalid="ignore"):
            steepness[weight] = np.where(gradient == 0, 0.0, gradient / norm)
        fisher[weight] = by_filter(weight, squares[weight]) / (count * sizes[weight])
    return Sensitivity(samples, sizes, steepness, fisher)
