"""New values for tensors of a model file, written over the old ones where they lie: in the file, or in its external data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile, Pieces
from tgdonnx.layers import Parameter

Array = NDArray[Any]


@dataclass(frozen=True)
class Overwritten:
    """A model file with new values.

    Attributes:
        data: its bytes; as many as before.
        external: for its files with external data, what to write at which offset.
    """

    data: bytes = field(repr=False)
    external: Pieces = field(repr=False)


def overwrite_values(file: ModelFile, new: Mapping[Parameter, Array]) -> Overwritten:
    """Writes values over those of a file, in memory; nothing on disk changes.

    Args:
        file: the file.
        new: for tensors of the file their values, whole, of the stored type and shape. `Network.why_untrainable` says which
            cannot be overwritten.
    """
    data = bytearray(file.data)
    spans = wire.locate(data, [parameter.path for parameter in new])
    outside = {tensor.path: tensor for tensor in file.outside}
    external: dict[str, dict[int, bytes]] = {}
    for parameter, values in new.items():
        content = little_endian(values)
        place = outside.get(parameter.path)
        if place is not None:
            external.setdefault(place.location, {})[place.offset] = content
        else:
            wire.overwrite(data, wire.locate_elements(data, spans[parameter.path], parameter.itemsize), 0, content)
    return Overwritten(bytes(data), external)


def little_endian(values: Array) -> bytes:
    """Returns the bytes of an array as ONNX stores them: row-major, little-endian."""
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def differing(first: Array, second: Array) -> NDArray[np.bool_]:
    """Returns where two arrays of one type and shape differ in any bit; NaN equals itself, 0 is not -0."""
    a, b = (np.ascontiguousarray(values).reshape(-1).view(np.uint8) for values in (first, second))
    by_element = (a != b).reshape(-1, first.dtype.itemsize)
    different: NDArray[np.bool_] = by_element.any(axis=1).reshape(first.shape)
    return different
