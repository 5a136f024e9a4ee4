"""Both files on data: pictures for the page, what they come to case by case, and whether the criteria of the run are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.data import Dataset
from tgdonnx.evaluating.evaluation import Evaluation, evaluate_files, ways_to_measure
from tgdonnx.evaluating.judging import Verdict, judge
from tgdonnx.evaluating.running import NotShownError, Runners, needs_batches_of_one
from tgdonnx.evaluating.shown import ShownData, new_groups
from tgdonnx.files.model_file import ModelFile
from tgdonnx.finetuning.metrics import metric_of
from tgdonnx.finetuning.run_record import RunRecord
from tgdonnx.graphs.tensor_specs import count_inputs
from tgdonnx.reporting.facts import recorded_scaling
from tgdonnx.reporting.pictures import Answer, Sample, show_samples

_NOISY = (
    "The target of each image is the other one, which is noisy, too: RMSE has that noise in it and never comes near 0, so only "
    "its change says which model is better. A PSNR there would mostly be that of the noise, and is left out."
)
_NOT_NEW = "There was no data that was not trained on, so nothing says how good the tuned model is on such."


@dataclass(frozen=True)
class Study:
    """What is known of both files on data.

    Attributes:
        role: what the data is, in words.
        label_names: of labels from 0 on, where samples show such.
        samples: outputs of the first samples; of a classifier its answers.
        no_samples: why there are none.
        evaluation: measures of both files, case by case; None if there is none.
        not_evaluated: why not.
        note: what is to be known of the numbers; empty if nothing.
        left_out: what of the data was not looked at, since the run trained on it; empty if nothing.
        verdict: whether the criteria that the run recorded are met; None if it recorded none, or there is no data.
    """

    role: str
    label_names: tuple[str, ...] = ()
    samples: Union[tuple[Sample, ...], tuple[Answer, ...]] = ()
    no_samples: str = ""
    evaluation: Optional[Evaluation] = None
    not_evaluated: str = ""
    note: str = ""
    left_out: str = ""
    verdict: Optional[Verdict] = None


def study(
    shown: ShownData,
    runners: Runners,
    files: tuple[ModelFile, ModelFile],
    directory: Path,
    run: Optional[RunRecord],
    *,
    started_from: Optional[ModelFile] = None,
) -> Study:
    """Runs both files on data.

    Args:
        shown: the data.
        runners: run the files.
        files: the vendor's and the tuned one.
        directory: the artifacts directory.
        run: the record of the run; None if it is gone.
        started_from: the file that pictures compare with, if it is not the vendor's.

    Raises:
        DataError: the data does not fit.
    """
    if shown.data is None:
        why = "No data was handed in (`data`), so neither model was run."
        return Study(shown.role, no_samples=why, not_evaluated=why)
    dataset = shown.open(runners.manifest, recorded_scaling(run))
    found, seen = Study(shown.role, note=_NOISY if shown.against_noise else ""), ""
    if shown.judges and run is not None and not shown.against_noise:
        new, cases = new_groups(dataset, run.data), len(dataset.cases)
        if not new:
            seen = f"The run trained on the files of all {cases:,} cases of the {shown.role}. {_NOT_NEW}"
        elif len(new) < len(dataset.input_files()):
            dataset = shown.open(runners.manifest, recorded_scaling(run), new)
            less = f"{cases - len(dataset.cases):,} of {cases:,} cases"
            found = Study(
                f"{shown.role} without {less} that were trained on",
                left_out=f"{less} of the {shown.role} are left out, for the run trained on their files.",
            )
    try:
        runs = [runners.of(file) for file in (started_from or files[0], files[1])]
        samples, names = show_samples(directory, runners.manifest, runs, dataset)
        found = replace(found, samples=samples, label_names=names)
    except NotShownError as reason:
        found = replace(found, no_samples=str(reason))
    if not shown.judges:
        return replace(found, not_evaluated=_NOT_NEW)
    if seen:
        found = replace(found, not_evaluated=seen)
        return replace(found, verdict=_verdict(found, run))
    try:
        evaluation = _evaluated(shown, found.role, runners, files, directory, run, dataset)
        found = replace(found, evaluation=evaluation)
    except NotShownError as reason:
        found = replace(found, not_evaluated=str(reason))
    return replace(found, verdict=_verdict(found, run))


def rehearse(shown: ShownData, runners: Runners, file: ModelFile, directory: Path) -> None:
    """Does with one file in place of both what `study` does first, so that it does not fail later.

    Raises:
        DataError: the data does not fit.
    """
    if shown.data is not None:
        dataset = shown.open(runners.manifest, None)
        try:
            show_samples(directory, runners.manifest, [runners.of(file)] * 2, dataset)
        except NotShownError:
            return  # the page will say so


def _evaluated(
    shown: ShownData,
    role: str,
    runners: Runners,
    files: Sequence[ModelFile],
    directory: Path,
    run: Optional[RunRecord],
    dataset: Dataset,
) -> Evaluation:
    manifest = runners.manifest
    runs = [runners.of(file) for file in files]
    first = next(dataset.batches(manifest.fixed_batch or 1))
    outputs = runs[0](first[: count_inputs(manifest.inputs)])
    criteria = run.acceptance.content.criteria if run is not None and run.acceptance is not None else ()
    wanted = {metric_of(name) for name in (*(run.metrics if run is not None else ()), *(c.metric for c in criteria))}
    data_range = run.data_range if run is not None else None
    ways = ways_to_measure(directory, manifest, dataset, outputs, wanted=wanted, data_range=data_range)
    if shown.against_noise:
        ways = tuple(way.against_noise() for way in ways)
    batch = 1 if any(needs_batches_of_one(file) for file in files) and manifest.fixed_batch is None else None
    return evaluate_files(runs, dataset, ways, manifest, data=role, batch=batch)


def _verdict(found: Study, run: Optional[RunRecord]) -> Optional[Verdict]:
    acceptance = run.acceptance if run is not None else None
    if acceptance is None:
        return None
    if found.evaluation is None:
        return Verdict.of(acceptance, (), problem=found.not_evaluated)
    return judge(acceptance, found.evaluation)
