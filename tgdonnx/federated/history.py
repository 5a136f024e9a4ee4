"""``federated.json`` in the server's artifacts directory: what every site did in every round.

Format 1: one JSON object with the fields of `History`, written anew after every round. Round 0 is the start, evaluated alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts.manifest import FEDERATED
from tgdonnx.federated.examining import Refusal
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Count, Positive, decode, encode, read_bytes

FORMAT = 1
_REMEDY = "delete it, and what it says is left out"


@dataclass(frozen=True)
class SiteRound:
    """What a site did in a round.

    Attributes:
        site: its name.
        samples: how many it trained on; 0 where its training did not count.
        loss: the mean over its steps, each before its update.
        steps: how many.
        validated: samples of its validation data; 0 without any.
        validation: the loss over these, of what the round came to.
        metrics: of these.
        retained: samples of the vendor's own task; 0 without any.
        retain: metrics of these.
    """

    site: str
    samples: Count = 0
    loss: Optional[float] = None
    steps: Count = 0
    validated: Count = 0
    validation: Optional[float] = None
    metrics: Mapping[str, Optional[float]] = field(default_factory=dict)
    retained: Count = 0
    retain: Mapping[str, Optional[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundHistory:
    """A round.

    Attributes:
        round: counted from 1; 0 is the start.
        sites: by their names.
        refused: whose answers did not count, and why.
        counts: whether enough sites sent what counts.
        validation: the mean of the sites' validation losses, by samples; None where no site has validation data.
        retain_fall: by how much the vendor's own task became worse where that is most; None where it is not measured.
        seconds: how long it took.
        kept: whether it is the best so far.
    """

    round: Count
    sites: tuple[SiteRound, ...]
    refused: tuple[Refusal, ...]
    counts: bool
    validation: Optional[float]
    retain_fall: Optional[float]
    seconds: AtLeast0
    kept: bool


@dataclass(frozen=True)
class History:
    """What every site did in every round.

    Attributes:
        format: version of this format.
        travelling_bytes: what travels to a site, and from it, in a round.
        whole_bytes: of the vendor's model.
        rounds: the rounds.
    """

    format: Positive
    travelling_bytes: Count
    whole_bytes: Count
    rounds: tuple[RoundHistory, ...] = ()


def write_history(directory: Path, history: History) -> None:
    """Writes it into an artifacts directory.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(directory / FEDERATED, encode(history, indent=1))


def read_history(directory: Path) -> History:
    """Reads it.

    Raises:
        ArtifactsError: it is not there, damaged, or of a newer format.
    """
    path = directory / FEDERATED
    return decode(read_bytes(path, remedy=_REMEDY), History, str(path), remedy=_REMEDY, newest=FORMAT)


def lines_of(found: RoundHistory) -> list[str]:
    """Returns a round in lines of text, one for every site."""
    lines = []
    for site in found.sites:
        told = [f"{site.samples:,} samples" if site.samples else "did not train"]
        if site.loss is not None:
            told.append(f"training loss {site.loss:.6g}")
        if site.validation is not None:
            told.append(f"validation loss {site.validation:.6g}")
        told += [f"{name} {_number(value)}" for name, value in site.metrics.items()]
        told += [f"vendor's task {name} {_number(value)}" for name, value in site.retain.items()]
        lines.append(f"{site.site}: {', '.join(told)}")
    return [*lines, *(f"{each.site} does not count: {each.reason}" for each in found.refused)]


def _number(value: Optional[float]) -> str:
    return "infinite" if value is None else f"{value:.6g}"
