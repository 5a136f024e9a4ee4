"""What a model wants, what data holds, and what stands between them, before anything is written that lasts.

The data is opened as a run opens it (`tgdonnx.finetuning.fitting`), against artifacts in a temporary place that train all
layers: a selection changes nothing of what is fed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, Union

from tgdonnx.artifacts import BuildOptions, build_masked
from tgdonnx.calls import call
from tgdonnx.data import DataSource, open_for
from tgdonnx.data.layouts import model_layout
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelSource, load_model
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions
from tgdonnx.finetuning.fitting import fit, with_options
from tgdonnx.finetuning.opening import fitting_batch
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import training_device
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.masking import MaskOptions, mask_network
from tgdonnx.pipeline.holding_out import HeldOut, held_out
from tgdonnx.presenting import Presented
from tgdonnx.selection import AllLayers

_ROLES = {"target": "what an output is compared with", "weights": "how much its elements count"}


@dataclass(frozen=True)
class WantedArray:
    """An array that a training step is fed.

    Attributes:
        name: of the array.
        dtype: its numpy dtype.
        shape: of a batch; None where any size goes, None altogether where any rank does.
        layout: what the axes are taken for; None for no image.
        reason: why it is taken for that.
    """

    name: str
    dtype: str
    shape: Optional[tuple[Optional[int], ...]]
    layout: Optional[str]
    reason: str


@dataclass(frozen=True)
class FoundArray:
    """What lies in a source under one name.

    Attributes:
        name: of the array.
        dtypes: its numpy dtypes in all cases.
        shapes: its shapes in all cases.
        cases: how many cases have it.
        place: where the first lies.
    """

    name: str
    dtypes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    cases: int
    place: str


@dataclass(frozen=True)
class FoundProblem:
    """What is wrong with the data, and what would help; empty where the problem says it."""

    problem: str
    remedy: str


@dataclass(frozen=True, repr=False)
class DataReport(Presented):
    """What was seen of data for a model.

    Attributes:
        wanted: what a training step is fed, in order; the last is what the output is compared with.
        found: what the data holds; empty where it cannot be opened. Pictures in folders of classes, and rows of a table, are
            called as they are fed.
        samples: how many samples an epoch has; None if the data does not fit.
        problems: all that is wrong; none if the data fits as it is.
        options: with which it would fit, or of which it is known that they are needed, by the names that Python gives them.
        fits: whether it does, with these.
        remarks: what is done to the data then, and what is worth knowing about it.
        held_out: what ``call`` validates on, where nothing was said: ``validation``, data that lies beside and fits, or
            ``validation_split``; empty where that was said, or where nothing can be held out, as of one file.
        passed_over: what lies beside and does not fit, in sentences.
        call: the run that it fits; empty if it does not fit.
        fed: the least and the largest number of every float array that the model and the loss are fed in the first batch.
    """

    wanted: tuple[WantedArray, ...]
    found: tuple[FoundArray, ...]
    samples: Optional[int]
    problems: tuple[FoundProblem, ...]
    options: Mapping[str, Any]
    fits: bool
    remarks: tuple[str, ...]
    held_out: Mapping[str, Any]
    passed_over: tuple[str, ...]
    call: str
    fed: Mapping[str, tuple[float, float]]


def examine(
    model: ModelSource,
    data: Union[RunData, DataSource],
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
) -> DataReport:
    """Tells whether data fits a model, all that is wrong with it at once, and the call that would train on it.

    Args:
        model: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        data: to train on, and to look at besides; a source alone is what to train on.
        training: how to train; the batch counts here.
        building: what training minimises, which says what a target is, and of which output.

    Raises:
        DataError: the data is two noisy images.
        RuntimeMissingError: the runtime of the engine is not installed, or cannot use the device.
        TgdonnxError: the model cannot be trained; see `tgdonnx.check`.
    """
    run_data = RunData.of(data)
    if isinstance(run_data.data, Noise2Noise):
        raise DataError("two noisy images are no arrays for a model", remedy="name one of them")
    network = open_network(load_model(model))
    building = building.in_cheapest_form()
    with scratch_directory() as work:
        masked = work / "masked.onnx"
        mask_network(network, masked, AllLayers(), MaskOptions())
        report, artifacts = build_masked(read_masked(masked), work / "artifacts", building)
        device = training_device(artifacts.manifest.runtime, training.device)
        session = Session(artifacts.directory, artifacts=artifacts, device=device)
        found = fit(session, run_data, training)
        samples = None if found.training is None else len(found.training)
        options = fitting_batch(session.manifest, with_options(run_data, training, found.options)[1])
        fed = {} if found.training is None else _fed(report.inputs, next(found.training.batches(options.batch)))
        remarks = tuple(found.remarks)
        spare = held_out(session, *with_options(run_data, training, found.options)) if found.fits else HeldOut({})
    return DataReport(
        tuple(_wanted(spec, run_data) for spec in report.inputs),
        found_arrays(run_data, report.inputs),
        samples,
        tuple(FoundProblem(each.problem, str(each)[len(each.problem) :].lstrip("; ")) for each in found.problems),
        found.options,
        found.fits,
        remarks,
        spare.options,
        spare.passed_over,
        _call(model, run_data, training, building, {**found.options, **spare.options}) if found.fits else "",
        fed,
    )


def _fed(inputs: Sequence[TensorSpec], batch: Sequence[Array]) -> dict[str, tuple[float, float]]:
    """Returns from where to where numbers go: that a scale was forgotten, nobody but a reader can see."""
    return {
        spec.name: (float(values.min()), float(values.max()))
        for spec, values in zip(inputs, batch)
        if values.dtype.kind == "f" and values.size
    }


def _wanted(spec: TensorSpec, data: RunData) -> WantedArray:
    said = data.reading.layouts.get(spec.name, data.reading.layout)
    layout = model_layout(spec, said)
    if layout is None:
        reason = "no axes of space"
    elif said is not None and ":" in said:
        layout, reason = said.partition(":")[2], "you say so"
    elif spec.shape is None:
        reason = "you say so; the model leaves the number of axes open"
    else:
        channels = "no axis of channels, since classes are counted" if "C" not in layout else "channels before space"
        reason = f"{len(spec.shape)} axes, {channels}, as ONNX has it"
    if spec.role != "input":
        reason += f"; {_ROLES[spec.role]}"
    return WantedArray(spec.name, spec.dtype, spec.shape, layout, reason)


def found_arrays(data: RunData, inputs: Sequence[TensorSpec]) -> tuple[FoundArray, ...]:
    """Returns what lies in the training data, by name.

    Args:
        data: what is read, which is no two noisy images.
        inputs: what a training step is fed.
    """
    assert not isinstance(data.data, Noise2Noise)
    try:
        groups = open_for(data.data, inputs, data.reading).groups
    except DataError:  # the problems say it
        return ()
    names = dict.fromkeys(name for group in groups for name in group.arrays)
    stored = {name: [group.arrays[name] for group in groups if name in group.arrays] for name in names}
    return tuple(
        FoundArray(
            name,
            tuple(dict.fromkeys(str(array.dtype) for array in arrays)),
            tuple(dict.fromkeys(array.shape for array in arrays)),
            len(arrays),
            arrays[0].place,
        )
        for name, arrays in stored.items()
    )


def _call(
    model: ModelSource, data: RunData, training: TrainOptions, building: BuildOptions, found: Mapping[str, Any]
) -> str:
    reading = {**_said(data.reading, type(data.reading)()), **found}
    sources = {name: getattr(data, name) for name in ("data", "validation", "retain", "agree")}
    options: dict[str, object] = {
        **{name: _named(source, "DATA") for name, source in sources.items() if source is not None},
        **_said(training, TrainOptions()),
        **reading,
        **_said(replace(building, form=None), BuildOptions()),
    }
    return call("finetune", _named(model, "MODEL"), options={**options, "output": "tuned.onnx"})


def _said(options: object, default: object) -> dict[str, object]:
    """Returns those fields that are not the default."""
    return {name: value for name, value in vars(options).items() if value != getattr(default, name)}


def _named(given: object, otherwise: str) -> object:
    return given if isinstance(given, (str, os.PathLike)) else otherwise


def shape_in_words(shape: Optional[Sequence[Optional[int]]]) -> str:
    """Returns a shape as people read it, such as ``[any, 1, 64, 64]``."""
    return "of any shape" if shape is None else f"[{', '.join('any' if d is None else str(d) for d in shape)}]"
