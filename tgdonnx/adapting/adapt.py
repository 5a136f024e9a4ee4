"""A network with side paths: the file, what of it trains, and which layers have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tgdonnx.adapting.side_paths import SidePath, plan_side_paths, prefix_of
from tgdonnx.adapting.widening import widen
from tgdonnx.errors import MaskedModelError, SelectionError
from tgdonnx.layers import Network, open_network
from tgdonnx.selection import RetrainMask, Selection, plan_masks, select
from tgdonnx.selection.recorded import adapter_of, frozen_by, strategy_of
from tgdonnx.selection.strategy import RecordedSelection
from tgdonnx.tracing import trace_network

DEFAULT_RANK = 8


@dataclass(frozen=True)
class Adapter:
    """Which side paths to add.

    Attributes:
        rank: of the change that each makes of the weight beside it, per group; no more than that can have.
        seed: of the initial values.

    Raises:
        SelectionError: a number is out of range.
    """

    rank: int = DEFAULT_RANK
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SelectionError(f"expected a rank of side paths of at least 1, got {self.rank}")
        if self.seed < 0:
            raise SelectionError(f"expected a seed >= 0, got {self.seed}")


@dataclass(frozen=True)
class Adapted:
    """A network with side paths.

    Attributes:
        before: the network without them.
        network: with them; it computes what it did without.
        paths: the side paths, planned for the network without them.
        left_out: for the names of other selected layers why they have none.
    """

    before: Network = field(repr=False)
    network: Network = field(repr=False)
    paths: tuple[SidePath, ...] = field(repr=False)
    left_out: Mapping[str, str]

    @property
    def added(self) -> frozenset[str]:
        """The names of the tensors that were added."""
        return frozenset(name for path in self.paths for name in (path.down, path.up))

    def masks(self) -> tuple[RetrainMask, ...]:
        """Returns the retrain mask of every retrainable tensor: what was added trains, and nothing else."""
        provenance, added = trace_network(self.network), self.added
        rows = tuple(
            np.full(layer.filters, layer.weight is not None and layer.weight.name in added)
            for layer in provenance.layers
        )
        maps = tuple(np.zeros(layer.maps, bool) for layer in provenance.layers)
        masks = plan_masks(provenance, Selection({}, rows, maps), "paper")
        assert {mask.parameter.name for mask in masks if mask.values.any()} == added
        assert all(mask.values.all() for mask in masks if mask.parameter.name in added)
        return masks


def adapt(network: Network, selection: Selection, adapter: Adapter, number: int) -> Adapted:
    """Puts side paths beside layers of a network, in memory.

    Args:
        network: the vendor's model.
        selection: which layers; all with a selected filter.
        adapter: which side paths.
        number: of the round.

    Raises:
        SelectionError: no selected layer can have one.
        MaskedModelError: the model uses a name that a side path would have.
        ModelFileError: the file is written in a way that would not allow to take them out again.
    """
    paths, left_out = plan_side_paths(network, selection.filters, adapter.rank, number)
    if not paths:
        name, reason = next(iter(left_out.items()))
        raise SelectionError(
            f"none of the {len(left_out)} layers can have a side path (of {name!r}, {reason})",
            remedy="choose another mode",
        )
    _require_free_names(network, number)
    return Adapted(network, open_network(widen(network.file, paths, adapter.seed)), paths, left_out)


def adapt_as_recorded(network: Network, selection: RecordedSelection) -> Adapted:
    """Puts side paths into a network again, from a record of mode ``adapter``.

    Raises:
        SelectionError: the recorded selection cannot be carried out.
        MaskedModelError, ModelFileError: as `adapt`.
    """
    recorded = adapter_of(selection)
    assert recorded is not None
    chosen = select(trace_network(network), strategy_of(selection), frozen_by(selection))
    return adapt(network, chosen, Adapter(recorded.rank, recorded.seed), selection.round)


def _require_free_names(network: Network, number: int) -> None:
    prefix = prefix_of(number)
    graph = network.file.proto.graph
    named = [*graph.node, *graph.initializer, *graph.input, *graph.output]
    taken = [str(each.name) for each in named]
    taken += [str(name) for node in graph.node for name in node.output]
    taken += [str(value.name) for inner in network.model.graphs() for node in inner for value in node.outputs]
    for name in taken:
        if name.startswith(prefix):
            raise MaskedModelError(
                f"{network.file.path} has a value or node {name!r}, as a part of a side path would be called",
                remedy="rename it",
            )
