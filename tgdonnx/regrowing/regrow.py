"""Regrowing the filters that a selection drops: the start of training, what of it trains, and how far the output moved."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import DataError, SelectionError
from tgdonnx.layers import Layer
from tgdonnx.regrowing.activations import random_feeds
from tgdonnx.regrowing.calibration import calibrate
from tgdonnx.regrowing.initial_values import initialize, settable_statistics
from tgdonnx.regrowing.reinitializable import Reinitialized, choose_reinitialized
from tgdonnx.regrowing.reinitialization import Reinitialization
from tgdonnx.regrowing.tensor_edits import TensorEdits, reads
from tgdonnx.runtime import Device, open_inference, usable_device
from tgdonnx.selection import STRATEGIES, Kind, RetrainMask, Selection, plan_masks
from tgdonnx.sweeping import DEFAULT_SAMPLES
from tgdonnx.sweeping.change import Baseline, baseline, output_changes, worst
from tgdonnx.sweeping.dropping import replace_tensors, whole_model
from tgdonnx.sweeping.running import Feeds, Samples, open_samples, run_all
from tgdonnx.tracing.provenance import Provenance

Array = NDArray[Any]
_STRATEGIES = tuple(each.name for each in STRATEGIES if each.regrows)
_MOST_REASONS = 3


@dataclass(frozen=True)
class Regrown:
    """A network in which dropped filters are reinitialised.

    Attributes:
        masks: the retrain mask of every retrainable tensor.
        values: for the name of every tensor that is not the vendor's any more all of it, as stored: the start of training.
        set_masks: for names of tensors of which elements were set that do not train: float32, 1 where that is so, of a
            shape that broadcasts against the tensor.
        kind: where initial values come from.
        filters: how many filters are reinitialised.
        rows: which: for names of weights, their rows.
        selected: how many were selected.
        change: how far the output is from the vendor's, of several the one that moved farthest; see `tgdonnx.sweeping.change`.
        output: the name of that output.
        samples: how many images that was measured on; None for random input.
        reinitialization: what was asked for.
    """

    masks: tuple[RetrainMask, ...]
    values: Mapping[str, Array] = field(repr=False)
    set_masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    kind: Kind
    filters: int
    rows: Mapping[str, Sequence[int]] = field(repr=False)
    selected: int
    change: float
    output: str
    samples: Optional[int]
    reinitialization: Reinitialization

    @property
    def record(self) -> dict[str, Any]:
        """What is recorded of it, as plain values."""
        return {
            "rebirth": self.kind,
            "isolate": self.reinitialization.isolate,
            "seed": self.reinitialization.seed,
            "reborn": self.filters,
            "rows": {name: list(rows) for name, rows in self.rows.items()},
            "samples": self.samples,
            "change": self.change,
        }


def regrow(provenance: Provenance, selection: Selection, reinitialization: Reinitialization) -> Regrown:
    """Lets the filters that a selection drops be reinitialised, without a change of what the network computes without them.

    Args:
        provenance: the traced network.
        selection: the filters to drop; by score, or listed.
        reinitialization: how.

    Raises:
        SelectionError: the selection is one of whole layers, an option is out of range, no filter can be reinitialised, or the
            change is larger than the tolerance.
        DataError: the images do not fit, or the change cannot be measured on them, or on random input.
        ModelFileError: the runtime cannot load the model.
        RuntimeMissingError: no onnxruntime is installed, or it cannot use the device.
    """
    if selection.strategy["strategy"] not in _STRATEGIES:
        raise SelectionError(
            "mode regrow lets filters be reinitialised that the network does not need; a selection of whole layers names none: "
            "select by phi, by percentile, or list filters"
        )
    reinitialization.require_valid()
    device = usable_device(reinitialization.device)
    kind, feeds = reinitialization.chosen_kind, _feeds(provenance, reinitialization)
    vendor = whole_model(provenance.network.file)
    with _asking_for_images(reinitialization):
        before = _vendor_outputs(vendor, feeds, device)
        reinitialized = choose_reinitialized(provenance, selection, vendor, feeds, device)
    selected = sum(int(rows.sum()) for rows in selection.filters)
    if not any(rows.any() for rows in reinitialized.filters):
        reason, _ = Counter(reinitialized.refused.values()).most_common(1)[0]
        raise SelectionError(
            f"none of the {selected} filters that are selected can be reinitialised: {reason}", remedy="select others"
        )
    filters = sum(int(rows.sum()) for rows in reinitialized.filters)
    edits = initialize(provenance, reinitialized, kind, reinitialization.seed)
    if kind == "calibrated":
        calibrate(provenance, reinitialized, edits, vendor, feeds, device)
    masks, set_masks = regrown_masks(provenance, reinitialized, isolate=reinitialization.isolate)
    if reinitialization.isolate and not _is_read(provenance, reinitialized):
        raise SelectionError(
            f"of the {filters} filters that would be reinitialised none is read by a layer at the output, so in isolation no "
            "layer would read them",
            remedy="select more filters, or leave isolation out",
        )
    values = _checked_values(edits, masks, set_masks)
    start = replace_tensors(vendor, [(edit.parameter, values[edit.parameter.name]) for edit in edits.changed()])
    opened = open_inference(start, device=device)
    moved = worst(output_changes(before, run_all(opened, feeds, before.outputs)))
    output, change = moved.output, float("inf") if moved.change is None else moved.change
    if change > reinitialization.tolerance:
        raise SelectionError(
            f"without the {filters} filters the output {output!r} changes by "
            f"{change:.3g}, and {reinitialization.tolerance:g} is the tolerance",
            remedy="select fewer filters, or raise the tolerance",
        )
    return Regrown(
        masks,
        values,
        set_masks,
        kind,
        filters,
        {
            layer.weight.name: [int(m) for m in np.flatnonzero(rows)]
            for layer, rows in zip(provenance.layers, reinitialized.filters)
            if layer.weight is not None and rows.any()
        },
        selected,
        change,
        output,
        len(feeds) if isinstance(feeds, Samples) else None,
        reinitialization,
    )


def _feeds(provenance: Provenance, reinitialization: Reinitialization) -> Feeds:
    if reinitialization.calibrate is None:
        return random_feeds(provenance.network, reinitialization.seed)
    return open_samples(
        reinitialization.calibrate, provenance.network, most=DEFAULT_SAMPLES, options=reinitialization.reading
    )


def regrown_masks(
    provenance: Provenance, reinitialized: Reinitialized, *, isolate: bool
) -> tuple[tuple[RetrainMask, ...], dict[str, NDArray[np.float32]]]:
    """Returns what trains, and what is set and does not train, once filters are reinitialised."""
    masks = {mask.parameter.name: mask for mask in plan_masks(provenance, reinitialized.selection, "readers")}
    set_masks: dict[str, NDArray[np.float32]] = {}
    unscored = _unscored(provenance)
    for layer in provenance.layers:
        if layer.weight is None:
            continue
        name, rows, maps = layer.weight.name, reinitialized.filters[layer.index], reinitialized.maps[layer.index]
        kernels = reads(layer, maps)
        if isolate and maps.any():
            trains = rows[:, None] | (kernels & unscored[layer.index][:, None])
            whole = np.array(
                [trains[:, c % trains.shape[1]][kernels[:, c % trains.shape[1]]].all() for c in range(len(maps))]
            )
            masks[name] = replace(masks[name], maps=maps & whole, values=_stored(layer, trains))
            if (kernels & ~trains).any():
                set_masks[name] = _stored(layer, kernels & ~trains)
        note = _note(reinitialized, layer)
        if note is not None:
            masks[name] = replace(masks[name], note=note)
    filters = dict(enumerate(reinitialized.filters))
    for tensor in settable_statistics(provenance, filters):
        shape = [-1 if axis == tensor.axis else 1 for axis in range(len(tensor.parameter.read_shape))]
        set_masks[tensor.parameter.name] = np.ascontiguousarray(
            tensor.parameter.restore(tensor.made_by(filters).reshape(shape)), np.float32
        )
    return tuple(masks.values()), set_masks


def _unscored(provenance: Provenance) -> tuple[NDArray[np.bool_], ...]:
    """Returns for each layer which of its filters no layer reads: bool of shape (filters,)."""
    read = {producer for inputs in provenance.layer_inputs for origin in inputs for producer in origin.producers}
    for layer in provenance.layers:
        if layer.problem is not None:  # it reads all that it is given
            for value in layer.node.inputs:
                ids = provenance.ids.get(value) if value is not None else None
                if ids is not None:
                    read.update(producer for i in ids.flat for producer in provenance.table[int(i)].producers)
    return tuple(
        np.array([(layer.index, m) not in read for m in range(layer.filters)], bool) for layer in provenance.layers
    )


def _is_read(provenance: Provenance, reinitialized: Reinitialized) -> bool:
    """Whether a filter that no layer reads reads a reinitialised map."""
    return any(
        (reads(layer, maps) & unscored[:, None]).any()
        for layer, maps, unscored in zip(provenance.layers, reinitialized.maps, _unscored(provenance))
        if maps.any()
    )


def _stored(layer: Layer, kernels: NDArray[np.bool_]) -> NDArray[np.float32]:
    assert layer.weight is not None
    return np.ascontiguousarray(layer.weight.restore(layer.layout.restore(kernels)), np.float32)


def _note(reinitialized: Reinitialized, layer: Layer) -> Optional[str]:
    """Says why selected filters of a layer are not reinitialised."""
    reasons: dict[str, list[int]] = defaultdict(list)
    for (index, m), reason in sorted(reinitialized.refused.items()):
        if index == layer.index:
            reasons[reason].append(m)
    if not reasons:
        return None
    told = sorted(reasons.items(), key=lambda item: -len(item[1]))
    parts = [f"{len(rows)} filters (such as {rows[0]}): {reason}" for reason, rows in told[:_MOST_REASONS]]
    more = sum(len(rows) for _, rows in told[_MOST_REASONS:])
    return "not reinitialised, so frozen: " + "; ".join([*parts, *[f"{more} for other reasons"] * bool(more)])


def _checked_values(
    edits: TensorEdits, masks: Sequence[RetrainMask], set_masks: Mapping[str, NDArray[np.float32]]
) -> dict[str, Array]:
    """Returns the tensors that change, all within the masks."""
    trains = {mask.parameter.name: mask.values for mask in masks}
    values = {}
    for edit in edits.changed():
        name = edit.parameter.name
        allowed = (trains.get(name, np.zeros((), np.float32)) == 1) | (set_masks.get(name, np.zeros(())) == 1)
        assert not (edit.changed & ~np.broadcast_to(allowed, edit.changed.shape)).any(), name
        values[name] = edit.stored()
    return values


@contextmanager
def _asking_for_images(reinitialization: Reinitialization) -> Iterator[None]:
    """Says of what goes wrong on random input that images would do."""
    try:
        yield
    except DataError as error:
        if reinitialization.calibrate is not None:
            raise
        raise DataError(f"on random input, {error}", remedy="name images with `calibrate`") from error


def _vendor_outputs(vendor: onnx.ModelProto, feeds: Feeds, device: Device) -> Baseline:
    opened = open_inference(vendor, device=device)
    return baseline(opened.output_names, run_all(opened, feeds, opened.output_names))
