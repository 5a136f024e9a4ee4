"""The kernels that read maps of reinitialised filters: scaled by one number, they set how loud these filters are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tgdonnx.regrowing.reinitializable import reinitializable
from tgdonnx.regrowing.tensor_edits import kernel_index, reads
from tgdonnx.selection import Filters, Selection, select
from tgdonnx.tracing.provenance import Provenance


def reading_kernels(provenance: Provenance, rows: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.bool_]]:
    """Returns, for the name of every weight that reads a reinitialised map, where in it: bool of the stored shape.

    Args:
        provenance: the traced network, with the vendor's values or others.
        rows: for names of weights the filters that were reinitialised, as they are recorded.

    Raises:
        SelectionError: ``rows`` names what is not there.
    """
    if not rows:
        return {}
    maps = reinitialised_maps(provenance, rows)
    found = {}
    for layer in provenance.layers:
        if layer.weight is not None and maps[layer.index].any():
            where = np.zeros(layer.weight.shape, bool)
            where.reshape(-1)[kernel_index(layer)[reads(layer, maps[layer.index])]] = True
            found[layer.weight.name] = where
    return found


def reinitialised_maps(provenance: Provenance, rows: Mapping[str, Sequence[int]]) -> tuple[NDArray[np.bool_], ...]:
    """Returns for each layer bool of shape (maps,): True for an input map that reinitialised filters made.

    Args:
        provenance: the traced network, with the vendor's values or others.
        rows: for names of weights the filters that were reinitialised, as they are recorded.

    Raises:
        SelectionError: ``rows`` names what is not there.
    """
    filters = select(provenance, Filters(rows)).filters
    nowhere = tuple(np.zeros(layer.maps, bool) for layer in provenance.layers)
    _, maps = reinitializable(provenance, Selection({}, filters, nowhere), {})
    return maps
