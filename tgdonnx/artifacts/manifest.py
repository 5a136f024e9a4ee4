"""``manifest.json``: what an artifacts directory holds, and how it was made.

Format 2: one JSON object with the fields of `Manifest`. A reader refuses a newer format and ignores keys that it does
not know. In format 1 a tensor has ``thin_axis`` in the place of ``part``: null, or the axis along which the parameter holds
what the retrain mask lets train, which then has no other axis longer than 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

import onnx_ir as ir

from tgdonnx.artifacts.losses import TARGET
from tgdonnx.artifacts.names import array_names
from tgdonnx.errors import ArtifactsError

FORMAT = 2
TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL = "training_model.onnx", "eval_model.onnx", "optimizer_model.onnx"
CHECKPOINT, BEST_CHECKPOINT = "checkpoint", "checkpoint.best"
MASKED_MODEL, MANIFEST = "masked.onnx", "manifest.json"
LOG, LOG_TABLE, RUN = "log.jsonl", "log.csv", "run.json"
LOCK, LOCK_OWNER = ".lock", ".lock.owner"


@dataclass(frozen=True)
class AxisPart:
    """What a parameter holds along one axis of a tensor.

    Attributes:
        axis: of the vendor's tensor.
        indices: those that it holds, ascending; None in format 1, where it holds those at which the retrain mask is 1.
    """

    axis: int
    indices: Optional[tuple[int, ...]]


@dataclass(frozen=True)
class TrainedTensor:
    """One tensor that trains, or a piece of one; the pieces of a tensor have no element in common.

    Attributes:
        name: the parameter in the training model and the checkpoint.
        vendor_name: the tensor in the vendor's file.
        vendor_place: where its TensorProto lies there: steps of (field number of onnx.proto, index).
        shape: its shape in the vendor's file.
        dtype: its ONNX data type, such as ``FLOAT``.
        retrain: the filters that train whole.
        kernels: where single kernels train besides: the whole mask, as `tgdonnx.provenance.encode_mask` writes it; else None.
        part: the axes of the tensor along which the parameter holds only a part, at most one entry each; None where it
            holds the whole tensor.
    """

    name: str
    vendor_name: str
    vendor_place: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]
    dtype: str
    retrain: tuple[int, ...]
    kernels: Optional[str]
    part: Optional[tuple[AxisPart, ...]]


@dataclass(frozen=True)
class TensorSpec:
    """What an input of the training model looks like.

    Attributes:
        name: the array for it; see `tgdonnx.artifacts.names`.
        dtype: its numpy dtype.
        shape: its dimensions; None where any size goes; None altogether when the rank is open.
        classes: of a target of class indices, how many there are; None where that is not known, and of all others.
        vendor_name: the vendor's input, where that has another name than the array.
    """

    name: str
    dtype: str
    shape: Optional[tuple[Optional[int], ...]]
    classes: Optional[int] = None
    vendor_name: Optional[str] = None

    @classmethod
    def of(cls, value: ir.Value) -> TensorSpec:
        """Returns what an input of a graph looks like; one of no known type counts as float32."""
        dtype = value.dtype if value.dtype is not None else ir.DataType.FLOAT
        shape = None if value.shape is None else tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape)
        return cls(str(value.name), str(dtype.numpy()), shape)


def input_specs(inputs: Sequence[ir.Value], names: Optional[Sequence[str]] = None) -> tuple[TensorSpec, ...]:
    """Returns what the inputs of a model look like.

    Args:
        inputs: of the graph.
        names: those in the vendor's file, if the graph has others.
    """
    own = [str(value.name) for value in inputs] if names is None else list(names)
    return tuple(
        replace(TensorSpec.of(value), name=array, vendor_name=None if array == name else name)
        for value, name, array in zip(inputs, own, array_names(own))
    )


def shared_inputs(inputs: Sequence[TensorSpec]) -> frozenset[int]:
    """Returns the places of those inputs that have no axis of samples, such as a noise level: a batch has one value of them.

    These are inputs without axes, and inputs whose first axis is of another size than the batch: fixed, where another input
    leaves the batch open, or of another length than the batch that the input with the most axes fixes.

    Args:
        inputs: what a step is fed, with or without the target, which has samples like the output.
    """
    places = [place for place, spec in enumerate(inputs) if spec.name != TARGET]
    shapes = {place: inputs[place].shape for place in places}
    first = {place: shape[0] if shape else None for place, shape in shapes.items() if shape is None or shape}
    if not first:
        return frozenset(places)
    lead = max(first, key=lambda place: (len(shapes[place] or ()), first[place] != 1))
    batch = None if None in first.values() else first[lead]
    return frozenset(place for place in places if place not in first or first[place] != batch)


def fixed_batch(inputs: Sequence[TensorSpec]) -> Optional[int]:
    """Returns the batch size that inputs fix; None if any goes."""
    shared = shared_inputs(inputs)
    sampled = (spec.shape for place, spec in enumerate(inputs) if place not in shared)
    return next((shape[0] for shape in sampled if shape and shape[0] is not None), None)


@dataclass(frozen=True)
class Manifest:
    """What an artifacts directory holds.

    Attributes:
        format: version of this format.
        versions: of tgdonnx, onnx and onnxruntime, when it was built.
        options: loss, data_range, optimizer, l2, l2_sp, clip_norm, gradient, form, output; class_axis, with the loss ce.
        base_sha256: of the vendor's file.
        selection: as in the masked model.
        rho: the fraction of the elements of the retrainable tensors that train.
        inputs: what a training step is fed, in order; the last is the target.
        trained: the tensors that train.
    """

    format: int
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    base_sha256: str
    selection: Mapping[str, Any]
    rho: float
    inputs: tuple[TensorSpec, ...]
    trained: tuple[TrainedTensor, ...]

    @property
    def fixed_batch(self) -> Optional[int]:
        """The batch size that the model fixes; None if any goes."""
        return fixed_batch(self.inputs)

    @property
    def class_axis(self) -> int:
        """The axis of the output that counts classes, where the loss is ce."""
        return int(self.options.get("class_axis", 1))

    def to_json(self) -> str:
        """Returns the text of the file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of an artifacts directory and checks that its files are there.

    Raises:
        ArtifactsError: it is no artifacts directory, incomplete, or of a newer format.
    """
    path = directory / MANIFEST
    if not path.is_file():
        raise ArtifactsError(
            f"{directory} is no artifacts directory: it has no {MANIFEST}; make one with `tgdonnx build`"
        )
    try:
        content = json.loads(path.read_text("utf-8"))
        version = int(content["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactsError(f"{path} is damaged ({error}); build the artifacts again") from error
    if version > FORMAT:
        raise ArtifactsError(f"{path} has format {version}; this version reads up to {FORMAT}: update tgdonnx")
    for name in (TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL, CHECKPOINT, MASKED_MODEL):
        if not (directory / name).is_file():
            raise ArtifactsError(f"{directory} is incomplete: {name} is missing; build the artifacts again")
    try:
        known = {field.name: content[field.name] for field in fields(Manifest)}
        known["inputs"] = tuple(_input(entry) for entry in known["inputs"])
        known["trained"] = tuple(_trained(entry) for entry in known["trained"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactsError(f"{path} is damaged ({error!r}); build the artifacts again") from error
    return Manifest(**known)


def _input(entry: Mapping[str, Any]) -> TensorSpec:
    shape = entry["shape"]
    return TensorSpec(
        entry["name"],
        entry["dtype"],
        None if shape is None else tuple(shape),
        entry.get("classes"),
        entry.get("vendor_name"),
    )


def _trained(entry: Mapping[str, Any]) -> TrainedTensor:
    place = tuple((int(number), int(index)) for number, index in entry["vendor_place"])
    return TrainedTensor(
        entry["name"],
        entry["vendor_name"],
        place,
        tuple(entry["shape"]),
        entry["dtype"],
        tuple(entry["retrain"]),
        entry["kernels"],
        _part(entry),
    )


def _part(entry: Mapping[str, Any]) -> Optional[tuple[AxisPart, ...]]:
    if entry.get("thin_axis") is not None:
        return (AxisPart(int(entry["thin_axis"]), None),)
    if entry.get("part") is None:
        return None
    return tuple(AxisPart(int(along["axis"]), tuple(map(int, along["indices"]))) for along in entry["part"])
