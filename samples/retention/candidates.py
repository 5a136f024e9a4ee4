"""What is compared: selections of filters, and what is done with them before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional

import numpy as np
from network import Array, Network
from usefulness import least

import tgdonnx
from tgdonnx.layers import open_network
from tgdonnx.selection import Mode
from tgdonnx.sensitivity import sensitivity

RANK = 8
QUARTER = 0.25
Draw = Literal["as many at random", "as few as an adapter adds", "as many by score times usefulness"]


@dataclass(frozen=True)
class Candidate:
    """One way to tune a network.

    Attributes:
        name: in tables, and of its files.
        mode: see `tgdonnx.mask`.
        layers: which layers train, or filters; None for the filters that the network's strategy selects.
        draw: what is drawn in place of these filters; None for themselves.
        longer: how many times the steps of the network it trains; above 1 validation chooses the step that counts.
        rank: of side paths.
    """

    name: str
    mode: Mode = "paper"
    layers: Optional[tgdonnx.Strategy] = None
    draw: Optional[Draw] = None
    longer: int = 1
    rank: int = RANK


LONG, LONGEST = ", long", ", longest"
FULL = Candidate("full", layers=tgdonnx.AllLayers())
FULL_AT_TRIAL = Candidate("full at 3e-5", layers=tgdonnx.AllLayers())
REGROW = Candidate("regrow", "regrow")
ADAPTER = Candidate("adapter", "adapter", tgdonnx.AllLayers())
CANDIDATES = (
    FULL,
    REGROW,
    ADAPTER,
    Candidate("regrow-small", "regrow", draw="as few as an adapter adds"),
    Candidate("last-3", layers=tgdonnx.LastLayers(3)),
    Candidate("random", "readers", draw="as many at random"),
    Candidate("readers", "readers"),
    # Filters that hold a quarter of the weights, chosen by the new data, and at random.
    Candidate("steepest", layers=tgdonnx.SteepestFilters(QUARTER)),
    Candidate("fisher", layers=tgdonnx.FisherFilters(QUARTER)),
    Candidate("random quarter", layers=tgdonnx.RandomFilters(QUARTER)),
    # At the rates of the trial before this study, whatever validation says.
    FULL_AT_TRIAL,
    Candidate("regrow at 1e-4", "regrow"),
    *(
        replace(each, name=each.name + suffix, longer=longer)
        for suffix, longer in ((LONG, 3), (LONGEST, 9))
        for each in (FULL, REGROW, ADAPTER)
    ),
    replace(FULL_AT_TRIAL, name=FULL_AT_TRIAL.name + LONG, longer=3),
    replace(ADAPTER, name="adapter of rank 2", rank=2),
    replace(ADAPTER, name="adapter of rank 32", rank=32),
    Candidate("readers by use", "readers", draw="as many by score times usefulness"),
)
"""A network is tuned by those for which it has learning rates."""


def mask(network: Network, candidate: Candidate, seed: int, output: Path) -> tgdonnx.MaskReport:
    """Writes the masked model of a candidate."""
    strategy = candidate.layers or network.strategy
    if candidate.draw is not None:
        scratch = output.with_name("selection.onnx")
        selected = _filters(network, tgdonnx.mask(network.model, scratch, strategy))
        scratch.unlink()
        strategy = tgdonnx.Filters(_drawn(network, candidate.draw, selected, seed, output))
    if isinstance(strategy, tgdonnx.RandomFilters):
        strategy = replace(strategy, seed=seed)
    if isinstance(strategy, (tgdonnx.SteepestFilters, tgdonnx.FisherFilters)):
        data = tgdonnx.RunData(network.data(seed), reading=network.reading)
        building, training = tgdonnx.BuildOptions(loss=network.loss), tgdonnx.TrainOptions(seed=seed)
        strategy = strategy.measured(sensitivity(open_network(network.model), data, building, training))
    options = tgdonnx.MaskOptions(
        mode=candidate.mode,
        reinitialization=tgdonnx.Reinitialization(kind="clone", seed=seed, calibrate=unlabelled(network, seed)),
        adapter=tgdonnx.Adapter(candidate.rank, seed),
    )
    return tgdonnx.mask(network.model, output, strategy, options)


def _drawn(
    network: Network, draw: Draw, selected: Mapping[str, tuple[Sequence[int], int]], seed: int, output: Path
) -> Mapping[str, Sequence[int]]:
    rows = {name: each for name, (each, _) in selected.items()}
    if draw == "as many at random":
        return random_filters(rows, _counts(selected), seed=seed)
    if draw == "as few as an adapter adds":
        return few_filters(network, rows, seed, output)
    return least(network, sum(map(len, rows.values())))


def unlabelled(network: Network, seed: int) -> dict[str, Array]:
    """Returns a few inputs of the new task, on which reinitialisation is seen to change nothing."""
    return {network.input_name: network.data(seed)[network.input_name][:8]}


def random_filters(
    selected: Mapping[str, Sequence[int]], filters: Mapping[str, int], *, seed: int
) -> dict[str, list[int]]:
    """Draws as many filters of every layer as are selected there.

    Args:
        selected: for names of weights the rows that are selected.
        filters: for the same names how many rows there are.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    return {
        name: sorted(int(row) for row in rng.choice(filters[name], len(rows), replace=False))
        for name, rows in selected.items()
        if len(rows)
    }


def some_filters(selected: Mapping[str, Sequence[int]], share: float, *, seed: int) -> dict[str, list[int]]:
    """Draws a share of the filters of every layer that are selected, at least one of each; a larger share has a smaller one."""
    rng = np.random.default_rng(seed)
    orders = {name: rng.permutation(rows) for name, rows in selected.items() if len(rows)}
    return {
        name: sorted(int(row) for row in order[: max(1, round(share * len(order)))]) for name, order in orders.items()
    }


def few_filters(
    network: Network, selected: Mapping[str, Sequence[int]], seed: int, output: Path
) -> dict[str, list[int]]:
    """Draws so many of the selected filters that about as many numbers train as side paths add.

    Args:
        network: what is tuned.
        selected: for names of weights the rows that are selected.
        seed: of the draw.
        output: beside it masked models are written and deleted.
    """
    scratch = output.with_name("drawn.onnx")
    paths = tgdonnx.mask(network.model, scratch, tgdonnx.AllLayers(), tgdonnx.MaskOptions(mode="adapter"))
    scratch.unlink()
    # Side paths count among the weights of which rho is a fraction.
    added = sum(path.weights for path in paths.added)
    wanted = added / (added / paths.rho - added)
    low, high = 0.0, 1.0
    for _ in range(6):
        share = (low + high) / 2
        drawn = tgdonnx.Filters(some_filters(selected, share, seed=seed))
        rho = tgdonnx.mask(network.model, scratch, drawn, tgdonnx.MaskOptions(mode="readers")).rho
        scratch.unlink()
        low, high = (share, high) if rho < wanted else (low, share)
    return some_filters(selected, (low + high) / 2, seed=seed)


def _filters(network: Network, report: tgdonnx.MaskReport) -> dict[str, tuple[Sequence[int], int]]:
    weights = {layer.weight for layer in tgdonnx.score(network.model).layers if layer.weight is not None}
    return {p.name: (p.retrain, p.filters) for p in report.params if p.name in weights}


def _counts(selected: Mapping[str, tuple[Sequence[int], int]]) -> dict[str, int]:
    return {name: count for name, (_, count) in selected.items()}
