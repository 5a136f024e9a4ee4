"""Initial values: what a reinitialised filter is given, and what reads it.

Whatever reads a reinitialised map is exactly 0 (of integer weights the zero point), so that the network computes what it
computes without the filter. That is no dead end: the gradient of such a kernel is the product of the map, which is alive, and
of the gradient at its reader; after the first step it is no longer 0, and the filter gets a gradient as well. A kernel of a
reinitialised filter that reads a reinitialised map is 0 too, unless the filter reads nothing else, as a depthwise filter does
behind a reinitialised one: then its map would be 0, with everything behind and before it, and the gradients 0 for good. The
network still computes the same, since nobody reads such a filter either.

``he``          normal numbers of variance 2 / fan-in (He, Zhang, Ren, Sun, ICCV 2015, eq. 10), where the fan-in counts what
                the filter really reads; slopes of PRelu 0.25 (ibid.), biases and other summands 0, factors 1.
``calibrated``  begins as ``he``; then `tgdonnx.regrowing.calibration` gives each reinitialised map the mean and the variance of
                the others.
``clone``       a filter of the same layer that stays, drawn at random (of the same group if there is one): its kernels
                with normal noise of a tenth of their RMS, so that no two learn the same, and all its numbers per channel.

Numbers of a batch norm behind the map are another matter. A dead filter leaves behind the mean and the variance of a dead
map: of a variance near 0, its square root is of the order of sqrt(epsilon), and what a reinitialised filter makes would be some
hundred times too large behind it. So mean and variance are set along with scale and offset, once: to 0 and 1 by ``he``, by
which the norm hands on what the filter makes, and to those of the cloned filter by ``clone``, whose statistics the clone
has. So are the numbers of a norm that is written as Sub and Div. Where they cannot be set, since other nodes read them as
well, scale and offset are chosen to undo them. Where a norm divides by a root that the graph computes, the kernels are
multiplied by it, and the filter is no clone: it would be one of another size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tgdonnx.graphs.operators import CHANNEL_INPUTS
from tgdonnx.layers import Layer
from tgdonnx.regrowing.reinitializable import Reinitialized
from tgdonnx.regrowing.tensor_edits import Floats, TensorEdits, channel_index, kernel_index, reads
from tgdonnx.selection import Kind
from tgdonnx.selection.channels import ChannelTensor, channel_tensors, frozen_factors, statistics
from tgdonnx.selection.plan import uses
from tgdonnx.tracing.origins import Producer
from tgdonnx.tracing.provenance import Provenance

NOISE = 0.1
_SLOPE = 0.25
Rows = Mapping[int, NDArray[np.bool_]]


def initialize(provenance: Provenance, reinitialized: Reinitialized, kind: Kind, seed: int) -> TensorEdits:
    """Gives every reinitialised filter initial values, and sets what reads it to 0.

    Args:
        provenance: the traced network.
        reinitialized: its reinitialised filters and maps.
        kind: see the module; ``calibrated`` begins as ``he``.
        seed: of the random numbers; those of a layer do not depend on other layers.
    """
    edits, donors = TensorEdits(), dict[Producer, int]()
    sizes = _sizes_to_undo(provenance)
    for layer in provenance.layers:
        rows, maps = reinitialized.filters[layer.index], reinitialized.maps[layer.index]
        if layer.weight is not None and (rows.any() or maps.any()):
            rng = np.random.default_rng([seed, 1, layer.index])
            chosen = draw_donors(layer, rows, rng) if kind == "clone" else {}
            chosen = {m: donor for m, donor in chosen.items() if (layer.index, m) not in sizes}
            _give_kernels(edits, layer, rows, maps, chosen, sizes, rng)
            donors.update({(layer.index, m): donor for m, donor in chosen.items()})
    filters = dict(enumerate(reinitialized.filters))
    for tensor in settable(provenance, filters):
        _give_channels(edits, provenance, tensor, filters, donors)
    return edits


def draw_donors(layer: Layer, rows: NDArray[np.bool_], rng: np.random.Generator) -> dict[int, int]:
    """Returns for each reinitialised filter of a layer one that stays; empty if none does."""
    group_of = np.arange(layer.filters) // (layer.filters // layer.group)
    staying = np.flatnonzero(~rows)
    if not staying.size:
        return {}
    donors = {}
    for m in np.flatnonzero(rows):
        near = staying[group_of[staying] == group_of[m]]
        donors[int(m)] = int(rng.choice(near if near.size else staying))
    return donors


def active_connections(layer: Layer, rows: NDArray[np.bool_], maps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which kernels are not 0 at the start: bool of shape (filters, maps of a group).

    Args:
        layer: the layer.
        rows: its reinitialised filters.
        maps: its reinitialised input maps.
    """
    useful = ~reads(layer, maps)
    return useful | (rows & ~useful.any(axis=1))[:, None]


def settable(provenance: Provenance, filters: Rows) -> list[ChannelTensor]:
    """Returns all tensors with one number per channel that belong to reinitialised maps, and to no other node."""
    trained = [
        tensor
        for tensor in channel_tensors(provenance)
        if tensor.made_by(filters).any() and is_settable(provenance, tensor)
    ]
    return [*trained, *settable_statistics(provenance, filters)]


def settable_statistics(provenance: Provenance, filters: Rows) -> list[ChannelTensor]:
    """Returns the means and variances of norms over reinitialised maps that no other node reads."""
    return [
        tensor for tensor in statistics(provenance) if tensor.made_by(filters).any() and is_settable(provenance, tensor)
    ]


def is_settable(provenance: Provenance, tensor: ChannelTensor) -> bool:
    """Whether nobody else reads a tensor with one number per channel, and it can be overwritten."""
    name = tensor.parameter.name
    return len(uses(tensor.parameter.value)) == 1 and provenance.network.why_untrainable(name) is None


def _give_kernels(
    edits: TensorEdits,
    layer: Layer,
    rows: NDArray[np.bool_],
    maps: NDArray[np.bool_],
    donors: Mapping[int, int],
    sizes: Mapping[Producer, float],
    rng: np.random.Generator,
) -> None:
    assert layer.weight is not None
    edit, index = edits.of(layer.weight), kernel_index(layer)
    active = active_connections(layer, rows, maps)
    vendor = edit.get(index)
    edit.set(index[~active], np.zeros(index[~active].shape))
    for m in np.flatnonzero(rows):
        kernels = _he(layer, index.shape[1:], active[m], rng) * sizes.get((layer.index, int(m)), 1.0)
        if int(m) in donors:
            cloned = vendor[donors[int(m)]] * _along_kernel(active[m], index.ndim - 1)
            size = np.sqrt(np.mean(np.square(cloned[active[m]])))
            noise = rng.standard_normal(cloned.shape) * _along_kernel(active[m], index.ndim - 1)
            if size > 0:  # the filter may read nothing but reinitialised maps
                kernels = cloned + NOISE * size * noise
        edit.set(index[m], kernels)


def _sizes_to_undo(provenance: Provenance) -> dict[Producer, float]:
    """Returns for filters, behind which constants multiply that are computed, what makes up for it."""
    sizes: dict[Producer, float] = {}
    for origins, factors in frozen_factors(provenance):
        for origin, factor in zip(origins, factors):
            if np.isfinite(factor) and factor != 0:
                for producer in origin.producers:
                    sizes[producer] = sizes.get(producer, 1.0) / abs(float(factor))
    return sizes


def _he(layer: Layer, shape: tuple[int, ...], active: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
    fan_in = float(active.sum() * np.prod(shape[1:]))
    if layer.op_type == "ConvTranspose":  # of its kernel, each output pixel sees one in so many numbers
        strides = layer.node.attributes.get_ints("strides") or [1]
        fan_in = max(1.0, fan_in / float(np.prod(strides)))
    drawn: Floats = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    return drawn * _along_kernel(active, len(shape))


def _along_kernel(active: NDArray[np.bool_], rank: int) -> NDArray[np.bool_]:
    return active.reshape(-1, *(1,) * (rank - 1))


def _give_channels(
    edits: TensorEdits, provenance: Provenance, tensor: ChannelTensor, filters: Rows, donors: Mapping[Producer, int]
) -> None:
    """Gives the channels of a tensor that belong to reinitialised filters their numbers."""
    edit, index = edits.of(tensor.parameter), channel_index(tensor.parameter)
    owners = {producer: i for i, origin in enumerate(tensor.origins) for producer in origin.producers}
    made_by = tensor.made_by(filters)
    vendor = edit.get(index)
    for i in np.flatnonzero(made_by):
        first = min(tensor.origins[i].producers)
        donor = owners.get((first[0], donors[first])) if first in donors else None
        number = vendor[donor] if donor is not None else neutral_number(provenance, tensor, int(i))
        edit.set(index[i : i + 1], np.array([number]))


def neutral_number(provenance: Provenance, tensor: ChannelTensor, channel: int) -> float:
    """Returns the number by which a node hands on what it reads, or He's slope."""
    op_type = tensor.node.op_type
    role = CHANNEL_INPUTS.get(op_type, {}).get(tensor.position, "offset")  # of layers the bias
    if op_type == "BatchNormalization" and role in ("scale", "offset"):
        return _undoing(provenance, tensor, channel)
    if role == "slope":
        return _SLOPE
    return 1.0 if role in ("scale", "variance", "divisor") else 0.0


def _undoing(provenance: Provenance, tensor: ChannelTensor, channel: int) -> float:
    """Returns scale or offset of a batch norm: 1 or 0, or what undoes a mean and a variance that cannot be set."""
    network, node = provenance.network, tensor.node
    mean, variance = (network.parameter(node.inputs[position]) for position in (3, 4))
    fixed = {}
    for name, parameter, neutral in (("mean", mean, 0.0), ("variance", variance, 1.0)):
        free = not isinstance(parameter, str) and len(uses(parameter.value)) == 1
        fixed[name] = neutral if isinstance(parameter, str) or free else float(parameter.read().reshape(-1)[channel])
    if tensor.position == 2:
        return fixed["mean"]
    epsilon = node.attributes.get_float("epsilon", 1e-5) if fixed["variance"] != 1.0 else 0.0
    return float(np.sqrt(fixed["variance"] + epsilon))
