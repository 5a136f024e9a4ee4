"""How what a model is applied to is read, made ready and scaled: as it is said, or as a run recorded it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts.manifest import RUN
from tgdonnx.data.layouts import SPACE, View, model_layout
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.data.matching import match
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Scale, Scaling, check_scale, measure, require_channels
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import StrPath
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec


def reading_of(layout: Optional[str], scale: Optional[Scale], artifacts: Optional[StrPath]) -> DataOptions:
    """Returns how data is read: pictures are made ready as in the run, if there is one."""
    if scale is not None and artifacts is not None:
        raise DataError("got both a scale and a run whose scaling is recorded; expected one of them")
    scaled = 1.0 if scale is not None or artifacts is not None else None
    record = read_record(Path(artifacts)) if artifacts is not None else None
    if record is None:
        return DataOptions(layout=layout, scale=scaled)
    told = record.data.options
    return DataOptions(
        layout=layout,
        scale=scaled if record.data.scaling else None,
        resize=told.resize,
        resample=told.resample,
        crop=told.crop,
        colour=told.colour,
    )


def view_of(spec: TensorSpec, stored: LazyArray, reading: DataOptions) -> View:
    """Returns the data as samples of the model's input, which may be larger than the model takes."""
    axes = (reading.layout or "").partition(":")[2] or model_layout(spec, reading.layout)
    if spec.shape is not None and axes is not None and len(axes) == len(spec.shape):
        spec = replace(spec, shape=tuple(None if x in SPACE else size for x, size in zip(axes, spec.shape)))
    if spec.shape is not None:  # any number of samples: they are grouped as the model takes them
        spec = replace(spec, shape=(None, *spec.shape[1:]))
    source = Source(stored.place, (ArrayGroup(stored.place, {spec.name: stored}),))
    (member,) = match(source, [spec], reading)
    return member.views[0]


def scaling_of(
    spec: TensorSpec, view: View, scale: Optional[Scale], artifacts: Optional[StrPath], output: str
) -> Optional[Scaling]:
    """Returns the scaling of an image: of the run, or as it is said; None if neither is given."""
    if artifacts is not None:
        return recorded_scaling(Path(artifacts), spec.name, output)
    return None if scale is None else measured_scaling(spec, [view], scale)


def measured_scaling(spec: TensorSpec, views: Sequence[View], scale: Scale) -> Scaling:
    """Returns the scaling of data by itself."""
    check_scale(scale)
    linear = measure(scale, spec.name, [view.stored for view in views])
    for view in views:
        require_channels(linear, dict(zip(view.axes, view.shape)).get("C"), f"{view.stored.place}: {spec.name!r}")
    return Scaling({spec.name: linear, TARGET: replace(linear, mean=(), std=())})


def recorded_scaling(directory: Path, name: str, output: str) -> Optional[Scaling]:
    """Returns the scaling of the data that a run trained on; None if it was not scaled.

    Args:
        directory: the artifacts directory.
        name: of the input.
        output: of the output, after which its target is named where several trained. One whose targets were not scaled, as
            class indices are not, stays as it is.

    Raises:
        ArtifactsError: the record of the run is damaged.
        DataError: the directory holds no run that says so.
    """
    record, path = read_record(directory), directory / RUN
    if record is None:
        raise DataError(
            f"{directory} has no {RUN}, so how the data of the run was scaled is not known",
            remedy="say it with `scale`",
        )
    found = record.data.scaling
    if found and name not in found:
        raise DataError(f"{path} says how {', '.join(found)} was scaled; expected {name}")
    scaled = {array: linear for array, linear in found.items() if array in (name, TARGET)}
    if output in found and TARGET not in found:
        scaled[TARGET] = found[output]
    return Scaling(scaled) if found else None
