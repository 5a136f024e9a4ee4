"""A model in two parts: the message that a session is made of, and the tensors that go beside it.

A message of protobuf ends at 2 GiB, and what a model keeps in files of its own is not to be held in memory twice. So such
tensors are handed to the runtime as arrays: those in files are mapped, not read. That also makes it irrelevant where the
model lies, for what is opened is what was read and checked, whatever the file holds by now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files.tensors import StoredTensor, walk_tensors

_T = onnx.TensorProto
# What numpy holds as the runtime does. Others, such as bfloat16 and integers of 4 bits, are put into the message.
_PLAIN = frozenset(
    (
        *(_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BOOL),
        *(_T.INT8, _T.INT16, _T.INT32, _T.INT64),
        *(_T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64),
    )
)
MOST_BYTES = 2**30  # of tensors in the message, half of what it can hold
_SMALL = 2**16  # bytes; not worth a place of its own
_ALIGNMENT = 64  # bytes; kernels may read vectors
_BESIDE = "beside"  # a location that nobody reads


@dataclass(frozen=True)
class PackedModel:
    """A model in two parts.

    Attributes:
        model: the model; tensors that are beside it are marked as external data. For reading only: it may be the given one.
        beside: by names of initializers of the main graph their values.
    """

    model: onnx.ModelProto = field(repr=False)
    beside: dict[str, NDArray[Any]] = field(repr=False)


def pack(model: onnx.ModelProto, folder: Optional[Path], *, most: int = MOST_BYTES) -> PackedModel:
    """Packs a model, which stays as it is.

    Args:
        model: the model.
        folder: the directory that its external data is relative to; None if it must not have any.
        most: how many bytes of initializers may be in the message; if there are more the large ones are put beside it.

    Raises:
        ModelFileError: external data is not there, is shorter than the tensor, or is not described well.
    """
    tensors = [StoredTensor((), proto) for proto in model.graph.initializer]
    total = sum(tensor.nbytes for tensor in tensors if not tensor.is_external)
    beside: dict[str, NDArray[Any]] = {}
    if total <= most and not any(tensor.is_external for tensor in walk_tensors(model)):
        return PackedModel(model, beside)
    kept = copy_but(model, "graph")
    kept.graph.CopyFrom(copy_but(model.graph, "initializer"))
    for tensor in tensors:
        values = _values_beside(tensor, folder, large=total > most)
        if values is None:
            kept.graph.initializer.add().CopyFrom(tensor.proto)
        else:
            beside[tensor.proto.name] = values
    for tensor in walk_tensors(kept):
        if tensor.is_external:
            _load(tensor, folder)
    for name, values in beside.items():
        kept.graph.initializer.append(_placeholder(name, values))
    return PackedModel(kept, beside)


def serialize(model: onnx.ModelProto) -> bytes:
    """Returns a model as bytes.

    Raises:
        ModelFileError: it is more than protobuf can hold.
    """
    try:
        content: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelFileError(
            "the model has more than 2 GB in Constant nodes, subgraphs or functions, and ONNX Runtime takes no more",
            remedy="store large tensors as initializers of the main graph",
        ) from error
    return content


def copy_but(message: Any, left_out: str) -> Any:
    """Returns a copy of a message without one of its fields, which may be too large to copy."""
    copy = type(message)()
    for description, value in message.ListFields():
        if description.name == left_out:
            continue
        if description.message_type is not None or hasattr(value, "append"):
            getattr(copy, description.name).MergeFrom(value)
        else:
            setattr(copy, description.name, value)
    return copy


def _values_beside(tensor: StoredTensor, folder: Optional[Path], *, large: bool) -> Optional[NDArray[Any]]:
    """Returns the values of a tensor that is to be put beside the message; None for one that is to be in it."""
    proto = tensor.proto
    if proto.data_type not in _PLAIN or tensor.nbytes < _SMALL:
        return None
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(proto.data_type)).newbyteorder("<")
    shape = tuple(proto.dims)
    if not tensor.is_external:
        if not large or not proto.HasField("raw_data"):
            return None
        return np.frombuffer(proto.raw_data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
    path, offset = _place(tensor, folder)
    try:
        mapped = np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    except OSError as error:
        raise _unreadable(tensor, error) from error
    values: NDArray[Any] = np.asarray(mapped, dtype.newbyteorder("="))
    return values if offset % _ALIGNMENT == 0 else values.copy()


def _placeholder(name: str, values: NDArray[Any]) -> onnx.TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = _T(name=name, data_type=kind, dims=values.shape, data_location=_T.EXTERNAL)
    tensor.external_data.add(key="location", value=_BESIDE)
    return tensor


def _load(tensor: StoredTensor, folder: Optional[Path]) -> None:
    """Puts external data into a tensor, in place."""
    path, offset = _place(tensor, folder)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            tensor.proto.raw_data = file.read(tensor.nbytes)
    except OSError as error:
        raise _unreadable(tensor, error) from error
    tensor.proto.data_location = _T.DEFAULT
    del tensor.proto.external_data[:]


def _place(tensor: StoredTensor, folder: Optional[Path]) -> tuple[Path, int]:
    """Returns where the external data of a tensor begins, after a look at whether all of it is there."""
    external = tensor.external
    if folder is None:
        raise ModelFileError(
            f"{tensor.proto.name!r} is kept in {external.location!r}, and nobody says in which directory"
        )
    path = folder / external.location
    said = tensor.nbytes if external.length is None else external.length
    try:
        there = path.stat().st_size
    except OSError as error:
        raise _unreadable(tensor, error) from error
    if said != tensor.nbytes or external.offset + said > there:
        raise ModelFileError(
            f"{tensor.proto.name!r} of shape {list(tensor.proto.dims)} takes {tensor.nbytes:,} bytes, and is said to be "
            f"{said:,} at {external.offset:,} of {path}, which has {there:,}",
            remedy="get the files of the model again",
        )
    return path, external.offset


def _unreadable(tensor: StoredTensor, error: OSError) -> ModelFileError:
    return ModelFileError(
        f"the external data of {tensor.proto.name!r} cannot be read: {error}", remedy="get the model's files again"
    )
