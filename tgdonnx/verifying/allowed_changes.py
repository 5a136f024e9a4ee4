"""What of a tuned file may differ from the vendor's, according to a masked model, or to the records in the tuned file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.adapting import adapt_as_recorded
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import Network
from tgdonnx.masked_model import MaskedModel, metadata_bytes
from tgdonnx.overwriting import differing
from tgdonnx.records import Record, SetElements, earlier_rounds, read_record, record_key, round_of, side_paths_of, union
from tgdonnx.selection.recorded import read_selection
from tgdonnx.verifying.claims import Claim

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


NOTHING = Allowed({}, {})


@dataclass(frozen=True)
class Evidence:
    """What somebody says may differ.

    Attributes:
        name: who; empty if there is nobody.
        allowed: what may differ, over all rounds.
        claims: what is said of each round.
        violations: what is wrong with the evidence itself.
        network: what the tuned file is compared with: the base, with the side paths that are said to have been added put in
            anew.
        stages: for each claim the network that it is about: the base, with the side paths of the rounds before.
    """

    name: str
    allowed: Allowed
    claims: tuple[Claim, ...]
    violations: tuple[str, ...]
    network: Network = field(repr=False)
    stages: tuple[Network, ...] = field(repr=False, default=())


def masked_evidence(network: Network, masked: MaskedModel) -> Evidence:
    """Returns what a masked model of a base says.

    Args:
        network: the base.
        masked: the masked model.
    """
    base, name = network.file, str(masked.file.path)

    def refused(reason: str) -> Evidence:
        return Evidence(name, NOTHING, (), (reason,), network)

    is_other = masked.base.sha256 != base.sha256
    if not is_other and masked.vendor_values:  # some may be of external data, which is not in the hash
        theirs = network.stored_parameters
        is_other = any(differing(values, theirs[name].numpy()).any() for name, values in masked.vendor_values.items())
    if is_other:
        return refused(f"{name} is the masked model of another file than {base.path}")
    number = 1 + earlier_rounds(base.proto)
    try:
        selection = read_selection(masked.selection)
    except ValueError as error:
        return refused(f"the selection in {name} is not one that `tgdonnx.mask` writes: {error}")
    if selection.round != number:
        return refused(
            f"{name} is of round {selection.round}, expected {number}, since {base.path} has the records before"
        )
    allowed = allowed_by_masked(masked)
    claim = Claim(number, True, selection, allowed.masks, allowed.sets, True)
    # The paths are put into this base anew: the one in the masked model has other external data.
    widened = network if masked.adapted is None else adapt_as_recorded(network, selection).network
    return Evidence(name, allowed, (claim,), (), widened, (network,))


def allowed_by_masked(masked: MaskedModel) -> Allowed:
    """Returns what a masked model allows."""
    stored = masked.network.stored_parameters
    sets = {name: SetElements(mask, stored[name].numpy()) for name, mask in masked.set_masks.items()}
    return Allowed(masked.masks, sets)


def recorded_evidence(network: Network, tuned: ModelFile) -> Evidence:
    """Returns what the records in a tuned file that follow those of a base say, all together.

    What a round trains may have any value, also if an earlier one set it; what a round sets must have that value, until a
    later one trains it. Of the files in between nothing is left, so that each round started from what the one before wrote is
    what the records say.

    Args:
        network: the base.
        tuned: the tuned file. It may have no record; then the name of the evidence is empty, and nothing may differ.
    """
    base = network.file

    def refused(reason: str) -> Evidence:
        return Evidence("", NOTHING, (), (reason,), network)

    texts: dict[int, str] = {}
    for number, text in _later_records(base.proto, tuned.proto):
        if number in texts:
            return refused(f"{tuned.path} has {record_key(number)!r} twice; expected one record a round")
        texts[number] = text
    if not texts:
        return Evidence("", NOTHING, (), (), network)
    first = 1 + earlier_rounds(base.proto)
    for number in range(first, first + len(texts)):
        if number not in texts:
            return refused(f"{tuned.path} has records of later rounds, but none of round {number}")
    other = f"{record_key(first)!r} in {tuned.path} is of another file than {base.path}; name the one that it was tuned from"
    if _says_base(texts[first]) not in (None, base.sha256):  # read against this one it would be told to be no record
        return refused(other)
    allowed, claims = NOTHING, []
    stages = [network]
    for number in sorted(texts):
        try:
            adapted = side_paths_of(texts[number])
            if adapted is not None and adapted.round == number:
                stages.append(adapt_as_recorded(stages[-1], adapted).network)
            else:
                stages.append(stages[-1])
            record = read_record(texts[number], stages[-1])
            if record.selection.round != number:
                raise ValueError(f"it says that it is of round {record.selection.round}")
        except ValueError as error:  # of ours, too
            return refused(f"{record_key(number)!r} in {tuned.path} is no record that tgdonnx wrote: {error}")
        if number == first and record.base_sha256 != base.sha256:
            return refused(other)
        if record.blend or record.selection.mode == "regrow":  # else it left all as it was
            allowed = _after(allowed, record)
        claims.append(
            Claim(
                number,
                number == first,
                record.selection,
                record.masks,
                record.sets,
                False,
                record.blend,
                record.merged,
            )
        )
    name = "the record in the tuned file"
    if len(claims) > 1:
        name = f"the records of {len(claims)} rounds in the tuned file"
    return Evidence(name, allowed, tuple(claims), (), stages[-1], tuple(stages[:-1]))


def is_recorded_in(base: ModelFile, tuned: onnx.ModelProto) -> bool:
    """Whether a record in a file says that a round of it started from a base."""
    texts = [entry.value for entry in tuned.metadata_props if round_of(entry.key) is not None]
    return any(_says_base(text) == base.sha256 for text in texts)


def records_are_plain(base: onnx.ModelProto, tuned: ModelFile) -> bool:
    """Whether the records that follow those of a base end a tuned file, one after the other, as export writes them.

    Elsewhere, or spelled in another way, they could hide what no reader of metadata sees.
    """
    texts = {record_key(number): text for number, text in sorted(_later_records(base, tuned.proto))}
    return tuned.data.endswith(metadata_bytes(texts))


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


def is_record_since(base: onnx.ModelProto) -> Callable[[wire.Field, wire.Buffer], bool]:
    """Returns what tells the records of the rounds that follow those of a base."""
    last = earlier_rounds(base)
    return lambda field, data: (round_of(_key(field, data)) or 0) > last


def named_data(base: ModelFile, tuned: ModelFile) -> Optional[str]:
    """Returns the file for external data that the last record since a base names; None if there is none."""
    texts = dict(_later_records(base.proto, tuned.proto))
    try:
        name = json.loads(texts[max(texts)]).get("external_data") if texts else None
    except (ValueError, AttributeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _says_base(text: str) -> Optional[str]:
    """Returns the hash of the file that a round started from, by its record; None if that does not say."""
    try:
        said = json.loads(text).get("base_sha256")
    except (ValueError, AttributeError, RecursionError):
        return None
    return said if isinstance(said, str) else None


def _later_records(base: onnx.ModelProto, tuned: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """Yields number and text of the records of the rounds that a base has been through since."""
    last = earlier_rounds(base)
    for entry in tuned.metadata_props:
        number = round_of(entry.key)
        if number is not None and number > last:
            yield number, str(entry.value)


def _key(field: wire.Field, data: wire.Buffer) -> str:
    """Returns the key of a field that is metadata; of another nothing."""
    if field.number != wire.METADATA_PROPS:
        return ""
    inner = wire.fields(data, wire.Span(field.value, field.end))
    keys = [bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == wire.ENTRY_KEY]
    return keys[-1] if keys else ""
