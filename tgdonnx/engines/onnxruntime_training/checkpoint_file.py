"""The checkpoint that training starts from, without the runtime: a FlatBuffer, as ``ort_training_checkpoint.fbs`` has it.

    Checkpoint    {version: int32, module_state: ModuleState, ...}       with the file identifier ODTC
    ModuleState   {requires_grad_params: [Tensor], frozen_params: [Tensor], ...}
    Tensor        {name: string, doc_string: string, dims: [int64], data_type: int32, raw_data: [uint8], ...}

Fields that are left out have their defaults. In a FlatBuffer everything that is referred to comes later, by its distance; a
table begins with the distance back to its vtable, which says where its fields are.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_IDENTIFIER = b"ODTC"
_VERSION = 2  # of checkpoints of onnxruntime-training 1.19.2
_DATA_ALIGNMENT = 16


def checkpoint_bytes(parameters: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Returns a checkpoint.

    Args:
        parameters: those that train, by name; less than 2 GiB together.
    """
    out = _Buffer()
    start = out.hole()
    out.write(_IDENTIFIER)
    # A vtable is its own size, that of the table, and where in that each field lies; 0 for none.
    two_fields = out.vtable([4, 8])
    tensor_fields = out.vtable([4, 0, 8, 12, 16])
    root = out.table(two_fields)
    out.fill(start, root)
    out.write(struct.pack("<i", _VERSION))
    state = out.hole()
    out.fill(state, out.table(two_fields))
    trained, frozen = out.hole(), out.hole()
    out.fill(trained, out.count(len(parameters)))
    tensors = [out.hole() for _ in parameters]
    out.fill(frozen, out.count(0))
    for place, (name, array) in zip(tensors, parameters.items()):
        out.fill(place, out.table(tensor_fields))
        text, dims = out.hole(), out.hole()
        out.write(struct.pack("<i", onnx.TensorProto.FLOAT))
        data = out.hole()
        encoded = name.encode()
        out.fill(text, out.vector(encoded + b"\0", len(encoded), 4))
        out.fill(dims, out.vector(_int64(array.shape), array.ndim, 8))
        content = np.asarray(array, "<f4", order="C").tobytes()
        out.fill(data, out.vector(content, len(content), _DATA_ALIGNMENT))
    return out.done()


def _int64(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}q", *numbers)


class _Buffer:
    """Writes front to back; places are distances from the start, in bytes."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._size = 0

    def write(self, content: bytes) -> int:
        """Appends bytes, and returns where."""
        place = self._size
        self._parts.append(content)
        self._size += len(content)
        return place

    def hole(self) -> tuple[int, int]:
        """Appends what `fill` will set: a distance to something that comes later."""
        return len(self._parts), self.write(bytes(4))

    def fill(self, hole: tuple[int, int], place: int) -> None:
        """Lets a hole refer to a place."""
        part, own = hole
        self._parts[part] = struct.pack("<I", place - own)

    def vtable(self, fields: Sequence[int]) -> int:
        """Appends a vtable for fields of four bytes each, and returns where."""
        self._align(4)
        used = sum(1 for field in fields if field)
        return self.write(struct.pack(f"<{2 + len(fields)}H", 4 + 2 * len(fields), 4 + 4 * used, *fields))

    def table(self, vtable: int) -> int:
        """Appends the head of a table, and returns where; its fields follow."""
        self._align(4)
        return self.write(struct.pack("<i", self._size - vtable))

    def count(self, elements: int) -> int:
        """Appends the head of a vector, and returns where."""
        return self.write(struct.pack("<I", elements))

    def vector(self, content: bytes, elements: int, alignment: int) -> int:
        """Appends a vector, whose elements begin at a multiple of ``alignment``, and returns where."""
        self._align(alignment, ahead=4)
        place = self.count(elements)
        self.write(content)
        return place

    def done(self) -> bytes:
        """Returns what was written."""
        self._align(4)
        return b"".join(self._parts)

    def _align(self, multiple: int, *, ahead: int = 0) -> None:
        self.write(bytes(-(self._size + ahead) % multiple))
