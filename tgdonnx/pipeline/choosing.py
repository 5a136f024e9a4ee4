"""What trains where nobody says what: chosen by the drop test, and said why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Optional

from tgdonnx.adapting import Adapter, adapt
from tgdonnx.data import DataSource
from tgdonnx.errors import DataError, MaskedModelError, ModelFileError, SelectionError
from tgdonnx.finetuning import Noise2Noise
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import require_unmasked
from tgdonnx.pipeline.asked import Asked
from tgdonnx.records import earlier_rounds
from tgdonnx.regrowing import Reinitialization, regrow
from tgdonnx.selection import AllLayers, Phi, Strategy, frozen_layers, plan_masks, select
from tgdonnx.sweeping import sweep
from tgdonnx.tracing import trace_network

ENOUGH = 0.05
"""The fraction of the weights that dead filters have to hold for them to be what trains.

With 1.4 % little was learnt (a classifier of pages, 60 steps), with half of them what full fine-tuning learns (the PET denoiser
of `samples/retention`); nothing between was tried.
"""


def what_trains(dead: float, *, regrows: bool, adapts: bool) -> Literal["regrow", "adapter", "all"]:
    """Returns what trains: the rule.

    By `samples/retention`, three seeds, everything blended and compared at equal scores of the old task. Where filters are dead
    (PET), reinitialised ones are level with full fine-tuning at its best rate, 0.1 dB above side paths, and add nothing. Where
    none is, reinitialisation destroys, and it is open which of two is better: side paths with a tenth of the numbers lie 0.4 to
    0.7 dB above full fine-tuning on drawings, equal on lines of text, and behind it (8 points, with an interval of 10) on boxes
    of text after 150 steps, by 3 after three times as many (one seed). Side paths are taken: their steps are cheaper, and the
    vendor's weights stay as they are.

    Args:
        dead: the fraction of the weights in filters that the drop test finds dead.
        regrows: whether these can be reinitialised.
        adapts: whether a layer can have a side path.
    """
    if dead >= ENOUGH and regrows:
        return "regrow"
    return "adapter" if adapts else "all"


@dataclass(frozen=True)
class _Dead:
    """What the drop test found.

    Attributes:
        phi: that it recommends; None if it recommends none.
        weights: the fraction of the weights in filters below that.
        said: the same in words.
    """

    phi: Optional[Phi]
    weights: float
    said: str


def with_choice(asked: Asked) -> Asked:
    """Returns what was asked for, with a selection and a mode where that was left to us; then blended, if it can be.

    Raises:
        SelectionError: what is asked for needs a selection; or there are no images for the drop test.
        TgdonnxError: the model is not usable.
    """
    masking = asked.masking
    if asked.strategy is not None:
        return asked
    if masking.mode == "adapter":
        return replace(asked, strategy=AllLayers())
    if masking.mode != "paper" or masking.protect:
        what = "protection" if masking.mode == "paper" else f"mode {masking.mode}"
        raise SelectionError(
            f"{what} is asked for, but no filters are selected", remedy="select some, such as by `phi`"
        )
    network = open_network(asked.file)
    require_unmasked(network.file)
    images = asked.data.data
    if isinstance(images, Noise2Noise):
        raise SelectionError(
            "nothing is selected, and the drop test, which would choose, does not look at two noisy images",
            remedy="select filters, such as by `phi`, or layers",
        )
    frozen_layers(network.layers, masking.freeze)  # wrong names are told before a test that takes a while
    dead = _drop_test(asked, images, network)
    reborn = replace(masking.reinitialization, kind="clone", calibrate=images, reading=asked.data.reading)
    no_regrow = _why_not_regrown(network, dead, reborn, masking.freeze)
    no_paths = _why_not_adapted(network, masking.adapter, masking.freeze)
    others = "other " if masking.freeze else ""
    chosen = what_trains(dead.weights, regrows=no_regrow is None, adapts=no_paths is None)
    strategy: Strategy = AllLayers()
    if chosen == "regrow":
        assert dead.phi is not None
        strategy, masking = dead.phi, replace(masking, mode="regrow", reinitialization=reborn)
        reason = f"the filters below phi {dead.phi.phi:g}, reinitialised (mode regrow): {dead.said}"
    elif chosen == "adapter":
        masking = replace(masking, mode="adapter")
        why = dead.said if no_regrow is None or dead.weights < ENOUGH else f"{dead.said}, but {no_regrow}"
        reason = f"side paths of rank {masking.adapter.rank} beside all {others}layers (mode adapter): {why}"
    else:
        reason = f"all {others}layers: {dead.said}, and no layer can have a side path ({no_paths})"
    blend = asked.results.blend
    if blend is None and asked.holds_out:
        blend = "auto"
    return replace(
        asked, strategy=strategy, masking=replace(masking, chosen=reason), results=replace(asked.results, blend=blend)
    )


def _drop_test(asked: Asked, images: DataSource, network: Network) -> _Dead:
    tolerance = asked.masking.reinitialization.tolerance
    try:
        report = sweep(
            asked.file,
            images,
            tolerance=tolerance,
            output=asked.building.shown_output,
            reading=asked.data.reading,
            device=asked.training.device,
            on_progress=asked.watch.on_drop_test,
        )
    except SelectionError as error:
        return _Dead(None, 0.0, f"the drop test has nothing to drop ({error})")
    except DataError:  # what does not fit is told with all else when the run opens the data
        return _Dead(None, 0.0, "the drop test cannot be done on this data (tgdonnx sweep tells why)")
    point = next((point for point in report.points if point.phi == report.recommended), None)
    if point is None:
        return _Dead(None, 0.0, f"the drop test finds no filter that can be dropped within the tolerance {tolerance:g}")
    share = point.weights / report.weights
    said = (
        f"the drop test finds {point.filters} of {report.filters} filters dead, with {100 * share:.3g} % of the weights "
        f"(without them the output changes by {point.change:.2g})"
    )
    found = _Dead(report.strategy(), share, said)
    return _outside(network, found, report.weights, asked.masking.freeze) if asked.masking.freeze else found


def _outside(network: Network, dead: _Dead, weights: int, freeze: Sequence[str]) -> _Dead:
    """Returns what the drop test found, less what is in layers that are to stay frozen.

    Args:
        network: the vendor's.
        dead: what it found.
        weights: of all layers together.
        freeze: names of layers.
    """
    provenance = trace_network(network)
    assert dead.phi is not None
    try:
        masks = plan_masks(provenance, select(provenance, dead.phi, freeze), "paper")
    except SelectionError:
        return replace(dead, phi=None, weights=0.0, said=f"{dead.said}, all of them in frozen layers")
    owned = {layer.weight.name for layer in network.layers if layer.weight}
    share = sum(mask.trained_elements for mask in masks if mask.parameter.name in owned) / weights
    return replace(dead, weights=share, said=f"{dead.said}; outside the frozen layers they hold {100 * share:.3g} %")


def _why_not_regrown(
    network: Network, dead: _Dead, reinitialization: Reinitialization, freeze: Sequence[str]
) -> Optional[str]:
    """Says why dead filters cannot be reinitialised, though there are enough; None if they can."""
    if dead.phi is None or dead.weights < ENOUGH:
        return None
    provenance = trace_network(network)
    try:
        regrow(provenance, select(provenance, dead.phi, freeze), reinitialization)
    except SelectionError as error:
        return str(error)
    except DataError:
        return "how far that moves the output cannot be measured on this data"
    return None


def _why_not_adapted(network: Network, adapter: Adapter, freeze: Sequence[str]) -> Optional[str]:
    """Says why no layer can have a side path; None if one can."""
    try:
        selection = select(trace_network(network), AllLayers(), freeze)
        adapt(network, selection, adapter, 1 + earlier_rounds(network.file.proto))
    except SelectionError as error:
        return str(error)
    except (MaskedModelError, ModelFileError):  # they name the file, and what is said goes into the tuned one
        return "the way in which the file is written does not allow it"
    return None
