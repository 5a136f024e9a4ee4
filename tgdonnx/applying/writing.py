"""Results computed, and written or handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Optional

from tgdonnx.applying.application import Application, Computation
from tgdonnx.applying.classifying import classification_of
from tgdonnx.applying.deciding import decision_file
from tgdonnx.applying.dicomfiles import SERIES, Derivation, write_series
from tgdonnx.applying.imagefiles import ARRAYS, Made, Range, paged, write, write_arrays
from tgdonnx.applying.placing import Target, directory_targets, file_target, place_of
from tgdonnx.applying.reports import ApplyProgress, ApplyReport, Counter, Result
from tgdonnx.applying.telling import answered, decided, rounded
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.staging import require_places, staged
from tgdonnx.files.typed import encode


def write_table(job: Application, path: Path, show: Callable[[ApplyProgress], None]) -> ApplyReport:
    """Classifies everything, and writes the table.

    Args:
        job: what is applied.
        path: the table.
        show: called after every picture.

    Raises:
        TgdonnxError: as `tgdonnx.apply`.
    """
    counter = Counter(show, sum(case.view.count for case in job.cases.all), job.cases.all[0].name)
    table = classification_of(job).table(counter.step)
    write_bytes(path, table.text.encode())
    said = [*job.cases.remarks]
    classes = job.preparation.classes
    if not classes.names:
        said.append("classes go by their numbers; nothing names them")
    if classes.remark:
        said.append(classes.remark)
    if job.gate is not None:
        said.append(table.decided or answered(None))
    return ApplyReport(str(path), (table.count,), "csv", 1, (), None, tuple(said))


def targets_of(
    job: Application, path: Path, made: Sequence[Made], *, overwrite: bool
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Returns where the results of every case go, and what is to be said of that.

    Args:
        job: what is applied.
        path: what was named.
        made: the results of the first case.
        overwrite: whether files may exist.

    Raises:
        TgdonnxError: as `file_target` and `directory_targets`.
    """
    if place_of(path) == "file":
        targets: tuple[Target, ...] = (file_target(path, made),)
        said: tuple[str, ...] = ()
    else:
        cases, suffix = job.cases.all, job.options.suffix
        targets, said = directory_targets(path, cases, made, suffix, several=job.cases.several, overwrite=overwrite)
    if job.gate is not None and job.gate.detector is not None:
        decisions = [_decision_place(target) for target in targets]
        require_places(path.parent, [str(each.relative_to(path.parent)) for each in decisions], overwrite=overwrite)
    return targets, said


def _decision_place(target: Target) -> Path:
    """Returns where the decision is written that a result was made by: beside it, of a series in its directory."""
    return target.path / "gate.json" if target.suffix == SERIES else decision_file(target.path)


def results_of(
    job: Application, path: Optional[Path], show: Callable[[ApplyProgress], None], *, overwrite: bool
) -> ApplyReport:
    """Computes all results, and writes them, or hands them over.

    Args:
        job: what is applied.
        path: where they go; None to hand them over.
        show: called after every run of the model.
        overwrite: whether files may exist.

    Raises:
        TgdonnxError: as `tgdonnx.apply`.
    """
    cases = job.cases.all
    counter = Counter(show, sum(map(job.steps, cases)), cases[0].name)
    first = job.case(cases[0])
    made = first.made
    arrays: dict[str, Array] = {}
    results: list[Result] = []
    said: tuple[str, ...] = ()
    if path is None:
        arrays = {each.output: array for each, array in zip(made, first.computed(counter.step))}
    elif place_of(path) == "file":
        (target,), said = targets_of(job, path, made, overwrite=overwrite)
        said = (*said, *filter(None, [_of_file(target, made[0])]))
        results += _written(job, cases[0].name, first, counter, target, target)
    else:
        targets, said = targets_of(job, path, made, overwrite=overwrite)
        said = (*said, *filter(None, [_of_file(targets[0], made[0])]))
        with staged(path) as directory:
            for case, target in zip(cases, targets):
                counter.case = case.name
                computation = first if case is cases[0] else job.case(case)
                placed = Target(directory / target.path.relative_to(path), target.suffix)
                results += _written(job, case.name, computation, counter, placed, target)
    named = job.preparation.reading.classes
    remarks = (
        *job.cases.remarks,
        *(["`classes` names the classes of a table (.csv); this result has no names"] if named else []),
        *first.remarks(tiled=job.options.tile is not None),
        *said,
        *rounded(results),
        *(decided(results) if job.gate is not None else ()),
    )
    plan, tiles = first.plans[0], first.assemblies[0].tiles
    return ApplyReport(
        None if path is None else str(path),
        made[0].shape,
        str(made[0].dtype),
        tiles,
        plan.overlap,
        plan.whole,
        remarks,
        first.decision,
        tuple(results),
        arrays,
    )


def _of_file(target: Target, made: Made) -> str:
    """Returns what is said of how a file, or series, holds a result; nothing if that goes without saying."""
    if target.suffix == SERIES and made.form == "classes":
        return (
            "classes are the values of a derived series, which is no DICOM segmentation (SEG); of a NIfTI volume they are a "
            "label map"
        )
    return paged(target.suffix, made)


def _written(
    job: Application, case: str, computation: Computation, counter: Counter, placed: Target, target: Target
) -> list[Result]:
    """Computes and writes the results of a case.

    Args:
        job: what is applied.
        case: the name of the case.
        computation: of its results.
        counter: counts runs of the model.
        placed: where they are written.
        target: where they will be.
    """
    placed.path.parent.mkdir(parents=True, exist_ok=True)
    made = computation.made
    if placed.suffix == ARRAYS:
        arrays = {each.output: array for each, array in zip(made, computation.computed(counter.step))}
        write_arrays(placed.path, arrays)
        ranges = {name: Range.of(array) for name, array in arrays.items()}
    elif placed.suffix == SERIES:
        placed.path.mkdir(exist_ok=True)
        (values,) = computation.computed(counter.step)
        ranges = {made[0].output: _write_series(job, made[0], values, placed.path)}
    else:
        fill = partial(_fill, computation, counter)
        ranges = {made[0].output: write(placed.path, made[0], fill)}
    if computation.decision is not None:
        write_bytes(_decision_place(placed), encode(computation.decision, indent=1))
    return [
        Result(
            case,
            str(target.path),
            each.output,
            each.shape,
            str(each.dtype),
            ranges[each.output].low,
            ranges[each.output].high,
            ranges[each.output].clipped,
            ranges[each.output].error,
            computation.decision,
        )
        for each in made
    ]


def _fill(computation: Computation, counter: Counter, array: Array) -> None:
    computation.fill([array], counter.step)


def _write_series(job: Application, made: Made, values: Array, directory: Path) -> Range:
    derivation = Derivation(job.file.path.name, job.file.sha256, made.form == "image")
    error = write_series(directory, values, made.stored.files, derivation)
    return replace(Range.of(values), error=error)
