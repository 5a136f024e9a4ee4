"""A model applied, and its results written or handed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from tgdonnx.applying.application import Application, Computation, prepare
from tgdonnx.applying.classifying import classification_of
from tgdonnx.applying.collecting import Applied, is_pattern, root_of
from tgdonnx.applying.deciding import GateDecision, decision_file
from tgdonnx.applying.dicomfiles import SERIES, Derivation, write_series
from tgdonnx.applying.imagefiles import ARRAYS, Made, Range, suffix_of, write, write_arrays
from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.placing import Place, Target, directory_targets, file_target, place_of
from tgdonnx.applying.reports import ApplyProgress, ApplyReport, Result
from tgdonnx.applying.unused import require_used
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.options import DataOptions
from tgdonnx.errors import DataError, OutputError
from tgdonnx.files.model_file import ModelFile, ModelSource, StrPath, load_model, write_bytes
from tgdonnx.files.outputs import Kind, Output, require_outputs
from tgdonnx.files.staging import require_places, staged
from tgdonnx.files.typed import encode
from tgdonnx.runtime import usable_device


def apply(
    model: ModelSource,
    data: Applied,
    output: Optional[StrPath] = None,
    *,
    reading: DataOptions = DataOptions(),  # noqa: B008  # frozen
    artifacts: Optional[StrPath] = None,
    options: ApplyOptions = ApplyOptions(),  # noqa: B008  # frozen
    overwrite: bool = False,
    show: Callable[[ApplyProgress], None] = lambda _: None,
) -> ApplyReport:
    """Applies a model to images, volumes or stacks of images, and writes the results in the same axes.

    Where the receptive field can be computed from the graph, the model runs on tiles that overlap by it; the result is that of
    the whole image, to rounding. Of a volume that a 2.5-D model takes as stacks of slices, the slice in the middle of every
    stack is kept. Where the result has several channels and the data no axis for them, it gets one. Of a gated model, one
    decision is made for all of a case, and written to ``RESULT.gate.json``; of a table, one for every picture, in a column.

    Args:
        model: an ONNX file, or a model in memory; see `tgdonnx.files.in_memory`.
        data: what it is applied to: an array; a file, a directory, or a pattern of paths, see `tgdonnx.applying.collecting`; or
            an array for the name of each input.
        output: the file to write: ``.npy``, ``.npz`` with an array per output, NIfTI if the data is, PNG or TIFF; or, of a
            classifier, ``.csv`` with a row per picture, see `tgdonnx.applying.classifying`. A directory takes the results of
            many files, by the same names, or a DICOM series that is derived from one. None to hand arrays over.
        reading: how data is read, made ready and scaled. Scaling is undone in results that are images.
        artifacts: the directory of a run: data is made ready as its record says. Without it, and where ``reading`` says
            nothing, as the record in a tuned model says.
        options: tiles, outputs, what results are, and where the model runs.
        overwrite: whether files may exist.
        show: called after every run of the model.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: the data does not fit the model, a tile is too small, a file cannot hold a result, or an option would change
            nothing there.
        OutputError: a result cannot be written; then none is.
        RuntimeMissingError: no onnxruntime, or not the library for a format, is installed; or it cannot use the device.
    """
    file = load_model(model)
    place, path = _checked(file, data, output, artifacts, options, overwrite=overwrite)
    several = path is None or place == "directory" or suffix_of(path) == ARRAYS
    device = usable_device(options.device)
    job = prepare(file, data, reading, artifacts, options, device, several=several)
    if place == "table":
        assert path is not None
        return _table(job, path, show)
    if job.cases.several and place != "directory":
        raise DataError(
            f"{len(job.cases.all)} files have a result each, and {'memory takes' if path is None else f'{path} is for'} one",
            remedy="name a directory for them",
        )
    return _results(job, path, show, overwrite=overwrite)


def require_applicable(
    model: ModelSource,
    data: Applied,
    output: StrPath,
    *,
    reading: DataOptions = DataOptions(),  # noqa: B008  # frozen
    options: ApplyOptions = ApplyOptions(),  # noqa: B008  # frozen
    overwrite: bool = False,
) -> None:
    """Checks that `apply` would work, for a model of which only the weights will change; runs it on one tile.

    Args:
        model: as of `apply`.
        data: as of `apply`.
        output: as of `apply`.
        reading: as of `apply`; that of which statistics are not known yet, by a number.
        options: as of `apply`.
        overwrite: as of `apply`.

    Raises:
        TgdonnxError: as `apply` does.
    """
    file = load_model(model)
    place, path = _checked(file, data, output, None, options, overwrite=overwrite)
    assert path is not None
    device = usable_device(options.device)
    several = place == "directory" or suffix_of(path) == ARRAYS
    job = prepare(file, data, reading, None, options, device, several=several)
    if place == "table":
        next(classification_of(job).rows(lambda: None))
        return
    made = job.case(job.cases.all[0]).made(lambda: None)
    _targets(job, path, made, overwrite=overwrite)


def _checked(
    model: ModelFile,
    data: Applied,
    output: Optional[StrPath],
    artifacts: Optional[StrPath],
    options: ApplyOptions,
    *,
    overwrite: bool,
) -> tuple[Place, Optional[Path]]:
    """Returns where results go, of which nothing is known to be wrong before the model is opened."""
    path = None if output is None else Path(output)
    place = place_of(path)
    require_used(options, place, path)
    if path is None:
        return place, None
    read: object = root_of(Path(str(data))) if is_pattern(data) else data
    require_outputs([Output(path, Kind.RESULTS)], [model, read, artifacts], overwrite=overwrite)
    if place == "directory" and isinstance(data, (str, os.PathLike)) and Path(data).is_dir():
        inside, root = path.resolve(), Path(data).resolve()
        if root == inside or root in inside.parents:
            raise OutputError(f"{path} lies in {os.fspath(data)}, which is read", remedy="choose a directory elsewhere")
    return place, path


def _table(job: Application, path: Path, show: Callable[[ApplyProgress], None]) -> ApplyReport:
    counter = _Counter(show, sum(case.view.count for case in job.cases.all), job.cases.all[0].name)
    table = classification_of(job).table(counter.step)
    write_bytes(path, table.text.encode())
    said = [*job.cases.remarks]
    classes = job.preparation.classes
    if not classes.names:
        said.append("classes go by their numbers; nothing names them")
    if classes.remark:
        said.append(classes.remark)
    if job.gate is not None:
        said.append(table.decided or _answered(None))
    return ApplyReport(str(path), (table.count,), "csv", 1, (), None, tuple(said))


def _targets(
    job: Application, path: Path, made: Sequence[Made], *, overwrite: bool
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Returns where the results of every case go, by those of the first."""
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


def _results(
    job: Application, path: Optional[Path], show: Callable[[ApplyProgress], None], *, overwrite: bool
) -> ApplyReport:
    cases = job.cases.all
    counter = _Counter(show, sum(map(job.steps, cases)), cases[0].name)
    first = job.case(cases[0])
    made = first.made(counter.step)
    arrays: dict[str, Array] = {}
    results: list[Result] = []
    said: tuple[str, ...] = ()
    if path is None:
        arrays = {each.output: each.computed() for each in made}
    elif place_of(path) == "file":
        (target,), said = _targets(job, path, made, overwrite=overwrite)
        results += _written(job, cases[0].name, first, made, target, target)
    else:
        targets, said = _targets(job, path, made, overwrite=overwrite)
        with staged(path) as directory:
            for case, target in zip(cases, targets):
                counter.case = case.name
                computation = first if case is cases[0] else job.case(case)
                placed = Target(directory / target.path.relative_to(path), target.suffix)
                results += _written(job, case.name, computation, computation.made(counter.step), placed, target)
    named = job.preparation.reading.classes
    remarks = (
        *job.cases.remarks,
        *(["`classes` names the classes of a table (.csv); this result has no names"] if named else []),
        *first.remarks(tiled=job.options.tile is not None),
        *said,
        *_rounded(results),
        *(_decided(results) if job.gate is not None else ()),
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


class _Counter:
    """Counts runs of the model, and shows them."""

    def __init__(self, show: Callable[[ApplyProgress], None], total: int, case: str) -> None:
        self._show, self._total, self._done = show, total, 0
        self.case = case

    def step(self) -> None:
        self._done += 1
        self._show(ApplyProgress(self._done, self._total, self.case))


def _written(
    job: Application, case: str, computation: Computation, made: Sequence[Made], placed: Target, target: Target
) -> list[Result]:
    """Computes and writes the results of a case.

    Args:
        job: what is applied.
        case: the name of the case.
        computation: of its results.
        made: the results.
        placed: where they are written.
        target: where they will be.
    """
    placed.path.parent.mkdir(parents=True, exist_ok=True)
    if placed.suffix == ARRAYS:
        ranges = write_arrays(placed.path, {each.output: each for each in made})
    elif placed.suffix == SERIES:
        placed.path.mkdir(exist_ok=True)
        ranges = {made[0].output: _write_series(job, made[0], placed.path)}
    else:
        ranges = {made[0].output: write(placed.path, made[0])}
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


def _write_series(job: Application, made: Made, directory: Path) -> Range:
    values = made.computed()
    derivation = Derivation(job.file.path.name, job.file.sha256, made.form == "image")
    error = write_series(directory, values, made.stored.files, derivation)
    return replace(Range.of(values), error=error)


def _rounded(results: Sequence[Result]) -> Iterator[str]:
    """Yields what was lost where results were written in whole numbers."""
    clipped = [each for each in results if each.clipped]
    if clipped:
        low, high = min(each.low or 0 for each in clipped), max(each.high or 0 for each in clipped)
        count, files = sum(each.clipped for each in clipped), f" in {len(clipped)} files" if len(clipped) > 1 else ""
        yield f"{count} values{files} were clipped to what pixels hold: they go from {low:g} to {high:g}"
    error = max((each.error for each in results), default=0.0)
    if error:
        yield f"values are stored in whole numbers, to within {error:.3g}"


def _decided(results: Sequence[Result]) -> Iterator[str]:
    """Yields what a gated model came to."""
    decisions = [each.gate for each in results]
    if len(decisions) <= 1:
        yield _answered(decisions[0] if decisions else None)
        return
    new = sum(each is None or each.is_new for each in decisions)
    yield f"the tuned network answers for {new} of {len(decisions)} files, the vendor's for the others"


def _answered(decision: Optional[GateDecision]) -> str:
    if decision is None:
        return "the model is gated by an input, which is 1 here: the tuned network answers"
    who = "the tuned network" if decision.is_new else "the vendor's network"
    return f"{decision.new} of {decision.judged} samples are new to the detector, so {who} answers for all of them"
