"""How rounds go, as the run configuration of the Flower app says (``[tool.flwr.app.config]``, ``flwr run --run-config``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec

from tgdonnx.errors import DataError
from tgdonnx.files.typed import Above0, AtLeast0, Count, Fraction, Positive
from tgdonnx.finetuning import TrainOptions
from tgdonnx.finetuning.metrics import MetricName


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """The keys of the run configuration; a number that is 0, or a text that is empty, counts as not said where it has no sense.

    Attributes:
        artifacts: the server's directory; it gets the checkpoints, and ``federated.json``.
        output: the tuned file; empty for none.
        rounds: how often sites train, and what comes of it is averaged.
        epochs: of every site in a round.
        steps: the same in steps, in place of epochs.
        batch: samples per batch. So are accumulate, learning_rate, warmup, seed and metrics as `TrainOptions` has them; metrics
            are separated by commas.
        proximal: FedProx: what the artifacts were built to be pulled to (``l2_sp``) is where each round starts.
        sites: how many are waited for before the first round.
        min_sites: how many have to take part, and how many have to send what counts, for a round to count.
        wait: seconds that sites are waited for before the first round, and where too few are left.
        timeout: seconds that a round, and an evaluation, waits for those that do not answer.
        blend: how far the tuned file goes from the vendor's weights (0) to the averaged ones (1).
        retain_limit: rounds that made the vendor's own task worse by more, at any site, are not kept; below 0 for no limit.
        overwrite: whether ``output`` may exist.
        site_files: in a simulation, the directory with the files of the sites.
    """

    artifacts: str
    output: str = ""
    rounds: Positive = 10
    epochs: Count = 0
    steps: Count = 0
    batch: Positive = 8
    accumulate: Positive = 1
    learning_rate: AtLeast0 = 0.0
    warmup: Count = 0
    seed: Count = 0
    metrics: str = ""
    proximal: bool = False
    sites: Positive = 2
    min_sites: Positive = 1
    wait: Above0 = 600.0
    timeout: Above0 = 3600.0
    blend: Fraction = 1.0
    retain_limit: float = -1.0
    overwrite: bool = False
    site_files: str = ""


@dataclass(frozen=True)
class RoundPlan:
    """How a site trains in a round.

    Attributes:
        options: epochs or steps are those of a round.
        proximal: whether it is pulled to where the round starts.
    """

    options: TrainOptions
    proximal: bool


@dataclass(frozen=True)
class Plan:
    """How rounds go.

    Attributes:
        artifacts: the server's directory.
        output: the tuned file; None for none.
        rounds: how many.
        each: how a site trains in one.
        sites: how many are waited for before the first.
        min_sites: how many have to take part.
        wait: seconds that sites are waited for.
        timeout: seconds that a round waits for answers.
        blend: how far the tuned file goes from the vendor's weights (0) to the averaged ones (1).
        retain_limit: by how much the vendor's own task may become worse at any site; None for no limit.
        overwrite: whether ``output`` may exist.
    """

    artifacts: Path
    output: Optional[Path]
    rounds: int
    each: RoundPlan
    sites: int
    min_sites: int
    wait: float
    timeout: float
    blend: float
    retain_limit: Optional[float]
    overwrite: bool


def read_plan(config: Mapping[str, Any]) -> Plan:
    """Returns how rounds go by a run configuration.

    Raises:
        DataError: it says something else than it should.
    """
    try:
        found = msgspec.convert(dict(config), RunConfig)
    except msgspec.ValidationError as error:
        raise DataError(f"the run configuration: {error}") from error
    if found.sites < found.min_sites:
        raise DataError(f"expected sites >= min-sites, got {found.sites} and {found.min_sites}")
    metrics: tuple[Any, ...] = tuple(name.strip() for name in found.metrics.split(",") if name.strip())
    options = TrainOptions(
        epochs=found.epochs or (None if found.steps else 1),
        steps=found.steps or None,
        batch=found.batch,
        accumulate=found.accumulate,
        learning_rate=found.learning_rate or None,
        warmup=found.warmup,
        seed=found.seed,
        metrics=metrics,
    )
    return Plan(
        Path(found.artifacts),
        Path(found.output) if found.output else None,
        found.rounds,
        RoundPlan(options, found.proximal),
        found.sites,
        found.min_sites,
        found.wait,
        found.timeout,
        found.blend,
        found.retain_limit if found.retain_limit >= 0 else None,
        found.overwrite,
    )


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=False, rename="kebab"):
    """How a round goes, as plain values under names; unknown ones are those of Flower's strategies."""

    epochs: Count
    steps: Count
    batch: Positive
    accumulate: Positive
    learning_rate: Annotated[float, msgspec.Meta(ge=0)]
    warmup: Count
    seed: Count
    metrics: list[MetricName]
    proximal: bool


def sent(plan: RoundPlan) -> dict[str, Any]:
    """Returns how a site trains in a round, as plain values for Flower's ConfigRecord."""
    told = plan.options
    return {
        "epochs": told.epochs or 0,
        "steps": told.steps or 0,
        "batch": told.batch,
        "accumulate": told.accumulate,
        "learning-rate": told.learning_rate or 0.0,
        "warmup": told.warmup,
        "seed": told.seed,
        "metrics": list(told.metrics),
        "proximal": plan.proximal,
    }


def received(values: Mapping[str, Any]) -> RoundPlan:
    """Undoes `sent`.

    Raises:
        DataError: the values are none of ours.
    """
    try:
        found = msgspec.convert(dict(values), _Sent)
    except msgspec.ValidationError as error:
        raise DataError(f"what the server asks for is no round of ours: {error}") from error
    options = TrainOptions(
        epochs=found.epochs or None,
        steps=found.steps or None,
        batch=found.batch,
        accumulate=found.accumulate,
        learning_rate=found.learning_rate or None,
        warmup=found.warmup,
        seed=found.seed,
        metrics=tuple(found.metrics),
    )
    return RoundPlan(options, found.proximal)
