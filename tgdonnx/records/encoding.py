"""How records and manifests hold masks, and values that were set: as text."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.layers import Network
from tgdonnx.overwriting import little_endian

_SHAPE = re.compile("([0-9]{1,19}x)*[0-9]{1,19}")

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


class SetPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tensor was set, as `encode_set` gives it."""

    mask: str
    values: str


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
