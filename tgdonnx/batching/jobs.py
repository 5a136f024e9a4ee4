"""What a batch is asked for: jobs, each the arguments of `tgdonnx.finetune` but for where results go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Optional, Union

from tgdonnx.artifacts import BuildOptions
from tgdonnx.data import DataSource
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.typed import encode
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions
from tgdonnx.finetuning.noise2noise import paths_of
from tgdonnx.masking import MaskOptions
from tgdonnx.presenting import Presented
from tgdonnx.scoring import ScoreOptions
from tgdonnx.selection import Strategy
from tgdonnx.sweeping import DEFAULT_TOLERANCE


@dataclass(frozen=True)
class ByDropTest:
    """Filters that the drop test finds on images, as `tgdonnx.sweep` does: one test for all jobs of the same.

    Attributes:
        data: the images.
        tolerance: the largest change of the output that is accepted.
        scoring: how maps are scored.
    """

    data: StrPath
    tolerance: float = DEFAULT_TOLERANCE
    scoring: ScoreOptions = field(default_factory=ScoreOptions)


@dataclass(frozen=True)
class JobResults:
    """What a job writes besides its tuned model, as `tgdonnx.Results` has it; names are of files in the job's own directory.

    Attributes:
        apply: an image, volume or stack that the tuned model is applied to.
        applied: what the result is called; ``tuned.applied`` and the suffix of ``apply`` if None.
        report: what its page is called; None for none.
        card: what its record for machines is called; None for none.
        keep: whether the run directory stays when all is done.
        blend: how far the tuned model goes.
        acceptance: a file of criteria.
    """

    apply: Optional[StrPath] = None
    applied: Optional[str] = None
    report: Optional[str] = None
    card: Optional[str] = None
    keep: bool = True
    blend: Optional[Union[float, Literal["auto"]]] = None
    acceptance: Optional[StrPath] = None


@dataclass(frozen=True, repr=False)
class BatchJob(Presented):
    """A job: a model that is fine-tuned.

    Attributes:
        name: of the job, and of its directory.
        model: the path of the vendor's file.
        data: what to train on, and what to look at besides; a source alone is what to train on. All of it lies on disk.
        strategy: which filters to retrain; see `tgdonnx.finetune`.
        training: how to train.
        building: what training minimises.
        masking: what of the selected filters trains.
        rounds: how often to score, mask and train.
        results: what else is written.
        row: where it stands in a file of jobs, for messages; empty for none.
    """

    name: str
    model: StrPath
    data: Union[RunData, DataSource, Noise2Noise]
    strategy: Union[Strategy, ByDropTest, None] = None
    training: TrainOptions = field(default_factory=TrainOptions)
    building: BuildOptions = field(default_factory=BuildOptions)
    masking: MaskOptions = field(default_factory=MaskOptions)
    rounds: int = 1
    results: JobResults = field(default_factory=JobResults)
    row: str = ""

    @property
    def run_data(self) -> RunData:
        """The data, with how it is read."""
        return RunData.of(self.data)

    @property
    def reads(self) -> dict[str, object]:
        """What is read, by what it is for; paths, unless it lies in memory."""
        data = self.run_data
        paired = isinstance(data.data, Noise2Noise)
        named = {
            "model": self.model,
            **dict(zip(("noise2noise a", "noise2noise b") if paired else ("data",), paths_of(data.data))),
            "validation": data.validation,
            "retain": data.retain,
            "agree": data.agree,
            "calibrate": self.masking.reinitialization.calibrate,
            "sweep data": self.strategy.data if isinstance(self.strategy, ByDropTest) else None,
            "apply": self.results.apply,
            "acceptance": self.results.acceptance,
        }
        return {name: each for name, each in named.items() if each is not None}

    def options(self) -> dict[str, str]:
        """Returns what is chosen other than by default, by names such as ``training.epochs``, as JSON; but for what is read."""
        pair, strategy = self.run_data.data, self.strategy
        return {
            **({} if strategy is None else {"strategy": json.dumps(type(strategy).__name__)}),
            **({} if strategy is None else _chosen("strategy", strategy)),
            **(_chosen("noise2noise", pair) if isinstance(pair, Noise2Noise) else {}),
            **_chosen("training", self.training),
            **_chosen("building", self.building),
            **_chosen("masking", self.masking),
            **_chosen("reading", self.run_data.reading),
            **_chosen("results", self.results),
            **({} if self.rounds == 1 else {"rounds": str(self.rounds)}),
        }


_UNIMPORTANT = {"training.checkpoint_every", "results.keep"}  # they change nothing of what comes out
_READ = {
    *("results.apply", "results.acceptance", "masking.reinitialization.calibrate"),
    *("strategy.data", "noise2noise.a", "noise2noise.b"),
}


def _chosen(prefix: str, options: Any) -> dict[str, str]:
    found = {}
    for each in fields(options):
        name, value = f"{prefix}.{each.name}", getattr(options, each.name)
        if name in _UNIMPORTANT or name in _READ or value == _default(each):
            continue
        if is_dataclass(value):
            found.update(_chosen(name, value))
        else:
            found[name] = encode(value).decode().strip()
    return found


def _default(each: Any) -> Any:
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else MISSING


def told_difference(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Says which options are others now, such as ``training.epochs was 5, is 10``."""
    names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name, 'left out')}, is {now.get(name, 'left out')}" for name in names]
