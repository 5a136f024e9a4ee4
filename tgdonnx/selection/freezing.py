"""Layers that stay as they are, whatever is selected: found by name, and taken out of a selection.

Of such a layer neither filters nor single kernels train, and no number per channel that belongs to its filters. A map in which
it has a part stays what it is, so nobody's kernels are let free for reading it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from tgdonnx.errors import SelectionError
from tgdonnx.layers import Layer
from tgdonnx.layers.names import SIDE_PATH_PREFIX
from tgdonnx.selection.strategy import Frozen, Selection
from tgdonnx.tracing.provenance import Provenance

_SIDE_PATH = re.compile(re.escape(SIDE_PATH_PREFIX) + r"\d+\.(.*)\.(?:maps|path)", re.DOTALL)
_NEAR = 3
_LIKE = 0.5


def frozen_layers(layers: Sequence[Layer], names: Sequence[str]) -> Frozen:
    """Returns which layers are to stay frozen, by their indices.

    Args:
        layers: of the network.
        names: of layers, or of their weights; or patterns of such names, as of files in a shell (``*``, ``?``, ``[ab]``). The
            name of a layer stands for the side paths that earlier rounds put beside it, too.

    Raises:
        SelectionError: no layer has such a name; or all that could train would be frozen.
    """
    found: set[int] = set()
    for name in names:
        fitting = [layer.index for layer in layers if name in _names(layer)] or [
            layer.index for layer in layers if any(fnmatchcase(each, name) for each in _names(layer))
        ]
        if not fitting:
            raise SelectionError(f"no layer is called {name!r}, so it cannot be frozen", remedy=_remedy(name, layers))
        found.update(fitting)
    if found and all(layer.weight is None or layer.index in found for layer in layers):
        count = sum(layer.weight is not None for layer in layers)
        raise SelectionError(
            f"with {', '.join(map(repr, names))} frozen, nothing is left to train: these are all {count} layers that can",
            remedy="freeze fewer layers",
        )
    return frozenset(found)


def frozen_names(layers: Sequence[Layer], frozen: Frozen) -> list[str]:
    """Returns the names of layers that stay frozen, for the record, in the order of the network; layers may share a name."""
    return list(dict.fromkeys(layer.name for layer in layers if layer.index in frozen))


def frozen_as_recorded(layers: Sequence[Layer], names: Sequence[str]) -> Frozen:
    """Returns which layers a record says were to stay frozen, by their indices.

    Args:
        layers: of the network.
        names: as `frozen_names` gives them, and in no other way: so a record cannot be altered without a word.

    Raises:
        SelectionError: they are not written so.
    """
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise SelectionError(f"{twice!r} is named twice")
    frozen = frozen_layers(layers, names)
    expected = frozen_names(layers, frozen)
    if list(names) != expected:
        raise SelectionError(f"expected the names of layers in the order of the network, {expected}, got {list(names)}")
    return frozen


def without_frozen(provenance: Provenance, selection: Selection, frozen: Frozen) -> Selection:
    """Returns a selection of which nothing is in layers that stay frozen; it may be empty.

    Args:
        provenance: the traced network.
        selection: of its filters and maps.
        frozen: the layers.
    """
    if not frozen:
        return selection
    filters = tuple(np.zeros_like(rows) if index in frozen else rows for index, rows in enumerate(selection.filters))
    meaningless = tuple(
        np.array([bool(m) and _is_free(layer.index, origin.producers, frozen) for m, origin in zip(maps, inputs)], bool)
        for layer, maps, inputs in zip(provenance.layers, selection.meaningless, provenance.layer_inputs)
    )
    record = {**selection.strategy, "freeze": frozen_names(provenance.layers, frozen)}
    return replace(selection, strategy=record, filters=filters, meaningless=meaningless, frozen=frozen)


def require_unfrozen(before: Selection, after: Selection) -> Selection:
    """Returns a selection from which frozen layers were taken, if something is left of it.

    Raises:
        SelectionError: all that was selected is in layers that stay frozen.
    """
    if any(rows.any() for rows in before.filters) and not any(rows.any() for rows in after.filters):
        raise SelectionError(
            "all that is selected is in layers that are to stay frozen", remedy="select others, or freeze fewer layers"
        )
    return after


def _is_free(reader: int, producers: frozenset[tuple[int, int]], frozen: Frozen) -> bool:
    return reader not in frozen and all(layer not in frozen for layer, _ in producers)


def _names(layer: Layer) -> Iterator[str]:
    yield layer.name
    if layer.weight is not None:
        yield layer.weight.name
    beside = _SIDE_PATH.fullmatch(layer.name)
    if beside:
        yield beside[1]


def _remedy(name: str, layers: Sequence[Layer]) -> str:
    """Says which names are meant, or what there are."""
    every = list(dict.fromkeys(each for layer in layers for each in _names(layer)))
    lower = {each.lower(): each for each in every}
    near = [lower[each] for each in difflib.get_close_matches(name.lower().strip("*?"), lower, _NEAR, _LIKE)]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}? `tgdonnx.inspect` lists all"
    some = ", ".join(map(repr, every[:_NEAR])) + " and so on" * (len(every) > _NEAR)
    return f"they are called {some}; `tgdonnx.inspect` lists all"
