"""The drop test over phi: at each threshold drop the filters that `tgdonnx.mask` would retrain, and look at the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

import numpy as np

from tgdonnx.data import DataOptions, DataSource
from tgdonnx.data.sources import held
from tgdonnx.errors import SelectionError
from tgdonnx.files.model_file import ModelSource
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import require_unmasked
from tgdonnx.presenting import Presented
from tgdonnx.runtime import CPU_NAME, usable_device
from tgdonnx.scoring import ScoreOptions
from tgdonnx.selection import Phi, RetrainMask, plan_masks, require_phi, score_filters, select
from tgdonnx.sweeping.change import Baseline, OutputChange, output_changes, worst
from tgdonnx.sweeping.measuring import measure_dropped, measure_vendor
from tgdonnx.sweeping.on_workers import Placement, Setting, measure_on_workers, model_of
from tgdonnx.sweeping.running import open_samples
from tgdonnx.tracing import trace_network

DEFAULT_PHIS = (0.01, 0.02, *(round(0.05 * i, 2) for i in range(1, 20)))
DEFAULT_TOLERANCE = 0.05
DEFAULT_SAMPLES = 16


@dataclass(frozen=True)
class SweepPoint:
    """What dropping the filters below one threshold does.

    Attributes:
        phi: the threshold.
        filters: how many filters are dropped.
        weights: how many weights of layers they have, without biases and norms.
        parameters: the same with biases, scales and offsets of norms, and whatever else belongs to a filter.
        change: of the output that moved farthest: the RMS of the change by the RMS of the vendor's output about its mean;
            None when it is beyond measure.
        agreement: the lowest fraction of samples whose largest class is the vendor's; None if no output is scores of
            classes.
        outputs: the same, output by output.
    """

    phi: float
    filters: int
    weights: int
    parameters: int
    change: Optional[float]
    agreement: Optional[float]
    outputs: tuple[OutputChange, ...] = field(repr=False)


@dataclass(frozen=True, repr=False)
class SweepReport(Presented):
    """The drop test over phi.

    Attributes:
        model: the vendor's file.
        samples: how many samples it was run on.
        available: how many the data has.
        alpha: weight of the entropy in the KSE.
        k: number of nearest neighbours in the entropy.
        tolerance: the largest change that is accepted.
        recommended: the largest phi that drops a filter and up to which every phi that was tried stays within the
            tolerance. The change need not grow with phi: a larger phi may be within it again, but is not trusted. None
            if there is no such phi.
        filters: how many filters the model has.
        weights: how many weights of layers.
        parameters: the same with biases, norms and whatever else belongs to a filter.
        points: one for each phi, ascending.
        notes: what a reader should know: outputs that are not measured, and why nothing is recommended.
    """

    model: str
    samples: int
    available: int
    alpha: float
    k: int
    tolerance: float
    recommended: Optional[float]
    filters: int
    weights: int
    parameters: int
    points: tuple[SweepPoint, ...]
    notes: tuple[str, ...]

    def strategy(self) -> Phi:
        """Returns the recommended phi as a strategy for `mask` and `finetune`, with the tolerance on record.

        Raises:
            SelectionError: none is recommended.
        """
        if self.recommended is None:
            raise SelectionError(self.notes[-1])
        return Phi(self.recommended, self.alpha, self.k, self.tolerance)


def sweep(
    model: ModelSource,
    data: DataSource,
    *,
    phis: Sequence[float] = DEFAULT_PHIS,
    tolerance: float = DEFAULT_TOLERANCE,
    output: Optional[str] = None,
    samples: int = DEFAULT_SAMPLES,
    scoring: ScoreOptions = ScoreOptions(),  # noqa: B008  # frozen
    reading: DataOptions = DataOptions(),  # noqa: B008  # frozen
    device: Union[Placement, str] = CPU_NAME,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SweepReport:
    """Drops the filters below each phi and measures how far the output moves (TGD, section 3.2 and supplement).

    The data is gone over once for the vendor's model and once for each selection; phis that select the same filters share
    one. The vendor's outputs on the samples are held in memory, so a few images are taken. The file is not touched.

    Args:
        model: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        data: arrays named like the model's inputs; ``target``, if there, is ignored.
        phis: the thresholds of the KSE to try, in any order.
        tolerance: the largest change that is accepted; see `tgdonnx.sweeping.change`.
        output: the output to look at; of several the one that moves farthest if None.
        samples: how many samples to run on at most; of more, so many are taken, spread evenly over the data.
        scoring: how input maps are scored.
        reading: how the data is read; what is for ``target`` in it, and augmentation, is ignored.
        device: where models run; see `tgdonnx.TrainOptions`. A placement says workers, too.
        on_progress: called with the passes over the data that are done, and with how many there are.

    Raises:
        ModelFileError: no usable model, or the runtime cannot load it.
        MaskedModelError: it is masked already.
        SelectionError: a phi or the tolerance is out of range, or no filter is selected at any phi.
        DataError: the data does not fit, or the vendor's output on it does not vary.
        RuntimeMissingError: no onnxruntime is installed, or it cannot use the device.
        ClusterError: the workers are not there, or not alike, or died.
    """
    phis = sorted({float(phi) for phi in phis})
    _require_options(phis, tolerance)
    placement, data = Placement.of(device), held(data)
    where = usable_device(placement.device)
    network = open_network(model)
    require_unmasked(network.file)
    selections = _selections(network, phis, scoring)
    chosen = open_samples(data, network, most=samples, options=reading)
    distinct = {_key(masks): masks for masks in selections}
    total = 1 + sum(_drops(masks) for masks in distinct.values())
    before = measure_vendor(network.file, chosen, output, where)
    on_progress(1, total)
    changes = {key: _unmoved(before) for key, masks in distinct.items() if not _drops(masks)}
    dropping = {key: masks for key, masks in distinct.items() if _drops(masks)}
    if placement.workers is None:
        for done, (key, masks) in enumerate(dropping.items(), start=1):
            changes[key] = measure_dropped(network.file, masks, chosen, before, where)
            on_progress(1 + done, total)
    else:
        setting = Setting(model_of(network.file), data, samples, reading, output, placement.device)
        measured = measure_on_workers(
            placement.workers, setting, [*dropping.values()], lambda done: on_progress(1 + done, total)
        )
        changes.update(zip(dropping, measured))
    layer_weights = {layer.weight.name for layer in network.layers if layer.weight}
    points = [_point(phi, masks, changes[_key(masks)], layer_weights) for phi, masks in zip(phis, selections)]
    recommended = recommend(points, tolerance)
    notes = before.left_out if recommended is not None else (*before.left_out, _why_none(points, tolerance))
    weights = [mask for mask in selections[0] if mask.parameter.name in layer_weights]
    return SweepReport(
        str(network.file.path),
        len(chosen),
        len(chosen.dataset),
        scoring.alpha,
        scoring.k,
        float(tolerance),
        recommended,
        sum(len(mask.filters) for mask in weights),
        sum(_elements(mask) for mask in weights),
        sum(_elements(mask) for mask in selections[0]),
        tuple(points),
        notes,
    )


def recommend(points: Sequence[SweepPoint], tolerance: float) -> Optional[float]:
    """Returns the largest phi that drops anything and up to which all points are within the tolerance; None if there is none.

    Args:
        points: by ascending phi.
        tolerance: the largest change that is accepted.
    """
    recommended = None
    for point in points:
        if point.change is None or point.change > tolerance:
            break
        if point.parameters:
            recommended = point.phi
    return recommended


def _require_options(phis: Sequence[float], tolerance: float) -> None:
    if not phis:
        raise SelectionError("expected at least one phi to try, got none")
    for phi in phis:
        require_phi(phi)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise SelectionError(f"expected a tolerance >= 0, got {tolerance:g}")


def _selections(network: Network, phis: Sequence[float], scoring: ScoreOptions) -> list[tuple[RetrainMask, ...]]:
    """Returns for each phi the retrain masks that `tgdonnx.mask` would write."""
    provenance = trace_network(network)
    scored = score_filters(provenance, alpha=scoring.alpha, k=scoring.k)
    planned: dict[tuple[bytes, ...], tuple[RetrainMask, ...]] = {}
    masks = []
    for phi in phis:
        selection = scored.below(phi, {})
        key = tuple(rows.tobytes() for rows in selection.filters)
        if key not in planned:
            planned[key] = plan_masks(provenance, selection, "paper")
        masks.append(planned[key])
    if not any(_drops(entry) for entry in masks):
        select(provenance, Phi(phis[-1], scoring.alpha, scoring.k))  # says why, if nothing is selected
    return masks


def _key(masks: Sequence[RetrainMask]) -> tuple[bytes, ...]:
    return tuple(mask.values.tobytes() for mask in masks)


def _drops(masks: Sequence[RetrainMask]) -> bool:
    return any(mask.values.any() for mask in masks)


def _unmoved(before: Baseline) -> tuple[OutputChange, ...]:
    return output_changes(before, before.batches)


def _point(
    phi: float, masks: Sequence[RetrainMask], changes: Sequence[OutputChange], layer_weights: set[str]
) -> SweepPoint:
    weights = [mask for mask in masks if mask.parameter.name in layer_weights]
    agreements = [entry.agreement for entry in changes if entry.agreement is not None]
    return SweepPoint(
        phi,
        sum(int(mask.filters.sum()) for mask in weights),
        sum(mask.trained_elements for mask in weights),
        sum(mask.trained_elements for mask in masks),
        worst(changes).change,
        min(agreements, default=None),
        tuple(changes),
    )


def _elements(mask: RetrainMask) -> int:
    return int(np.prod(mask.parameter.shape))


def _why_none(points: Sequence[SweepPoint], tolerance: float) -> str:
    first: Iterator[SweepPoint] = (point for point in points if point.parameters)
    point = next(first, None)
    if point is None:
        return (
            "no phi is recommended: the filters that are selected stay frozen, since something else uses their weights"
        )
    change = "beyond measure" if point.change is None else f"{point.change:.3g}"
    return (
        f"no phi is recommended: at phi {point.phi:g} the change is {change} already, and {tolerance:g} is the tolerance. "
        "At this tolerance the network has no dead filters; try a smaller phi or a larger tolerance, "
        "or choose filters by percentile, in mode readers"
    )
