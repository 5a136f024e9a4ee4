"""Records of training in a model: the metadata ``tgdonnx.provenance.N``, one per round, which export adds.

Each is a JSON object as `RoundRecord` has it, in the spelling of `json.dumps`: of format 1, or of format 2 if it has ``blend``.
``base_sha256`` is the hash of the file that the round started from, and ``trained`` names the tensors that trained, with
``retrain`` and ``kernels`` as `encode_mask` gives them. A round of mode ``regrow`` has two more:

- ``reborn`` names, likewise, tensors that did not train, though their masks let them, but have other values than the vendor's.
- ``set`` names tensors with elements that were given a value and kept it: ``mask`` as `pack_mask` gives it, and ``values``,
  those elements in row-major order, little-endian, of the stored type, compressed by zlib, in base 64.

N counts on from the largest number that the vendor's file has, if it has metadata of that name. A record is a claim of whoever
wrote it: `tgdonnx.verifying.recomputing` holds it against the vendor's file.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network
from tgdonnx.overwriting import little_endian
from tgdonnx.selection.recorded import read_selection, read_strict
from tgdonnx.selection.strategy import RecordedSelection

_PREFIX = "tgdonnx.provenance."
_NUMBERED = re.compile(re.escape(_PREFIX) + "([1-9][0-9]{0,8})")
_SHAPE = re.compile("([0-9]{1,19}x)*[0-9]{1,19}")
WHOLE, BLENDED = 1, 2
"""The formats: what trained is as it came to be, and what trained is blended with what it started from."""

Array = NDArray[Any]
Masks = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class SetElements:
    """Elements of a tensor that were given a value, and keep it.

    Attributes:
        mask: float32, 1 for these elements, 0 for the others, broadcasting against the tensor.
        values: of the type and shape of the stored tensor; those of the other elements mean nothing.
    """

    mask: NDArray[np.float32] = field(repr=False)
    values: Array = field(repr=False)


class TrainedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tensor trained: ``retrain`` and ``kernels`` as `encode_mask` gives them."""

    retrain: list[Annotated[int, msgspec.Meta(ge=0)]]
    kernels: Optional[str]


class SetPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tensor was set, as `encode_set` gives it."""

    mask: str
    values: str


class RoundRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The record of a round as it is written.

    Attributes:
        format: 1, or 2 with ``blend``.
        tgdonnx: the version that wrote it.
        base_sha256: of the file that the round started from.
        selection: as in the masked model; see `tgdonnx.selection.recorded`.
        options: of the build.
        checkpoint: the checkpoint that was exported.
        blend: how far what trained goes from what it started from (0) to what it came to; None for all the way, 1.
        external_data: the file, beside the model, that its external data was written to; None if it has none.
        trained: what trained, by tensor.
        reinitialized: what was reinitialised and did not train, by tensor.
        set: what was set, by tensor.
    """

    format: Literal[1, 2]
    tgdonnx: str
    base_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    selection: dict[str, Any]
    options: dict[str, Any]
    checkpoint: str
    trained: dict[str, TrainedPart]
    blend: Optional[Annotated[float, msgspec.Meta(ge=0, lt=1)]] = None
    external_data: Optional[str] = None
    reinitialized: dict[str, TrainedPart] = msgspec.field(name="reborn", default_factory=dict)
    set: dict[str, SetPart] = {}


@dataclass(frozen=True)
class Record:
    """What a round did.

    Attributes:
        base_sha256: of the file that it started from.
        selection: what was asked for.
        masks: for each tensor that trained, or was reinitialised, the mask of what may have other values than that file.
        sets: for names of tensors, the elements that have the value that they were given.
        blend: how far what trained goes from what it started from (0) to what it came to (1).
    """

    base_sha256: str
    selection: RecordedSelection
    masks: Masks
    sets: Mapping[str, SetElements]
    blend: float = 1.0


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


def last_blend(proto: onnx.ModelProto) -> float:
    """Returns the blend that the last record of a model says; 1 where there is none, or none that can be read."""
    texts = {number: entry.value for entry in proto.metadata_props if (number := round_of(entry.key)) is not None}
    try:
        record = msgspec.convert(read_strict(texts[max(texts)]), RoundRecord) if texts else None
    except (ValueError, TypeError):
        return 1.0
    return 1.0 if record is None or record.blend is None else record.blend


def read_record(text: str, network: Network) -> Record:
    """Reads a record.

    Args:
        text: its JSON.
        network: the model that it is in, or the one that was trained.

    Raises:
        ValueError: it was not written by export for this model.
    """
    record = msgspec.convert(read_strict(text), RoundRecord)
    if (record.format == BLENDED) != (record.blend is not None):
        raise ValueError(
            f"it is of format {record.format}, but `blend` is {record.blend}; format 2 has one, format 1 none"
        )
    selection = read_selection(record.selection)
    twice = sorted(record.reinitialized.keys() & record.trained.keys())
    if twice:
        raise ValueError(f"{twice[0]!r} is named twice, as trained and as reinitialised")
    if selection.mode != "regrow" and (record.reinitialized or record.set):
        raise ValueError(f"it names tensors that were reinitialised or set, but the mode is {selection.mode}")
    masks = {
        name: decode_mask(part.retrain, part.kernels, network, name)
        for name, part in {**record.reinitialized, **record.trained}.items()
    }
    sets = {name: decode_set(part, network, name) for name, part in record.set.items()}
    for name in masks.keys() & sets.keys():
        if (masks[name] * sets[name].mask).any():
            raise ValueError(f"elements of {name!r} are said to have trained and to have been set")
    return Record(record.base_sha256, selection, masks, sets, 1.0 if record.blend is None else record.blend)


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


def encode_mask(values: NDArray[np.float32], network: Network, name: str) -> tuple[tuple[int, ...], Optional[str]]:
    """Returns a retrain mask in short, for a manifest or a record.

    Returns:
        The filters that train whole, and if single kernels train besides the mask itself, as `pack_mask` gives it, else None.
    """
    shape = network.stored_parameters[name].shape
    owner = np.broadcast_to(network.filter_index(name), shape).reshape(-1)
    trains = np.broadcast_to(values, shape).reshape(-1)
    whole = np.bincount(owner, trains) == np.bincount(owner)
    retrain = tuple(int(m) for m in np.flatnonzero(whole))
    if (trains == whole[owner]).all():
        return retrain, None
    return retrain, pack_mask(values)


def decode_mask(retrain: Sequence[int], kernels: Optional[str], network: Network, name: str) -> NDArray[np.float32]:
    """Undoes `encode_mask`.

    Raises:
        ValueError: it was not written so.
    """
    _require_stored(network, name)
    if kernels is not None:
        values = unpack_mask(kernels, network, name)
    else:
        index = network.filter_index(name)
        if retrain and not 0 <= min(retrain) <= max(retrain) <= int(index.max(initial=-1)):
            raise ValueError(f"{name!r} has no filter {max(retrain)}")
        values = np.isin(index, retrain).astype(np.float32)
    whole, packed = encode_mask(values, network, name)
    if whole != tuple(retrain) or (packed is None) != (kernels is None):
        raise ValueError(
            f"the filters that are said to have trained of {name!r} are not in order, or not those of its mask"
        )
    return values


def encode_set(elements: SetElements) -> dict[str, str]:
    """Returns what a record says of elements that were set."""
    chosen = elements.values[np.broadcast_to(elements.mask == 1, elements.values.shape)]
    return {
        "mask": pack_mask(elements.mask),
        "values": base64.b64encode(zlib.compress(little_endian(chosen))).decode(),
    }


def decode_set(part: SetPart, network: Network, name: str) -> SetElements:
    """Undoes `encode_set`.

    Raises:
        ValueError: it was not written so.
    """
    _require_stored(network, name)
    mask, parameter = unpack_mask(part.mask, network, name), network.stored_parameters[name]
    reason = network.why_untrainable(name)
    if reason is not None:
        raise ValueError(f"{name!r}, which was set, {reason}")
    chosen = np.broadcast_to(mask == 1, parameter.shape)
    size = int(np.count_nonzero(chosen)) * parameter.itemsize
    content = _decompress(part.values, size, f"what was set in {name!r}")
    dtype = np.dtype(parameter.dtype.numpy())
    values = np.zeros(parameter.shape, dtype)
    values[chosen] = np.frombuffer(content, dtype.newbyteorder("<"))
    return SetElements(mask, values)


def pack_mask(values: NDArray[np.float32]) -> str:
    """Returns a mask as text: its shape and its elements, a bit each, in row-major order, compressed by zlib, in base 64."""
    bits = base64.b64encode(zlib.compress(np.packbits(values.astype(bool)).tobytes())).decode()
    return f"{'x'.join(str(d) for d in values.shape)}:{bits}"


def unpack_mask(text: str, network: Network, name: str) -> NDArray[np.float32]:
    """Undoes `pack_mask`, for a mask of a tensor.

    Raises:
        ValueError: it was not written so.
    """
    dims, _, bits = text.partition(":")
    if not _SHAPE.fullmatch(dims):
        raise ValueError(f"the mask of {name!r} does not begin with its shape")
    shape, of = [int(d) for d in dims.split("x")], network.stored_parameters[name].shape
    if len(shape) != len(of) or any(m not in (1, d) for m, d in zip(shape, of)):
        raise ValueError(f"a mask of shape {shape} does not broadcast against {name!r}, {list(of)}")
    count = math.prod(shape)
    packed = _decompress(bits, (count + 7) // 8, f"the mask of {name!r}")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).reshape(shape).astype(np.float32)


def _decompress(text: str, size: int, what: str) -> bytes:
    """Returns what was compressed; no more than one byte beyond the size that it must have is ever made."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b64decode(text, validate=True), size + 1)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"{what} is damaged: {error}") from error
    if len(content) == size and not (decompressor.eof and not decompressor.unused_data):
        raise ValueError(f"{what} is damaged: something follows it")
    if len(content) != size:
        raise ValueError(f"{what} is damaged: it has {len(content)} bytes, expected {size}")
    return content


def _require_stored(network: Network, name: str) -> None:
    if name not in network.stored_parameters:
        raise ValueError(f"{network.file.path} stores no tensor under the name {name!r}, or several")
