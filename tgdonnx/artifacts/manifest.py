"""``manifest.json``: what an artifacts directory holds, and how it was made.

Format 3: one JSON object with the fields of `Manifest`. A reader refuses a newer format and ignores keys that it does not
know. In formats 1 and 2 there is one output that trains, and no ``heads``: ``options`` has its loss and, where that is of class
indices, ``class_axis``; inputs have no ``role``, and the last is the target. In format 1 a tensor has ``thin_axis`` in place of
``part``: null, or the axis along which the parameter holds what the retrain mask lets train, which then has no other axis
longer than 1.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypedDict

import msgspec
import numpy as np
import onnx_ir as ir

from tgdonnx.artifacts.losses import Loss, parse_loss
from tgdonnx.artifacts.names import array_names
from tgdonnx.artifacts.options import BuiltOptions
from tgdonnx.engines import ENGINES, Engine, EngineName
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.typed import AtLeast0, Count, Fraction, Positive, Sha256, decode, encode, read_bytes
from tgdonnx.graphs.tensor_specs import TensorSpec, fixed_batch

FORMAT = 3
MASKED_MODEL, MANIFEST = "masked.onnx", "manifest.json"
LOG, LOG_TABLE, RUN, FEDERATED = "log.jsonl", "log.csv", "run.json", "federated.json"
LOCK, LOCK_OWNER = ".lock", ".lock.owner"


@dataclass(frozen=True)
class Head:
    """An output that trains.

    Attributes:
        output: its name in the vendor's file.
        target: the array that it is compared with.
        loss: what is minimised of it; see `tgdonnx.artifacts.losses.formula`.
        class_axis: the axis of it that counts classes; None where the loss is none of class indices.
        why_class_axis: what says so; empty where nothing does, and it is 1.
    """

    output: str
    target: str
    loss: str
    class_axis: Optional[Count] = None
    why_class_axis: str = ""

    def __post_init__(self) -> None:
        if (parse_loss(self.loss).targets == "classes") != (self.class_axis is not None):
            raise ArtifactsError(
                f"the loss {self.loss} of the output {self.output!r} does not go with the class_axis {self.class_axis}"
            )

    @property
    def formula(self) -> Loss:
        """The loss, read."""
        return parse_loss(self.loss)

    def target_shape(self, output: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of the target for an output of this shape."""
        return self.formula.target_shape(output, 1 if self.class_axis is None else self.class_axis)


@dataclass(frozen=True)
class AxisPart:
    """What a parameter holds along one axis of a tensor.

    Attributes:
        axis: of the vendor's tensor.
        indices: those that it holds, ascending; None in format 1, where it holds those at which the retrain mask is 1.
    """

    axis: Count
    indices: Optional[tuple[Count, ...]]


@dataclass(frozen=True)
class StoredBytes:
    """Where the elements of a tensor lie, in one piece, row-major and little-endian.

    Attributes:
        location: the file with external data, as the vendor's file names it; None for the vendor's file itself.
        offset: of the first byte.
        length: in bytes.
    """

    location: Optional[str]
    offset: Count
    length: Count


@dataclass(frozen=True)
class WriteBack:
    """How a parameter gets into the vendor's files; the guide on formats has the recipe.

    Attributes:
        how: ``copied``: its numbers, float32, are the bytes. ``rounded``: they are rounded to ``dtype``, to the nearest, ties
            to even. ``export``: that is more than overwriting bytes, and `tgdonnx.export` does it.
        stored: where the elements of the whole tensor lie; None where they lie in several pieces, or in none.
        why: of ``export``, the reason.
    """

    how: Literal["copied", "rounded", "export"]
    stored: Optional[StoredBytes]
    why: str = ""


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
        write_back: how it gets into the vendor's files.
    """

    name: str
    vendor_name: str
    vendor_place: tuple[tuple[Count, Count], ...]
    shape: tuple[Count, ...]
    dtype: str
    retrain: tuple[Count, ...]
    kernels: Optional[str]
    part: Optional[tuple[AxisPart, ...]]
    write_back: WriteBack = WriteBack("export", None, "built by an earlier version")


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


class _KnownSelection(TypedDict, total=False):
    """The keys of a selection that we read again; it may have more."""

    strategy: str
    mode: str
    phi: Optional[AtLeast0]  # just above 1, where a percentile takes all maps
    alpha: AtLeast0
    k: Positive


@dataclass(frozen=True)
class Manifest:
    """What an artifacts directory holds.

    Attributes:
        format: version of this format.
        versions: of tgdonnx, onnx and onnxruntime, when it was built.
        options: how it was built.
        base_sha256: of the vendor's file.
        selection: as in the masked model.
        rho: the fraction of the weights that train, as `tgdonnx.mask` counts them.
        inputs: what a training step is fed, in order: inputs of the model, targets, weights.
        heads: the outputs that train, in the order of the loss.
        trained: the tensors that train.
        engine: what trains them.
    """

    format: Positive
    versions: Mapping[str, str]
    options: BuiltOptions
    base_sha256: Sha256
    selection: Mapping[str, Any]
    rho: Fraction
    inputs: Annotated[tuple[TensorSpec, ...], msgspec.Meta(min_length=2)]
    trained: Annotated[tuple[TrainedTensor, ...], msgspec.Meta(min_length=1)]
    heads: Annotated[tuple[Head, ...], msgspec.Meta(min_length=1)]
    engine: EngineName = "onnxruntime-training"

    @property
    def runtime(self) -> Engine:
        """The engine."""
        return ENGINES[self.engine]

    @property
    def fixed_batch(self) -> Optional[int]:
        """The batch size that the model fixes; None if any goes."""
        return fixed_batch(self.inputs)

    def place_of(self, head: Head) -> int:
        """Returns the place of a head's target among the inputs of a step."""
        return next(
            place for place, spec in enumerate(self.inputs) if (spec.role, spec.name) == ("target", head.target)
        )

    def to_json(self) -> str:
        """Returns the text of the file."""
        return encode(self, indent=1).decode()


def read_manifest(directory: Path) -> Manifest:
    """Reads the manifest of an artifacts directory and checks that its files are there.

    Raises:
        ArtifactsError: it is no artifacts directory, incomplete, damaged, or of a newer format.
    """
    path = directory / MANIFEST
    if directory.is_file() and zipfile.is_zipfile(directory):
        raise ArtifactsError(
            f"{directory} is a zip; expected an artifacts directory", remedy="unpack it into one, and name that"
        )
    if not path.is_file():
        raise ArtifactsError(
            f"{directory} is no artifacts directory: it has no {MANIFEST}", remedy="make one with `tgdonnx.build`"
        )
    data = read_bytes(path, remedy=_REMEDY)
    manifest = decode(data, Manifest, str(path), remedy=_REMEDY, newest=FORMAT, upgrade=_from_older, check=_check)
    for name in (*manifest.runtime.models, manifest.runtime.checkpoint, MASKED_MODEL):
        if not (directory / name).is_file():
            raise ArtifactsError(f"{directory} is incomplete: {name} is missing", remedy="build the artifacts again")
    return manifest


_REMEDY = "build the artifacts again"


def _from_older(version: int, content: dict[str, Any]) -> dict[str, Any]:
    for tensor in content["trained"] if version == 1 else ():
        axis = tensor.pop("thin_axis", None)
        tensor["part"] = None if axis is None else [{"axis": axis, "indices": None}]
    options, target = content["options"], content["inputs"][-1]
    target["role"] = "target"
    axis = options.get("class_axis", 1 if target["dtype"] == "int64" else None)
    head = {"output": options["output"], "target": target["name"], "loss": options["loss"], "class_axis": axis}
    return {**content, "heads": [head]}


def _check(manifest: Manifest) -> None:
    """Checks what types do not say."""
    for spec in manifest.inputs:
        try:
            np.dtype(spec.dtype)
        except TypeError as error:
            raise ValueError(
                f"the input {spec.name!r} has the dtype {spec.dtype!r}, which numpy does not know"
            ) from error
    msgspec.convert(manifest.selection, _KnownSelection)
    roles = [spec.role for spec in manifest.inputs]
    if roles != sorted(roles, key=("input", "target", "weights").index):
        raise ValueError("its inputs are not in the order inputs of the model, targets, weights")
    targets = [spec.name for spec in manifest.inputs if spec.role == "target"]
    if targets != [head.target for head in manifest.heads]:
        raise ValueError("its heads have other targets than its inputs")
    names = [tensor.name for tensor in manifest.trained]
    if len(set(names)) < len(names):
        raise ValueError("two trained tensors have one name")
    for tensor in manifest.trained:
        if tensor.dtype not in ir.DataType.__members__:
            raise ValueError(f"the tensor {tensor.name!r} has the type {tensor.dtype!r}, which ONNX does not know")
        if tensor.write_back.how != "export" and tensor.write_back.stored is None:
            raise ValueError(f"where the bytes of {tensor.name!r} lie is not said")
        for along in tensor.part or ():
            if along.axis >= len(tensor.shape):
                raise ValueError(f"the tensor {tensor.name!r} has {len(tensor.shape)} axes, and no axis {along.axis}")
            if along.indices is not None and any(index >= tensor.shape[along.axis] for index in along.indices):
                raise ValueError(
                    f"axis {along.axis} of the tensor {tensor.name!r} has {tensor.shape[along.axis]} places"
                )
