"""How what a model is applied to is scaled and made ready: as it is said, as a run recorded it, or as the tuned model does.

What is said comes first; then the run that is named; then the record of training in the model. Of the record it is told which
output was compared with what, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from tgdonnx.applying.naming import ClassNames, class_names
from tgdonnx.artifacts.losses import Targets, parse_criterion
from tgdonnx.artifacts.manifest import RUN
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Linear
from tgdonnx.errors import DataError, ModelFileError, TgdonnxError
from tgdonnx.files.model_file import ModelFile, StrPath
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec
from tgdonnx.records import PreparationPart, Training, earlier_rounds, last_training, record_key

_RECORD = "the record of training in the model"


@dataclass(frozen=True)
class Preparation:
    """How data is prepared.

    Attributes:
        reading: how it is read, and scaled where that is not recorded.
        scaling: as it was recorded, by input and target; None where ``reading`` says it, or nothing is scaled.
        classes: what classes are called.
        targets: what outputs were compared with in training, by output, as far as it is known.
        remark: where it comes from; empty where it was said.
        unused: what the record in the model says, where something else is said; empty where nothing is left out.
    """

    reading: DataOptions
    scaling: Optional[Mapping[str, Linear]]
    classes: ClassNames
    targets: Mapping[str, Targets]
    remark: str = ""
    unused: str = ""

    def target_of(self, output: str) -> Optional[Linear]:
        """Returns the recorded scaling of what an output was compared with; None if there is none."""
        scaling = self.scaling or {}
        return scaling.get(output, scaling.get(TARGET))


def is_prepared(reading: DataOptions) -> bool:
    """Whether options say how data is scaled or made ready."""
    scaled = reading.scale is not None or reading.scales or reading.mean
    return bool(scaled) or reading.pictures.changes


def preparation_of(
    file: ModelFile, inputs: tuple[TensorSpec, ...], reading: DataOptions, artifacts: Optional[StrPath]
) -> Preparation:
    """Returns how data is prepared.

    Args:
        file: the model.
        inputs: what it takes.
        reading: what is said.
        artifacts: the directory of the run that is named; None for none.

    Raises:
        ArtifactsError: the record of the run is damaged.
        ModelFileError: the record of training in the model is.
        DataError: both say how; the directory holds no run; or the record says it of other inputs.
    """
    if reading.patch is not None or reading.augment or reading.validation_split is not None or reading.crop_target:
        raise DataError("a model is applied to all of the data, not to patches of it", remedy="say `tile` to cut it")
    training = _training_of(file)
    named = (_RECORD, () if training is None else training.classes)
    if artifacts is not None:
        return _of_run(Path(artifacts), inputs, reading, named)
    classes = class_names(reading.classes, [named])
    targets = {} if training is None else _targets(training.loss, training.output)
    part = training.preparation if training is not None else None
    if part is None:
        return Preparation(reading, None, classes, targets)
    if is_prepared(reading):
        unused = f"{_RECORD} has {_told(part)}; what is said here replaces all of it"
        return Preparation(reading, None, classes, targets, unused=unused)
    scaling = {name: _linear(each) for name, each in part.scaling.items()}
    return Preparation(
        _read_as(reading, _pictures_of(part), scaling, inputs, _RECORD),
        scaling,
        classes,
        targets,
        "prepared as for training, as the model records it; `scale=1` takes the numbers as they are",
    )


def _training_of(file: ModelFile) -> Optional[Training]:
    try:
        return last_training(file.proto)
    except ValueError as error:
        key = record_key(earlier_rounds(file.proto))
        raise ModelFileError(
            f"{key!r} in {file.path} is no record that tgdonnx wrote: {error}",
            remedy="take the file as it was exported",
        ) from error


def _of_run(
    directory: Path, inputs: tuple[TensorSpec, ...], reading: DataOptions, named: tuple[str, tuple[str, ...]]
) -> Preparation:
    if is_prepared(reading):
        raise DataError(
            "got both how to prepare data (a scale, say) and a run whose preparation is recorded; expected one of them"
        )
    record, path = read_record(directory), directory / RUN
    if record is None:
        raise DataError(
            f"{directory} has no {RUN}, so how the data of the run was scaled is not known",
            remedy="say it with `scale`",
        )
    told, options = record.data.options, record.artifacts.options
    pictures = {name: getattr(told, name) for name in ("resize", "resample", "crop", "colour")}
    return Preparation(
        _read_as(reading, pictures, record.data.scaling, inputs, str(path)),
        record.data.scaling,
        class_names(reading.classes, [(str(path), told.classes), named]),
        _targets(options.loss, options.output),
    )


def _read_as(
    reading: DataOptions,
    pictures: Mapping[str, Any],
    scaling: Mapping[str, Linear],
    inputs: tuple[TensorSpec, ...],
    where: str,
) -> DataOptions:
    """Returns options with what is recorded. Of what is scaled any type is taken, by numbers that are not used."""
    names = [spec.name for spec in inputs]
    scaled = {name: 1.0 for name in scaling if name in names}
    if scaling and not scaled:
        raise DataError(f"{where} says how {', '.join(scaling)} was scaled; expected {' or '.join(names)}")
    return replace(reading, scales=scaled, **pictures)


def _pictures_of(part: PreparationPart) -> dict[str, Any]:
    sizes = {"resize": tuple(part.resize) or None, "crop": tuple(part.crop) or None}
    return {**sizes, "resample": part.resample, "colour": part.colour}


def _told(part: PreparationPart) -> str:
    """Returns how data was prepared, in words of options."""
    hows = {each.how if isinstance(each.how, str) else f"{each.how:g}" for each in part.scaling.values()}
    sizes = {"resize": part.resize, "crop": part.crop}
    said = [f"scale {' and '.join(sorted(hows))}"] if hows else []
    said += ["a mean and std per channel"] if any(each.mean for each in part.scaling.values()) else []
    said += [f"{name} {'x'.join(map(str, size))}" for name, size in sizes.items() if size]
    return ", ".join([*said, *([f"colour {part.colour}"] if part.colour else [])])


def _linear(part: Any) -> Linear:
    numbers = (part.offset, part.divisor, *part.mean, *part.std)
    if not all(map(math.isfinite, numbers)) or min(part.std, default=1.0) <= 0 or len(part.mean) != len(part.std):
        raise DataError(f"{_RECORD} has a scaling that is none", remedy="say it with `scale`")
    return Linear(part.offset, part.divisor, part.how, part.every, tuple(part.mean), tuple(part.std))


def _targets(loss: Optional[str], output: Optional[str]) -> dict[str, Targets]:
    """Returns what outputs were compared with, by a loss in text; nothing where it cannot be read."""
    if loss is None:
        return {}
    try:
        parts = parse_criterion(loss).parts
    except TgdonnxError:
        return {}
    names = {part.output or output: part.loss.targets for part in parts}
    return {name: targets for name, targets in names.items() if name is not None}
