"""What earlier rounds trained stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import NothingLeftError
from tgdonnx.layers import Network
from tgdonnx.selection.plan import RetrainMask


def protect_trained(
    masks: Sequence[RetrainMask], trained: Mapping[str, NDArray[np.float32]], network: Network
) -> tuple[RetrainMask, ...]:
    """Takes out of retrain masks what was trained before: whole filters, and single kernels.

    Args:
        masks: of all retrainable tensors.
        trained: for names of tensors the mask of what earlier rounds trained.
        network: the model.

    Raises:
        NothingLeftError: nothing is left to train.
    """
    left = tuple(_protected(m, trained[m.parameter.name], network) if m.parameter.name in trained else m for m in masks)
    if not any(m.values.any() for m in left):
        raise NothingLeftError(
            "all that is selected was trained by an earlier round",
            remedy="select more, or let it train again (without `protect`)",
        )
    return left


def _protected(mask: RetrainMask, trained: NDArray[np.float32], network: Network) -> RetrainMask:
    values = mask.values * (1 - trained)
    kept = np.broadcast_to(mask.values * trained == 1, mask.parameter.shape)
    if not kept.any():
        return mask
    rows = np.broadcast_to(network.filter_index(mask.parameter.name), mask.parameter.shape)[kept]
    filters, maps = mask.filters.copy(), mask.maps.copy()
    filters[rows] = False
    if maps.size:
        maps[_map_index(mask, network)[kept]] = False
    count = len(np.unique(rows))
    note = f"{count} filters keep what an earlier round trained"
    return replace(mask, filters=filters, maps=maps, values=values, note=f"{mask.note}; {note}" if mask.note else note)


def _map_index(mask: RetrainMask, network: Network) -> NDArray[np.int64]:
    """Returns which input map, counted over all groups, each element of a layer's weight reads."""
    layer = next(x for x in network.layers if x.weight is not None and x.weight.name == mask.parameter.name)
    assert layer.weight is not None
    per_group = layer.maps // layer.group
    group_of = np.arange(layer.filters) // (layer.filters // layer.group)
    index = group_of[:, None] * per_group + np.arange(per_group)
    return np.broadcast_to(layer.weight.restore(layer.layout.restore(index)), mask.parameter.shape)
