"""What is compared: selections of filters, and what is done with them before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

import tgdonnx
from tgdonnx.regrowing import Kind
from tgdonnx.selection import Mode


@dataclass(frozen=True)
class Candidate:
    """One way to tune a network.

    Attributes:
        name: in tables, and of its files.
        mode: see `tgdonnx.mask`.
        layers: which whole layers train; None for the filters below phi.
        isolate: whether reinitialised maps are read by the last layer alone.
        reinitialization: how filters are reinitialised, in mode ``regrow``.
        calibrated: whether there are a few images of the new task, without targets, to calibrate reinitialised filters on.
        phi: threshold; the network's if None.
        random: whether as many filters of every layer are drawn at random instead.
        any_change: whether reinitialisation may change the output by any amount.
        once: whether one seed will do: of an ablation that nothing is chosen by.
    """

    name: str
    mode: Mode = "paper"
    layers: Optional[tgdonnx.Strategy] = None
    isolate: bool = False
    reinitialization: Optional[Kind] = None
    calibrated: bool = False
    phi: Optional[float] = None
    random: bool = False
    any_change: bool = False
    once: bool = False


CANDIDATES = (
    Candidate("paper"),
    Candidate("readers", "readers"),
    Candidate("regrow", "regrow", reinitialization="he"),
    Candidate("isolate", "regrow", reinitialization="he", isolate=True),
    Candidate("last-3", layers=tgdonnx.LastLayers(3)),
    Candidate("first-2", layers=tgdonnx.FirstLayers(2)),
    Candidate("all", layers=tgdonnx.AllLayers()),
)
# By these the learning rate is chosen.
REPRESENTATIVES = tuple(each for each in CANDIDATES if each.name in ("regrow", "last-3", "all"))

ABLATIONS: Mapping[str, tuple[Candidate, ...]] = {
    "pet": (
        Candidate("regrow-random", "regrow", reinitialization="he", random=True, any_change=True, once=True),
        Candidate("regrow-clone", "regrow", reinitialization="clone"),
        Candidate("regrow-calibrated", "regrow", reinitialization="calibrated", calibrated=True),
        Candidate("regrow-phi-0.7", "regrow", reinitialization="he", phi=0.7, any_change=True, once=True),
    ),
    "drawings": (
        Candidate("regrow-phi-0.1", "regrow", reinitialization="he", phi=0.1, once=True),
        Candidate("regrow-phi-0.3", "regrow", reinitialization="he", phi=0.3, once=True),
    ),
}


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
