"""Fresh filters, adjusted on a few images: each reinitialised map gets the mean and the variance of the maps that stay.

Wherever a number per channel is computed with, from the filter on to whoever reads the map:

    a layer             kernels times sqrt(V / v), and a bias that makes the mean M, if it has one
    BatchNormalization  mean m and variance v, once; scale and offset so that what comes out has variance V and mean M
    Sub, Div            m is subtracted, sqrt(v) divides
    Mul, Add            times sqrt(V / v); plus M - m

m and v are mean and variance of the reinitialised map, over all images and positions: of a layer's output, or else of what the
node reads. M and V are the averages of the same over the maps of the node's output that stay. A map that hardly varies, or
beside which no map stays, is left as it is. As nobody reads reinitialised maps but filters that read nothing else, most of this
can be measured at once; what is behind something that was adjusted is measured after it was, in another run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.layers import MATRIX_PRODUCTS, Layer
from tgdonnx.regrowing.activations import observe_activations
from tgdonnx.regrowing.initial_values import Rows, settable
from tgdonnx.regrowing.reinitializable import Reinitialized
from tgdonnx.regrowing.tensor_edits import TensorEdits, channel_index, kernel_index, reads
from tgdonnx.runtime import Device
from tgdonnx.selection.channels import ChannelTensor
from tgdonnx.sweeping.dropping import replace_tensors
from tgdonnx.sweeping.running import Feeds
from tgdonnx.tracing.origins import Origin, Producer
from tgdonnx.tracing.provenance import Provenance

Floats = NDArray[np.float64]
_LEAST_VARIANCE = 1e-8  # of what is usual; a map that varies less is as good as constant
_ADJUSTED = frozenset({"BatchNormalization", "Sub", "Div", "Mul", "Add"})


@dataclass(frozen=True)
class _Moments:
    """Mean and variance of each channel, float64 of shape (channels,), over ``count`` numbers."""

    count: int
    mean: Floats
    variance: Floats

    def usual(self, staying: NDArray[np.bool_]) -> tuple[float, float]:
        """Returns the average of mean and variance over some channels; NaN if there are none that vary."""
        chosen = staying & (self.variance > 0)
        if not chosen.any():
            return float("nan"), float("nan")
        return float(self.mean[chosen].mean()), float(self.variance[chosen].mean())


@dataclass(frozen=True)
class _Point:
    """A node at which reinitialised maps are adjusted.

    Attributes:
        node: the node.
        reads: the activation that the moments of reinitialised maps are taken of.
        axis: which axis of it, and of the node's output, counts channels.
        channels: which channels are adjusted: bool of shape (channels,).
        staying: which are not, and show what is usual.
        adjust: sets the numbers of a channel, from its mean and variance and those that are usual.
    """

    node: ir.Node
    reads: ir.Value
    axis: int
    channels: NDArray[np.bool_]
    staying: NDArray[np.bool_]
    adjust: Callable[[int, float, float, float, float], None] = field(repr=False)


def calibrate(
    provenance: Provenance,
    reinitialized: Reinitialized,
    edits: TensorEdits,
    vendor: onnx.ModelProto,
    feeds: Feeds,
    device: Device,
) -> None:
    """Adjusts initial values.

    Args:
        provenance: the traced network.
        reinitialized: its reinitialised filters and maps.
        edits: their initial values, of kind ``he``; they are changed.
        vendor: the vendor's model with its weights in it.
        feeds: a few images.
        device: where models run.

    Raises:
        DataError: the model cannot be run on the images.
        ModelFileError: the runtime cannot load the model.
    """
    for points in _in_turns(provenance, reinitialized, edits):
        start = replace_tensors(vendor, [(edit.parameter, edit.stored()) for edit in edits.changed()])
        moments = _moments(provenance, start, points, feeds, device)
        for point in points:
            own, after = moments[str(point.reads.name)], moments[str(point.node.outputs[0].name)]
            usual_mean, usual_variance = after.usual(point.staying)
            for i in np.flatnonzero(point.channels):
                mean, variance = own.mean[i], own.variance[i]
                if np.isfinite([mean, variance, usual_mean]).all() and variance > _LEAST_VARIANCE * usual_variance:
                    point.adjust(int(i), float(mean), float(variance), usual_mean, usual_variance)


def _in_turns(provenance: Provenance, reinitialized: Reinitialized, edits: TensorEdits) -> Iterator[list[_Point]]:
    """Yields the points that can be measured together: none is behind one of a later turn."""
    filters = dict(enumerate(reinitialized.filters))
    tensors: dict[ir.Node, list[ChannelTensor]] = defaultdict(list)
    for tensor in settable(provenance, filters):
        if tensor.node.op_type in _ADJUSTED:
            tensors[tensor.node].append(tensor)
    layers = {layer.node: layer for layer in provenance.layers}
    turns: dict[int, list[_Point]] = defaultdict(list)
    latest: dict[Producer, int] = {}
    for node in provenance.network.graph:  # sorted
        if node in layers and reinitialized.filters[layers[node].index].any():
            for turn, point in _of_layer(provenance, reinitialized, edits, layers[node], latest):
                turns[turn].append(point)
        elif node in tensors:
            for turn, point in _of_channels(provenance, filters, edits, node, tensors[node], latest):
                turns[turn].append(point)
    for turn in sorted(turns):
        yield turns[turn]


def _of_layer(
    provenance: Provenance, reinitialized: Reinitialized, edits: TensorEdits, layer: Layer, latest: dict[Producer, int]
) -> Iterator[tuple[int, _Point]]:
    """Yields the filters of a layer turn by turn: one that reads reinitialised maps alone comes after what makes these."""
    rows = reinitialized.filters[layer.index]
    active, turns = reads(layer, reinitialized.maps[layer.index]), np.zeros(layer.filters, np.int64)
    per_group = layer.maps // layer.group
    for m in np.flatnonzero(rows & active.all(axis=1)):
        first = int(m) // (layer.filters // layer.group) * per_group
        turns[m] = 1 + _latest(provenance.layer_inputs[layer.index][first : first + per_group], latest)
    weight, bias = layer.weight, layer.bias if _has_bias(edits, layer) else None
    assert weight is not None
    kernels = kernel_index(layer)
    biases = channel_index(bias) if bias is not None else None

    def adjust(m: int, mean: float, variance: float, usual_mean: float, usual_variance: float) -> None:
        factor = np.sqrt(usual_variance / variance)
        edit = edits.of(weight)
        edit.set(kernels[m], edit.get(kernels[m]) * factor)
        if bias is not None and biases is not None:
            edits.of(bias).set(biases[m : m + 1], np.array([usual_mean - factor * mean]))

    axis = -1 if layer.op_type in MATRIX_PRODUCTS else 1
    for turn in np.unique(turns[rows]):
        now = rows & (turns == turn)
        latest.update({(layer.index, int(m)): int(turn) for m in np.flatnonzero(now)})
        yield int(turn), _Point(layer.node, layer.node.outputs[0], axis, now, ~rows, adjust)


def _has_bias(edits: TensorEdits, layer: Layer) -> bool:
    """Whether the biases of reinitialised filters could be set."""
    return layer.bias is not None and edits.of(layer.bias).changed.any().item()


def _of_channels(
    provenance: Provenance,
    filters: Rows,
    edits: TensorEdits,
    node: ir.Node,
    tensors: Iterable[ChannelTensor],
    latest: dict[Producer, int],
) -> Iterator[tuple[int, _Point]]:
    by_position = {tensor.position: tensor for tensor in tensors}
    some = next(iter(by_position.values()))
    made_by = some.made_by(filters)
    value = node.inputs[1 - some.position if node.op_type in ("Mul", "Add", "Sub", "Div") else 0]
    assert value is not None
    turns = np.zeros(len(made_by), np.int64)
    for i in np.flatnonzero(made_by):
        turns[i] = 1 + _latest([some.origins[i]], latest)
    adjust = _adjusting(provenance, edits, node, by_position)
    axis = 1
    if node.op_type != "BatchNormalization":
        axis = len(provenance.network.sizes.shapes[node.outputs[0]]) - len(some.parameter.read_shape) + some.axis
    for turn in np.unique(turns[made_by]):
        now = made_by & (turns == turn)
        for i in np.flatnonzero(now):
            latest.update(dict.fromkeys(some.origins[i].producers, int(turn)))
        yield int(turn), _Point(node, value, axis, now, ~made_by, adjust)


def _adjusting(
    provenance: Provenance, edits: TensorEdits, node: ir.Node, tensors: Mapping[int, ChannelTensor]
) -> Callable[[int, float, float, float, float], None]:
    """Returns what sets the numbers of a channel of a node."""

    def put(position: int, i: int, number: float) -> None:
        if position in tensors:
            parameter = tensors[position].parameter
            edits.of(parameter).set(channel_index(parameter)[i : i + 1], np.array([number]))

    def number(position: int, i: int) -> float:
        if position in tensors:
            parameter = tensors[position].parameter
            return float(edits.of(parameter).get(channel_index(parameter)[i : i + 1])[0])
        stored = provenance.network.parameter(node.inputs[position])
        return float("nan") if isinstance(stored, str) else float(stored.read().reshape(-1)[i])

    def norm(i: int, mean: float, variance: float, usual_mean: float, usual_variance: float) -> None:
        put(3, i, mean)
        put(4, i, variance)
        epsilon = node.attributes.get_float("epsilon", 1e-5)
        factor = np.sqrt(usual_variance / variance)
        scale, offset = factor * np.sqrt(number(4, i) + epsilon), usual_mean + factor * (number(3, i) - mean)
        if np.isfinite([scale, offset]).all():
            put(1, i, scale)
            put(2, i, offset)

    def arithmetic(i: int, mean: float, variance: float, usual_mean: float, usual_variance: float) -> None:
        numbers = {
            "Sub": mean,
            "Div": np.sqrt(variance),
            "Mul": np.sqrt(usual_variance / variance),
            "Add": usual_mean - mean,
        }
        for position in tensors:
            put(position, i, float(numbers[node.op_type]))

    return norm if node.op_type == "BatchNormalization" else arithmetic


def _latest(origins: Iterable[Origin], latest: Mapping[Producer, int]) -> int:
    producers = [producer for origin in origins for producer in origin.producers]
    return max((latest.get(producer, 0) for producer in producers), default=0)


def _moments(
    provenance: Provenance, start: onnx.ModelProto, points: Iterable[_Point], feeds: Feeds, device: Device
) -> dict[str, _Moments]:
    axes: dict[ir.Value, int] = {}
    for point in points:
        axes[point.reads] = axes[point.node.outputs[0]] = point.axis
    known = provenance.network.sizes.shapes
    by_name = {str(value.name): axis for value, axis in axes.items()}

    def measure(name: str, array: NDArray[np.float32]) -> _Moments:
        rows = np.moveaxis(array, by_name[name], 0).reshape(array.shape[by_name[name]], -1).astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite is left as it is
            return _Moments(rows.shape[1], rows.mean(axis=1), rows.var(axis=1))

    observed = observe_activations(
        start, {str(value.name): known.get(value, ()) for value in axes}, feeds, device, measure
    )
    return {name: _together(runs) for name, runs in observed.items()}


def _together(runs: Sequence[_Moments]) -> _Moments:
    """Returns the moments over all runs (Chan, Golub, LeVeque 1979)."""
    count = sum(run.count for run in runs)
    weights = [run.count / count for run in runs]
    with np.errstate(all="ignore"):
        mean = sum((w * run.mean for w, run in zip(weights, runs)), np.zeros(()))
        within = sum((w * run.variance for w, run in zip(weights, runs)), np.zeros(()))
        between = sum((w * np.square(run.mean - mean) for w, run in zip(weights, runs)), np.zeros(()))
    return _Moments(count, mean, within + between)
