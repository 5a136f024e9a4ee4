"""From a selection to a masked model: what `tgdonnx mask` does. `tgdonnx.masked_model` is the format of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tgdonnx.adapting import Adapted, Adapter, adapt
from tgdonnx.errors import SelectionError
from tgdonnx.files.model_file import ModelSource, StrPath, load_model
from tgdonnx.files.model_writing import require_data_writable
from tgdonnx.files.outputs import Kind, Output, require_outputs
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import require_unmasked, write_masked
from tgdonnx.presenting import Presented
from tgdonnx.records import earlier_rounds, trained_before
from tgdonnx.regrowing import Reinitialization, regrow
from tgdonnx.selection import STRATEGIES, Mode, RetrainMask, Strategy, plan_masks, protect_trained, select
from tgdonnx.tracing import trace_network

_STAYS = "it was asked for"


@dataclass(frozen=True)
class ParameterMask:
    """What of one tensor trains.

    Attributes:
        name: the tensor, by its name in the vendor's file.
        node: the node that it belongs to.
        filters: how many filters (rows) it has.
        retrain: the filters that train whole.
        maps: the input maps whose kernels train in every row.
        note: why filters that were selected stay frozen; empty if none do.
    """

    name: str
    node: str
    filters: int
    retrain: tuple[int, ...]
    maps: tuple[int, ...]
    note: str


@dataclass(frozen=True)
class AddedPath:
    """A side path.

    Attributes:
        layer: the layer that it goes beside.
        rank: of the change that it makes of the layer's weight, per group.
        weights: how many numbers it adds.
    """

    layer: str
    rank: int
    weights: int


@dataclass(frozen=True, repr=False)
class MaskReport(Presented):
    """What a masked model trains.

    Attributes:
        selection: the strategy, its parameters and the mode.
        params: every retrainable tensor.
        rho: the fraction of the weights that train, in [0, 1]: of the elements of the retrainable tensors, and of the kernels
            that are computed from stored tensors, which never train. In mode ``adapter`` what is added counts among them.
        frozen: for the names of layers that have no weight to train, no side path, or are to stay frozen, why.
        added: in mode ``adapter`` the side paths.
    """

    selection: Mapping[str, Any]
    params: tuple[ParameterMask, ...]
    rho: float
    frozen: Mapping[str, str]
    added: tuple[AddedPath, ...] = ()


@dataclass(frozen=True)
class MaskOptions:
    """What of the selected filters trains, and from where.

    Attributes:
        mode: ``paper``: masks per filter; ``readers``: also the kernels that read a meaningless map, in every filter;
            ``regrow``: these start at 0, and the filters with initial values; ``adapter``: nothing that is there, but side
            paths beside the selected layers.
        reinitialization: of mode ``regrow``, how filters are reinitialised.
        protect: whether what an earlier round trained stays as it is; the records in ``model`` say what that is. In mode
            ``adapter`` it does in any case.
        adapter: of mode ``adapter``, which side paths.
        freeze: names of layers that stay frozen, whatever is selected: of their nodes or weights, or patterns of names with
            ``*``, ``?`` and ``[ab]``. Nothing of them trains; in mode ``regrow`` filters that they read are not reinitialised,
            and in mode ``adapter`` they get no side path.
        chosen: why this was chosen where nobody said what trains, for the record; None where somebody did.

    Raises:
        SelectionError: what an earlier round trained is to be protected in mode ``regrow``; or ``freeze`` is one text.
    """

    mode: Mode = "paper"
    reinitialization: Reinitialization = field(default_factory=Reinitialization)
    protect: bool = False
    adapter: Adapter = field(default_factory=Adapter)
    freeze: tuple[str, ...] = ()
    chosen: Optional[str] = None

    def __post_init__(self) -> None:
        if isinstance(self.freeze, str):
            raise SelectionError(
                f"expected the names of layers to freeze as a tuple, got the text {self.freeze!r}",
                remedy=f"write `freeze=({self.freeze!r},)`",
            )
        if self.mode == "regrow" and self.protect:
            raise SelectionError(
                "what an earlier round trained cannot be protected in mode regrow, which sets what reads reinitialised "
                "filters to 0",
                remedy="leave out `protect`, or choose another mode",
            )


def mask(
    model: ModelSource,
    output: StrPath,
    strategy: Strategy,
    options: MaskOptions = MaskOptions(),  # frozen
    *,
    overwrite: bool = False,
) -> MaskReport:
    """Selects filters and writes a masked model.

    Args:
        model: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        output: the masked model to write.
        strategy: which filters to retrain.
        options: what of the filters trains, and from where.
        overwrite: whether ``output`` may exist.

    Raises:
        ModelFileError: no usable model.
        MaskedModelError: it is masked already, or uses the name that a mask would have, or a record of an earlier round that
            is to be protected is damaged.
        SelectionError: the selection is wrong or selects nothing; or no filter can be reinitialised, or the output changes
            too much; or no layer can have a side path.
        DataError: there is nothing to measure the change on, or it does not fit.
        OutputError: ``output`` cannot be written.
    """
    output = Path(output)
    file = load_model(model)
    require_outputs([Output(output, Kind.MODEL)], [file, options.reinitialization.calibrate], overwrite=overwrite)
    return mask_network(open_network(file), output, strategy, options, overwrite=overwrite)


def mask_network(
    network: Network, output: Path, strategy: Strategy, options: MaskOptions, *, overwrite: bool = False
) -> MaskReport:
    """Does what `mask` does with a model that is open.

    Raises:
        TgdonnxError: as `mask`.
    """
    require_unmasked(network.file)
    require_data_writable(output, network.file, overwrite=overwrite)
    if options.mode == "adapter":
        _require_whole_layers(strategy)
    provenance = trace_network(network)
    selection = select(provenance, strategy, options.freeze)
    record: dict[str, Any] = {
        **selection.strategy,
        "mode": options.mode,
        "round": 1 + earlier_rounds(network.file.proto),
    }
    if options.chosen is not None:
        record["chosen"] = options.chosen
    if options.mode == "adapter":
        adapted = adapt(network, selection, options.adapter, record["round"])
        record.update(rank=options.adapter.rank, seed=options.adapter.seed)
        masks = adapted.masks()
        write_masked(adapted.network, masks, record, output, vendor=network.file, overwrite=overwrite)
        return _with_paths(describe(masks, record, adapted.network), adapted)
    if options.mode == "regrow":
        regrown = regrow(provenance, selection, options.reinitialization)
        record.update(regrown.record)
        write_masked(
            network,
            regrown.masks,
            record,
            output,
            values=regrown.values,
            set_masks=regrown.set_masks,
            overwrite=overwrite,
        )
        return describe(regrown.masks, record, network)
    masks = plan_masks(provenance, selection, options.mode)
    if options.protect:
        masks = protect_trained(masks, trained_before(network), network)
        record["protect"] = True
    write_masked(network, masks, record, output, overwrite=overwrite)
    return describe(masks, record, network)


def describe(masks: Sequence[RetrainMask], selection: Mapping[str, Any], network: Network) -> MaskReport:
    """Returns what the masks train, as a report."""
    params = tuple(
        ParameterMask(
            m.parameter.name,
            m.node,
            len(m.filters),
            tuple(int(i) for i in np.flatnonzero(m.filters)),
            tuple(int(i) for i in np.flatnonzero(m.maps)),
            m.note or "",
        )
        for m in masks
    )
    total = sum(int(np.prod(m.parameter.shape)) for m in masks) + sum(network.computed_kernels.values())
    kept = {*selection.get("freeze", ())}
    frozen = {layer.name: _STAYS for layer in network.layers if layer.name in kept}
    frozen |= {layer.name: layer.problem or "" for layer in network.layers if layer.weight is None}
    return MaskReport(selection, params, sum(m.trained_elements for m in masks) / total, frozen)


def _require_whole_layers(strategy: Strategy) -> None:
    kind = next(each for each in STRATEGIES if each.strategy is type(strategy))
    if kind.regrows:
        raise SelectionError(
            f"side paths go beside whole layers, and {kind.name} selects single filters",
            remedy="leave the selection out for all layers, or select the first or the last ones",
        )


def _with_paths(report: MaskReport, adapted: Adapted) -> MaskReport:
    added = tuple(AddedPath(path.layer.name, path.rank, path.weights) for path in adapted.paths)
    return replace(report, frozen={**report.frozen, **adapted.left_out}, added=added)
