"""Records of the rounds of a model: what they hold, how they are read, and what they say together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network
from tgdonnx.records.encoding import Masks, SetElements, decode_mask, decode_set
from tgdonnx.records.round_record import FederationPart, PreparationPart, RoundRecord, parse_record
from tgdonnx.selection.recorded import read_selection, read_strict
from tgdonnx.selection.strategy import RecordedSelection

_PREFIX = "tgdonnx.provenance."
_NUMBERED = re.compile(re.escape(_PREFIX) + "([1-9][0-9]{0,8})")


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
    return parse_record(texts[max(texts)]) if texts else None


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
    record = parse_record(text)
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
