"""Records of training in a model: the metadata ``tgdonnx.provenance.N``, one per round, which export adds.

Each is a JSON object; ``base_sha256`` is the hash of the file that the round started from, and ``trained`` names the tensors
that trained, with ``retrain`` and ``kernels`` as `encode_mask` gives them.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network

_PREFIX = "tgdonnx.provenance."
Masks = Mapping[str, NDArray[np.float32]]


def record_key(number: int) -> str:
    """Returns the metadata key of the record of a round, counted from 1."""
    return f"{_PREFIX}{number}"


def earlier_rounds(proto: onnx.ModelProto) -> int:
    """Returns how many rounds a model has been through."""
    return sum(entry.key.startswith(_PREFIX) for entry in proto.metadata_props)


def read_record(text: str, network: Network) -> tuple[str, Masks]:
    """Reads a record.

    Args:
        text: its JSON.
        network: the model that it is in, or the one that was trained.

    Returns:
        The hash of the file that the round started from, and for each tensor that it trained its mask.

    Raises:
        ValueError: it was not written by export for this model.
    """
    try:
        record = json.loads(text)
        trained = record["trained"].items()
        masks = {name: decode_mask(parts["retrain"], parts["kernels"], network, name) for name, parts in trained}
        return str(record["base_sha256"]), masks
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
        raise ValueError(f"the record is damaged: {error!r}") from error


def union(first: Masks, second: Masks) -> dict[str, NDArray[np.float32]]:
    """Returns masks that are 1 where either is."""
    joined = dict(first)
    for name, mask in second.items():
        joined[name] = np.maximum(joined[name], mask) if name in joined else mask
    return joined


def trained_before(network: Network) -> dict[str, NDArray[np.float32]]:
    """Returns for each tensor that earlier rounds trained the mask of what they trained, all rounds together.

    Raises:
        MaskedModelError: a record is damaged.
    """
    masks: dict[str, NDArray[np.float32]] = {}
    for entry in network.file.proto.metadata_props:
        if entry.key.startswith(_PREFIX):
            try:
                masks = union(masks, read_record(entry.value, network)[1])
            except ValueError as error:
                raise MaskedModelError(
                    f"{entry.key!r} in {network.file.path} cannot be read, so what it trained cannot be protected ({error}); "
                    "take the file as it was exported"
                ) from error
    return masks


def encode_mask(values: NDArray[np.float32], network: Network, name: str) -> tuple[tuple[int, ...], Optional[str]]:
    """Returns a retrain mask in short, for a manifest or a record.

    Returns:
        The filters that train whole, and if single kernels train besides the mask itself, else None. The mask is written
        as its shape and its elements, a bit each, in row-major order, compressed by zlib, in base 64.
    """
    shape = network.stored_parameters[name].shape
    owner = np.broadcast_to(network.filter_index(name), shape).reshape(-1)
    trains = np.broadcast_to(values, shape).reshape(-1)
    whole = np.bincount(owner, trains) == np.bincount(owner)
    retrain = tuple(int(m) for m in np.flatnonzero(whole))
    if (trains == whole[owner]).all():
        return retrain, None
    bits = base64.b64encode(zlib.compress(np.packbits(values.astype(bool)).tobytes())).decode()
    return retrain, f"{'x'.join(str(d) for d in values.shape)}:{bits}"


def decode_mask(retrain: Sequence[int], kernels: Optional[str], network: Network, name: str) -> NDArray[np.float32]:
    """Undoes `encode_mask`.

    Raises:
        ValueError: it was not written so.
    """
    if kernels is None:
        return np.isin(network.filter_index(name), retrain).astype(np.float32)
    dims, _, bits = kernels.partition(":")
    shape, of = [int(d) for d in dims.split("x")], network.stored_parameters[name].shape
    if len(shape) != len(of) or any(m not in (1, d) for m, d in zip(shape, of)):
        raise ValueError(f"a mask of shape {shape} does not broadcast against {name!r}, {list(of)}")
    count = math.prod(shape)
    try:
        packed = zlib.decompressobj().decompress(base64.b64decode(bits, validate=True), (count + 7) // 8 + 1)
    except zlib.error as error:
        raise ValueError(f"the mask of {name!r} is damaged: {error}") from error
    if len(packed) != (count + 7) // 8:
        raise ValueError(f"the mask of {name!r} is damaged: it has {len(packed)} bytes, expected {(count + 7) // 8}")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).reshape(shape).astype(np.float32)
