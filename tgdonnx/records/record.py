"""Records of the rounds of a model: what they hold, how they are read, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network
from tgdonnx.records.encoding import Masks, SetElements, SetPart, decode_mask, decode_set
from tgdonnx.selection.recorded import read_selection, read_strict
from tgdonnx.selection.strategy import RecordedSelection

_PREFIX = "tgdonnx.provenance."
_NUMBERED = re.compile(re.escape(_PREFIX) + "([1-9][0-9]{0,8})")
WHOLE, BLENDED, NAMED, PREPARED, FEDERATED = 1, 2, 3, 4, 5
"""The formats: what trained is as it came to be; what trained is blended with what it started from; either, with classes; any
of these, with how data was prepared; any of these, trained at several sites."""


class TrainedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tensor trained: ``retrain`` and ``kernels`` as `encode_mask` gives them."""

    retrain: list[Annotated[int, msgspec.Meta(ge=0)]]
    kernels: Optional[str]


class ScalingPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an array was scaled; see `tgdonnx.data.scaling`."""

    offset: float
    divisor: Annotated[float, msgspec.Meta(gt=0)]
    how: Union[float, str]
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    mean: list[float] = []
    std: list[Annotated[float, msgspec.Meta(gt=0)]] = []


class PreparationPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How data was prepared that the round trained on.

    Attributes:
        scaling: of intensities, by array; ``target`` and names of outputs are what outputs were compared with.
        resize: of pictures, as the options of data have it; see `tgdonnx.data.options`. Likewise ``resample``, ``crop`` and
            ``colour``.
    """

    scaling: dict[str, ScalingPart] = {}
    resize: list[int] = []
    resample: str = "bilinear"
    crop: list[int] = []
    colour: Optional[str] = None


class SitePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site gave to federated training: how many samples it trained on, and in how many rounds its numbers counted."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    samples: Annotated[int, msgspec.Meta(ge=1)]
    rounds: Annotated[int, msgspec.Meta(ge=1)]


class FederationPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a round was trained at several sites; see `tgdonnx.federated`.

    Attributes:
        rounds: of federated training, up to the one that was exported.
        sites: whose numbers counted in any of them, by their names.
    """

    rounds: Annotated[int, msgspec.Meta(ge=0)]
    sites: list[SitePart]


class RoundRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The record of a round as it is written.

    Attributes:
        format: 1, 2 with ``blend``, 3 with ``classes``, 4 with ``preparation``, or 5 with ``federation``.
        tgdonnx: the version that wrote it.
        base_sha256: of the file that the round started from.
        selection: as in the masked model; see `tgdonnx.selection.recorded`.
        options: of the build.
        checkpoint: the checkpoint that was exported.
        blend: how far what trained goes from what it started from (0) to what it came to; None for all the way, 1.
        classes: names of what the output tells apart, in its order; none where the data did not say.
        preparation: how data was prepared; None where it was taken as it was.
        federation: at which sites it trained; None where it trained in one place.
        external_data: the file, beside the model, that its external data was written to; None if it has none.
        trained: what trained, by tensor.
        reinitialized: what was reinitialised and did not train, by tensor.
        set: what was set, by tensor.
        merged: whether side paths are merged into the weights beside them.
    """

    format: Literal[1, 2, 3, 4, 5]
    tgdonnx: str
    base_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    selection: dict[str, Any]
    options: dict[str, Any]
    checkpoint: str
    trained: dict[str, TrainedPart]
    blend: Optional[Annotated[float, msgspec.Meta(ge=0, lt=1)]] = None
    classes: list[str] = []
    preparation: Optional[PreparationPart] = None
    federation: Optional[FederationPart] = None
    external_data: Optional[str] = None
    reinitialized: dict[str, TrainedPart] = msgspec.field(name="reborn", default_factory=dict)
    set: dict[str, SetPart] = {}
    merged: bool = False


@dataclass(frozen=True)
class Record:
    """What a round did.

    Attributes:
        base_sha256: of the file that it started from.
        selection: what was asked for.
        masks: for each tensor that trained, or was reinitialised, the mask of what may have other values than that file.
        sets: for names of tensors, the elements that have the value that they were given.
        blend: how far what trained goes from what it started from (0) to what it came to (1).
        merged: whether side paths are merged into the weights beside them.
    """

    base_sha256: str
    selection: RecordedSelection
    masks: Masks
    sets: Mapping[str, SetElements]
    blend: float = 1.0
    merged: bool = False


def record_key(number: int) -> str:
    """Returns the metadata key of the record of a round, counted from 1."""
    return f"{_PREFIX}{number}"


def round_of(key: str) -> Optional[int]:
    """Returns the round that a metadata key is the record of; None if it is of none."""
    found = _NUMBERED.fullmatch(str(key))  # a damaged file can have bytes there
    return None if found is None else int(found[1])


def earlier_rounds(proto: onnx.ModelProto) -> int:
    """Returns the number of the last round that a model has been through, by the keys of its metadata; 0 if there is none."""
    return max((round_of(entry.key) or 0 for entry in proto.metadata_props), default=0)


def format_of(
    blend: Optional[float],
    classes: Sequence[str],
    preparation: Optional[object] = None,
    federation: Optional[object] = None,
) -> int:
    """Returns the format of a record.

    Args:
        blend: None: 1.
        classes: names of what the output tells apart.
        preparation: how data was prepared; None: not at all.
        federation: at which sites it trained; None: in one place.
    """
    if federation is not None:
        return FEDERATED
    if preparation is not None:
        return PREPARED
    if classes:
        return NAMED
    return WHOLE if blend is None else BLENDED


@dataclass(frozen=True)
class Training:
    """What the last round of a model was given.

    Attributes:
        classes: names of what the output tells apart, in its order; none where the data did not say.
        preparation: how data was prepared; None if it was taken as it was.
        loss: what was minimised, in text; None where the record does not say.
        output: the output that trained, of several the first; None where the record does not say.
        federation: at which sites it trained; None where it trained in one place.
    """

    classes: tuple[str, ...]
    preparation: Optional[PreparationPart]
    loss: Optional[str]
    output: Optional[str]
    federation: Optional[FederationPart] = None


def last_training(proto: onnx.ModelProto) -> Optional[Training]:
    """Returns what the last round of a model was given; None where there is no record.

    Raises:
        ValueError: the last record was not written by export.
    """
    record = _last_record(proto)
    if record is None:
        return None
    said = {name: value for name in ("loss", "output") if isinstance(value := record.options.get(name), str)}
    return Training(tuple(record.classes), record.preparation, said.get("loss"), said.get("output"), record.federation)


def last_export(proto: onnx.ModelProto) -> tuple[float, bool]:
    """Returns the blend that the last record of a model says, and whether side paths are merged.

    They are 1 and False where there is no record, or none that can be read.
    """
    try:
        record = _last_record(proto)
    except ValueError:
        record = None
    return (1.0, False) if record is None else (1.0 if record.blend is None else record.blend, record.merged)


def _last_record(proto: onnx.ModelProto) -> Optional[RoundRecord]:
    texts = {number: entry.value for entry in proto.metadata_props if (number := round_of(entry.key)) is not None}
    return _parsed(texts[max(texts)]) if texts else None


def _parsed(text: str) -> RoundRecord:
    """Returns a record, of which only the parts are not looked into.

    Raises:
        ValueError: it was not written by export.
    """
    record = msgspec.convert(read_strict(text), RoundRecord)
    if record.format != format_of(record.blend, record.classes, record.preparation, record.federation):
        prepared, trained = ("has no" if part is None else "has a" for part in (record.preparation, record.federation))
        raise ValueError(
            f"it is of format {record.format}, but `blend` is {record.blend} and classes are {len(record.classes)}, and it "
            f"{prepared} preparation; format 2 has a blend, format 3 classes, format 1 neither; format 4 has a preparation; "
            f"format 5 has a federation, and it {trained} federation"
        )
    if record.federation is not None:
        _check_federation(record.federation)
    return record


def _check_federation(federation: FederationPart) -> None:
    names = [site.name for site in federation.sites]
    if len(set(names)) < len(names):
        raise ValueError("its federation names a site twice")
    if any(site.rounds > federation.rounds for site in federation.sites):
        raise ValueError(
            f"a site of its federation is said to have trained in more than all {federation.rounds} rounds"
        )
    if bool(federation.rounds) != bool(names):
        raise ValueError("its federation has rounds without sites, or sites without rounds")


def side_paths_of(text: str) -> Optional[RecordedSelection]:
    """Returns the selection of a record if the round left side paths in the file; else None.

    Raises:
        ValueError: it was not written by export.
    """
    record = msgspec.convert(read_strict(text), RoundRecord)
    selection = read_selection(record.selection)
    return selection if selection.mode == "adapter" and record.blend != 0 and not record.merged else None


def read_record(text: str, network: Network) -> Record:
    """Reads a record.

    Args:
        text: its JSON.
        network: the model that it is in, or the one that was trained.

    Raises:
        ValueError: it was not written by export for this model.
    """
    record = _parsed(text)
    selection = read_selection(record.selection)
    twice = sorted(record.reinitialized.keys() & record.trained.keys())
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice, as trained and as reinitialised")
    if selection.mode != "regrow" and (record.reinitialized or record.set):
        raise ValueError(f"it names tensors that were reinitialised or set, but the mode is {selection.mode}")
    if record.merged and (selection.mode != "adapter" or record.blend == 0):
        raise ValueError(f"it says that side paths are merged, but there are none: mode {selection.mode}")
    masks = {
        name: decode_mask(part.retrain, part.kernels, network, name)
        for name, part in {**record.reinitialized, **record.trained}.items()
    }
    sets = {name: decode_set(part, network, name) for name, part in record.set.items()}
    for name in masks.keys() & sets.keys():
        if (masks[name] * sets[name].mask).any():
            raise ValueError(f"elements of {name!r} are said to have trained and to have been set")
    blend = 1.0 if record.blend is None else record.blend
    return Record(record.base_sha256, selection, masks, sets, blend, record.merged)


def union(first: Masks, second: Masks) -> dict[str, NDArray[np.float32]]:
    """Returns masks that are 1 where either is."""
    joined = dict(first)
    for name, mask in second.items():
        joined[name] = np.maximum(joined[name], mask) if name in joined else mask
    return joined


def trained_before(network: Network) -> dict[str, NDArray[np.float32]]:
    """Returns for each tensor that earlier rounds changed the mask of what they trained or set, all rounds together.

    Raises:
        MaskedModelError: a record is damaged.
    """
    masks: dict[str, NDArray[np.float32]] = {}
    for entry in network.file.proto.metadata_props:
        if round_of(entry.key) is not None:
            try:
                record = read_record(entry.value, network)
                masks = union(union(masks, record.masks), {name: each.mask for name, each in record.sets.items()})
            except ValueError as error:
                raise MaskedModelError(
                    f"{entry.key!r} in {network.file.path} cannot be read, so what it trained cannot be protected ({error}); "
                    "take the file as it was exported"
                ) from error
    return masks
