"""What of a tuned file may differ from the vendor's, according to a masked model, or to the records in the tuned file."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx import wire
from tgdonnx.layers import open_network
from tgdonnx.masked import MaskedModel
from tgdonnx.modelfile import ModelFile
from tgdonnx.overwriting import differing
from tgdonnx.provenance import Record, SetElements, earlier_rounds, read_record, record_key, union

Array = NDArray[Any]


@dataclass(frozen=True)
class Allowed:
    """What may differ.

    Attributes:
        masks: for names of tensors the mask, float32, of elements that may have any value.
        sets: for names of tensors elements that must have a certain value, where ``masks`` is not 1.
    """

    masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    sets: Mapping[str, SetElements] = field(repr=False)


def allowed_by_masked(base: ModelFile, masked: MaskedModel) -> Optional[Allowed]:
    """Returns what a masked model allows; None if it is that of another base."""
    if masked.base.sha256 != base.sha256:
        return None
    if masked.vendor_values:  # some may be of external data, which is not in the hash
        theirs = open_network(base).stored_parameters
        if any(differing(values, theirs[name].numpy()).any() for name, values in masked.vendor_values.items()):
            return None
    stored = masked.network.stored_parameters
    sets = {name: SetElements(mask, stored[name].numpy()) for name, mask in masked.set_masks.items()}
    return Allowed(masked.masks, sets)


def allowed_by_records(base: ModelFile, tuned: ModelFile) -> tuple[Optional[Allowed], int]:
    """Returns what the records in a tuned file that follow those of a base allow, all together, and their number.

    What a round trains may have any value, also if an earlier one set it; what a round sets must have that value, until a
    later one trains it.

    None if there are none, or the first is of another base. Of the files in between nothing is left, so that each round
    started from what the one before wrote is what the records say.
    """
    texts = {entry.key: entry.value for entry in tuned.proto.metadata_props}
    keys = [record_key(number) for number in _later_rounds(base.proto, texts)]
    if not keys:
        return None, 0
    network = open_network(base)
    try:
        records = [read_record(texts[key], network) for key in keys]
    except ValueError:
        return None, 0  # damaged: as good as none
    if records[0].base_sha256 != base.sha256:
        return None, 0
    allowed = Allowed({}, {})
    for record in records:
        allowed = _after(allowed, record)
    return allowed, len(records)


def _after(allowed: Allowed, record: Record) -> Allowed:
    masks, sets = union(allowed.masks, record.masks), dict(allowed.sets)
    for name, new in record.sets.items():
        if name in masks:
            masks[name] = masks[name] * (1 - new.mask)
        if name in sets:
            new = SetElements(np.maximum(sets[name].mask, new.mask), with_values(sets[name].values, new))
        sets[name] = new
    return Allowed(masks, sets)


def with_values(values: Array, elements: SetElements) -> Array:
    """Returns a tensor with the values that some of its elements were given."""
    return np.where(elements.mask == 1, elements.values, values)


def is_record_since(base: onnx.ModelProto, tuned: bytes) -> Callable[[wire.Field, wire.Buffer], bool]:
    """Returns what tells the records of the rounds that follow those of a base."""
    texts = [_key(field, tuned) for field in wire.fields(tuned, wire.Span(0, len(tuned)))]
    records = {record_key(number) for number in _later_rounds(base, [key for key in texts if key is not None])}
    return lambda field, data: _key(field, data) in records


def named_data(base: ModelFile, tuned: ModelFile) -> Optional[str]:
    """Returns the file for external data that the last record since a base names; None if there is none."""
    texts = {entry.key: entry.value for entry in tuned.proto.metadata_props}
    for number in reversed(list(_later_rounds(base.proto, texts))):
        try:
            name = json.loads(texts[record_key(number)]).get("external_data")
        except (ValueError, AttributeError, RecursionError):
            return None
        return name if isinstance(name, str) else None
    return None


def _later_rounds(base: onnx.ModelProto, keys: Collection[str]) -> Iterator[int]:
    """Yields the numbers of the rounds that a base has been through since, by the metadata keys of the tuned file."""
    number = 1 + earlier_rounds(base)
    while record_key(number) in keys:
        yield number
        number += 1


def _key(field: wire.Field, data: wire.Buffer) -> Optional[str]:
    """Returns the key of a field that is metadata."""
    if field.number != wire.METADATA_PROPS:
        return None
    inner = wire.fields(data, wire.Span(field.value, field.end))
    keys = [bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == wire.ENTRY_KEY]
    return keys[-1] if keys else None
