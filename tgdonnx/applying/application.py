"""A model applied to a whole image, volume or stack of images, by tiles where it has a receptive field."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from tgdonnx.applying.assembling import Assembly
from tgdonnx.applying.classifying import SUFFIX, Classification, choice_of, views_of
from tgdonnx.applying.deciding import GateDecision, decide, decision_file
from tgdonnx.applying.imagefiles import require_header, result, suffix_of
from tgdonnx.applying.network import open_image_network
from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.reading import measured_scaling, reading_of, recorded_scaling, scaling_of, view_of
from tgdonnx.applying.tiles import Tile, cut
from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.data.layouts import SPACE, View
from tgdonnx.data.scaling import Scale, describe_linear
from tgdonnx.data.sources import open_array
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelSource, StrPath, load_model, write_bytes
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.files.typed import encode
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.gated_model.record import is_gated, record_of
from tgdonnx.gated_model.settling import settled
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.presenting import Presented
from tgdonnx.records import last_classes
from tgdonnx.runtime import CPU_NAME, Device, usable_device

# Pixels of a tile along each axis, by the number of axes: what the runtime holds of it stays below a few GB.
_TILE = {1: 65536, 2: 512, 3: 96}


@dataclass(frozen=True, repr=False)
class ApplyReport(Presented):
    """What was computed.

    Attributes:
        output: the file.
        shape: of the result.
        dtype: of the result.
        tiles: how many tiles a sample was computed from.
        overlap: of neighbouring tiles, by axis of space; empty where there was one tile.
        whole: why the model ran on whole images only; None if it need not.
        remarks: what was done to the data, and what is worth knowing.
        gate: of a gated model with a detector, what that decided; it is written beside the result as well.
    """

    output: str
    shape: tuple[int, ...]
    dtype: str
    tiles: int
    overlap: tuple[int, ...]
    whole: Optional[str]
    remarks: tuple[str, ...]
    gate: Optional[GateDecision] = None


def apply(
    model: ModelSource,
    data: Union[StrPath, ArrayLike],
    output: StrPath,
    *,
    layout: Optional[str] = None,
    scale: Optional[Scale] = None,
    artifacts: Optional[StrPath] = None,
    tile: Optional[Sequence[int]] = None,
    output_name: Optional[str] = None,
    overwrite: bool = False,
    device: str = CPU_NAME,
) -> ApplyReport:
    """Applies a model to an image, a volume or a stack of images, and writes the result in the same axes.

    Where the receptive field can be computed from the graph, the model runs on tiles that overlap by it; the result is that of
    the whole image, to rounding. Of a volume that a 2.5-D model takes as stacks of slices, the slice in the middle of every
    stack is kept. Of a gated model, one decision is made for all of the data, and written to ``OUTPUT.gate.json``; of
    pictures that are classified, one for each, in a column of its own.

    Args:
        model: an ONNX file with one input, or a model in memory; see `tgdonnx.files.in_memory`.
        data: an array of any library, or a file: ``.npy``, NIfTI, a picture, or a directory with a DICOM series.
        output: the file to write: ``.npy``, NIfTI if ``data`` is, or, of a classifier, ``.csv`` with a row per picture; then
            ``data`` may be a directory of pictures, also in directories of classes. See `tgdonnx.applying.classifying`.
        layout: of the data; see `tgdonnx.data.layouts`.
        scale: how intensities are scaled before the model, by these data; undone afterwards.
        artifacts: the directory of a run: data is scaled, and pictures are made ready, as its record says.
        tile: size of tiles per axis of space.
        output_name: the output to take, when the model has several.
        overwrite: whether ``output`` may exist.
        device: where the model runs; see `tgdonnx.TrainOptions`.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: the data does not fit the model, or a tile is too small.
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: no onnxruntime, or not the library for a format, is installed; or it cannot use the device.
    """
    where = usable_device(device)
    if Path(output).suffix.lower() == SUFFIX:
        classification = _classification(
            model, data, Path(output), layout, scale, artifacts, output_name, where, overwrite=overwrite
        )
        table = classification.table()
        write_bytes(Path(output), table.text.encode())
        said = _remarks_of(classification)
        if is_gated(classification.network.network.file.proto):
            said = (*said, table.decided or _said(None))
        return ApplyReport(str(output), (table.count,), "csv", 1, (), None, said)
    job = _prepare(model, data, Path(output), layout, scale, artifacts, tile, output_name, where, overwrite=overwrite)
    assembly, shape, dtype = job.assembly, *job.assembly.outline()
    with result(Path(output), assembly.view.stored, shape, dtype) as array:
        assembly.fill(array)
    if job.decision is not None:
        write_bytes(decision_file(Path(output)), encode(job.decision, indent=1))
    overlap = tuple(max((a.stop - b.start for a, b in zip(tiles, tiles[1:])), default=0) for tiles in assembly.plan)
    remarks = (*_remarks(assembly, job.whole, asked=tile is not None), *job.gated)
    overlap = overlap if assembly.tiles > 1 else ()
    return ApplyReport(str(output), shape, str(dtype), assembly.tiles, overlap, job.whole, remarks, job.decision)


def require_applicable(
    model: ModelSource,
    data: Union[StrPath, ArrayLike],
    output: StrPath,
    *,
    layout: Optional[str] = None,
    scaled: bool = False,
    output_name: Optional[str] = None,
    overwrite: bool = False,
    device: str = CPU_NAME,
) -> None:
    """Checks that `apply` would work, for a model of which only the weights will change; runs it on one tile.

    Args:
        model: as of `apply`.
        data: as of `apply`.
        output: as of `apply`.
        layout: as of `apply`.
        scaled: whether intensities will be scaled.
        output_name: as of `apply`.
        overwrite: as of `apply`.
        device: as of `apply`.

    Raises:
        TgdonnxError: as `apply` does.
    """
    scale, where = 1.0 if scaled else None, usable_device(device)
    if Path(output).suffix.lower() == SUFFIX:  # how pictures are made ready, the run will say
        file = load_model(model)
        require_outputs([Output(Path(output))], [file, data], overwrite=overwrite)
        open_image_network(file, output_name, where)
        return
    job = _prepare(model, data, Path(output), layout, scale, None, None, output_name, where, overwrite=overwrite)
    job.assembly.outline()


@dataclass(frozen=True)
class _Job:
    """What is to be computed, why on whole images, if it is, and of a gated model what was decided and what is to be said."""

    assembly: Assembly
    whole: Optional[str]
    decision: Optional[GateDecision] = None
    gated: tuple[str, ...] = ()


def _prepare(
    model: ModelSource,
    data: Union[StrPath, ArrayLike],
    output: Path,
    layout: Optional[str],
    scale: Optional[Scale],
    artifacts: Optional[StrPath],
    tile: Optional[Sequence[int]],
    output_name: Optional[str],
    device: Device,
    *,
    overwrite: bool,
) -> _Job:
    file = load_model(model)
    record = record_of(file) if is_gated(file.proto) else None
    outputs = [Output(output)]
    if record is not None and record.detector is not None:
        outputs.append(Output(decision_file(output)))
    require_outputs(outputs, [file, data, artifacts], overwrite=overwrite)
    suffix_of(output)
    network = open_image_network(file if record is None else settled(file, 1.0), output_name, device)
    stored = open_array(data)
    require_header(output, stored)
    reading = reading_of(layout, scale, artifacts)
    view = view_of(network.input, stored, reading)
    scaling = scaling_of(network.input, view, scale, artifacts, network.output)
    field = network.receptive_field(view.layout)
    plan = _plan(network.input, view, field, tile)
    whole = field if isinstance(field, str) else None
    if record is None:
        return _Job(Assembly(network, view, scaling, plan), whole)
    decision = decide(file, record, network.input, view, scaling, plan, device)
    if decision is not None and not decision.is_new:
        # Both networks have the same layers, so the same receptive field, and tiles.
        network = open_image_network(settled(file, 0.0), output_name, device)
    return _Job(Assembly(network, view, scaling, plan), whole, decision, (_said(decision),))


def _said(decision: Optional[GateDecision]) -> str:
    if decision is None:
        return "the model is gated by an input, which is 1 here: the tuned network answers"
    who = "the tuned network" if decision.is_new else "the vendor's network"
    return f"{decision.new} of {decision.judged} samples are new to the detector, so {who} answers for all of them"


def _classification(
    model: ModelSource,
    data: Union[StrPath, ArrayLike],
    output: Path,
    layout: Optional[str],
    scale: Optional[Scale],
    artifacts: Optional[StrPath],
    output_name: Optional[str],
    device: Device,
    *,
    overwrite: bool,
) -> Classification:
    file = load_model(model)
    require_outputs([Output(output)], [file, data, artifacts], overwrite=overwrite)
    record = record_of(file) if is_gated(file.proto) else None
    network = open_image_network(file if record is None else settled(file, 1.0), output_name, device)
    choice = None if record is None else choice_of(file, record, network, output_name, device)
    views = views_of(data, network, reading_of(layout, scale, artifacts))
    scaling = None
    if artifacts is not None:
        scaling = recorded_scaling(Path(artifacts), network.input.name, network.output)
    elif scale is not None:
        scaling = measured_scaling(network.input, [view for _, view in views], scale)
    classes = last_classes(network.network.file.proto)
    if artifacts is not None and (run := read_record(Path(artifacts))) is not None:
        classes = run.data.options.classes or classes
    return Classification(network, views, scaling.arrays[network.input.name] if scaling else None, classes, choice)


def _plan(
    spec: TensorSpec, view: View, field: Union[ReceptiveField, str], tile: Optional[Sequence[int]]
) -> tuple[tuple[Tile, ...], ...]:
    space = [(axis, size) for axis, (x, size) in enumerate(zip(view.axes, view.shape), 1) if x in SPACE]
    if tile is not None and (len(tile) != len(space) or min(tile) < 1):
        raise DataError(f"expected a tile of {len(space)} sizes, each 1 or more, got {'x'.join(map(str, tile))}")
    if isinstance(field, str):
        return tuple((Tile(0, size, 0, None, 0),) for _, size in space)
    plan = []
    for position, (axis, size) in enumerate(space):
        reach, step = field.reaches[axis], field.steps[axis]
        if field.axes[axis] != axis:
            raise DataError(f"the output has its axes in another order than {view.layout}; expected the same")
        fixed = spec.shape[axis] if spec.shape is not None else None
        # By default so long that most of a tile is no overlap.
        length = tile[position] if tile is not None else max(_TILE[len(space)], 4 * math.ceil(reach.high - reach.low))
        plan.append(cut(size, fixed or length, reach, step, fixed=fixed is not None))
    return tuple(plan)


def _remarks_of(classification: Classification) -> tuple[str, ...]:
    _, first = classification.views[0]
    said = [*first.stored.remarks]
    if classification.linear is not None:
        said.append(describe_linear(classification.linear, str(first.stored.dtype)))
    if not classification.classes:
        said.append("classes go by their numbers; nothing names them")
    return tuple(said)


def _remarks(assembly: Assembly, whole: Optional[str], *, asked: bool) -> Iterator[str]:
    view, network = assembly.view, assembly.network
    yield from view.stored.remarks
    if view.source != view.layout:
        yield f"stored {view.source}, taken to {view.layout}"
    if view.stack > 1:
        yield (
            f"{view.stack} neighbouring slices are the channels of a sample; at the ends of the volume the last slice is "
            "repeated; of the result, the slice in the middle is kept"
        )
    if assembly.scaling is not None:
        linear = assembly.scaling.arrays[network.input.name]
        yield f"{describe_linear(linear, str(view.stored.dtype))}; undone in the result"
    if network.precision is not None:
        yield f"the model computes in {network.precision}; the result is written in float32"
    if whole is not None:
        yield f"the model ran on whole images{', not on tiles' if asked else ''}: {whole}"
