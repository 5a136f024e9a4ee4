"""A model applied, and its results written or handed over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from tgdonnx.applying.application import prepare
from tgdonnx.applying.classifying import classification_of
from tgdonnx.applying.collecting import Applied, is_pattern, root_of
from tgdonnx.applying.imagefiles import ARRAYS, suffix_of
from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.placing import Place, place_of
from tgdonnx.applying.reports import ApplyProgress, ApplyReport
from tgdonnx.applying.unused import require_used
from tgdonnx.applying.writing import results_of, targets_of, write_table
from tgdonnx.data.options import DataOptions
from tgdonnx.errors import DataError, OutputError
from tgdonnx.files.model_file import ModelFile, ModelSource, StrPath, load_model
from tgdonnx.files.outputs import Kind, Output, require_outputs
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
        return write_table(job, path, show)
    if job.cases.several and place != "directory":
        raise DataError(
            f"{len(job.cases.all)} files have a result each, and {'memory takes' if path is None else f'{path} is for'} one",
            remedy="name a directory for them",
        )
    return results_of(job, path, show, overwrite=overwrite)


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
    targets_of(job, path, job.case(job.cases.all[0]).made, overwrite=overwrite)


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
