"""Records of training in a model: the metadata ``tgdonnx.provenance.N``, one per round, which export adds.

Each is a JSON object; ``base_sha256`` is the hash of the file that the round started from, and ``trained`` names the tensors
that trained, with ``retrain`` and ``kernels`` as `encode_mask` gives them. A round of mode ``regrow`` has two more:

- ``reborn`` names, likewise, tensors that did not train, though their masks let them, but have other values than the vendor's.
- ``set`` names tensors with elements that were given a value and kept it: ``mask`` as `pack_mask` gives it, and ``values``,
  those elements in row-major order, little-endian, of the stored type, compressed by zlib, in base 64.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network
from tgdonnx.overwriting import little_endian

_PREFIX = "tgdonnx.provenance."
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


@dataclass(frozen=True)
class Record:
    """What a round did.

    Attributes:
        base_sha256: of the file that it started from.
        masks: for each tensor that trained, or was reborn, the mask of what may have other values than that file.
        sets: for names of tensors, the elements that have the value that they were given.
    """

    base_sha256: str
    masks: Masks
    sets: Mapping[str, SetElements]


def record_key(number: int) -> str:
    """Returns the metadata key of the record of a round, counted from 1."""
    return f"{_PREFIX}{number}"


def earlier_rounds(proto: onnx.ModelProto) -> int:
    """Returns how many rounds a model has been through."""
    return sum(entry.key.startswith(_PREFIX) for entry in proto.metadata_props)


def read_record(text: str, network: Network) -> Record:
    """Reads a record.

    Args:
        text: its JSON.
        network: the model that it is in, or the one that was trained.

    Raises:
        ValueError: it was not written by export for this model.
    """
    try:
        record = json.loads(text)
        changed = {**record.get("reborn", {}), **record["trained"]}.items()
        masks = {name: decode_mask(parts["retrain"], parts["kernels"], network, name) for name, parts in changed}
        sets = {name: decode_set(parts, network, name) for name, parts in record.get("set", {}).items()}
        return Record(str(record["base_sha256"]), masks, sets)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
        raise ValueError(f"the record is damaged: {error!r}") from error


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
        if entry.key.startswith(_PREFIX):
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
    if kernels is None:
        return np.isin(network.filter_index(name), retrain).astype(np.float32)
    return unpack_mask(kernels, network, name)


def encode_set(elements: SetElements) -> dict[str, str]:
    """Returns what a record says of elements that were set."""
    chosen = elements.values[np.broadcast_to(elements.mask == 1, elements.values.shape)]
    return {
        "mask": pack_mask(elements.mask),
        "values": base64.b64encode(zlib.compress(little_endian(chosen))).decode(),
    }


def decode_set(parts: Mapping[str, str], network: Network, name: str) -> SetElements:
    """Undoes `encode_set`.

    Raises:
        ValueError: it was not written so.
    """
    mask, parameter = unpack_mask(parts["mask"], network, name), network.stored_parameters[name]
    reason = network.why_untrainable(name)
    if reason is not None:
        raise ValueError(f"{name!r}, which was set, {reason}")
    chosen = np.broadcast_to(mask == 1, parameter.shape)
    size = int(np.count_nonzero(chosen)) * parameter.itemsize
    content = _decompress(parts["values"], size, f"what was set in {name!r}")
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
    shape, of = [int(d) for d in dims.split("x")], network.stored_parameters[name].shape
    if len(shape) != len(of) or any(m not in (1, d) for m, d in zip(shape, of)):
        raise ValueError(f"a mask of shape {shape} does not broadcast against {name!r}, {list(of)}")
    count = math.prod(shape)
    packed = _decompress(bits, (count + 7) // 8, f"the mask of {name!r}")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).reshape(shape).astype(np.float32)


def _decompress(text: str, size: int, what: str) -> bytes:
    """Returns what was compressed; no more than one byte beyond the size that it must have is ever made."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except zlib.error as error:
        raise ValueError(f"{what} is damaged: {error}") from error
    if len(content) != size:
        raise ValueError(f"{what} is damaged: it has {len(content)} bytes, expected {size}")
    return content
