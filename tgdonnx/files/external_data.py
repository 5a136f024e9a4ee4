"""External data: tensors whose bytes lie in other files than the model, and what is refused there.

A model names such a file by a path relative to its own directory. A stranger wrote it, so it must not say which files of ours
are read: it leads nowhere but below the directory of the model. That holds for where it really leads, after all symbolic links,
of files as of directories. One more directory is allowed: the one in which the model's file itself really lies. Caches such as
Hugging Face's keep a model and its data as links, side by side, to files that lie side by side elsewhere.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.access import reading
from tgdonnx.files.tensors import StoredTensor, describe, walk_tensors

_T = onnx.TensorProto
_AGAIN = "get the file again, or export it again"
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


@dataclass(frozen=True)
class Outside:
    """A tensor whose bytes lie outside of the model file.

    Attributes:
        path: where its TensorProto lies in the model file.
        what: what an error calls it.
        location: the file that holds it, relative to the model's directory.
        offset: where it begins there.
        length: its size in bytes, by its type and dimensions.
    """

    path: wire.FieldPath = field(repr=False)
    what: str
    location: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Where it ends in its file."""
        return self.offset + self.length


def tensors_outside(model: onnx.ModelProto, path: Path) -> tuple[Outside, ...]:
    """Returns the tensors of a model that are external data; no other file is looked at.

    Args:
        model: the model.
        path: where it lies.

    Raises:
        ModelFileError: an entry is not what ONNX says of it, or leads out of the model's directory.
    """
    return tuple(_outside(tensor, model, path) for tensor in walk_tensors(model) if tensor.is_external)


def _outside(tensor: StoredTensor, model: onnx.ModelProto, path: Path) -> Outside:
    what = f"{describe(model, tensor.path)} of {path}"
    try:
        entry = tensor.external
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}; {_AGAIN}") from error
    location = entry.location
    wrong = _why_no_location(location)
    if wrong is not None:
        raise ModelFileError(
            f"{what} keeps weights in {location[:200]!r}, {wrong}outside of its own directory; "
            "expected a relative path below it"
        )
    proto = tensor.proto
    if proto.data_type not in _T.DataType.values() or proto.data_type in (_T.UNDEFINED, _T.STRING):
        raise ModelFileError(f"{what} is external data of the type {proto.data_type}, which cannot be; {_AGAIN}")
    if any(dim < 0 for dim in proto.dims):
        raise ModelFileError(f"{what} has a negative size: {list(proto.dims)}; {_AGAIN}")
    if entry.length is not None and entry.length != tensor.nbytes:
        raise ModelFileError(
            f"{what} has {entry.length:,} bytes in {location!r}; expected {tensor.nbytes:,} for "
            f"{_T.DataType.Name(proto.data_type)} {list(proto.dims)}: {_AGAIN}"
        )
    return Outside(tensor.path, what, location, entry.offset, tensor.nbytes)


def _why_no_location(location: str) -> Optional[str]:
    """Says what is wrong with the name of a file; None if nothing is. To be read before ``outside of``."""
    if "\0" in location:
        return "with a zero byte in it, maybe "
    if "\\" in location or re.match(r"[A-Za-z]:", location):
        return "a path of another system, maybe "
    if location.startswith("/") or ".." in location.split("/"):
        return ""
    return None


def resolve_external(model: Path, location: str) -> Path:
    """Returns the file that holds external data, without links.

    Args:
        model: the model that refers to it.
        location: as the model names it; see `tensors_outside`.

    Raises:
        ModelFileError: it is missing, or no regular file, or lies outside of the directory of the model.
    """
    path = model.parent / location
    said = f"{model} keeps weights in {location!r}, which"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelFileError(f"{said} is not in {model.parent}; {_remedy(model, location)}") from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{said} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    real = Path(os.path.realpath(path))
    if not any(root in real.parents for root in directories_of(model)):
        raise ModelFileError(
            f"{said} leads to {real}, outside of its own directory; if you trust it, copy that file into {model.parent}"
        )
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a device")
        raise ModelFileError(f"{said} is {kind}; expected a file: {_AGAIN}")
    if found.st_nlink > 1:
        # onnx does not open them: a hard link to somebody's file looks like any file.
        raise ModelFileError(
            f"{said} has {found.st_nlink} hard links, so it may be any file of this disk",
            remedy="copy the model and its data to another directory, and use the copies",
        )
    return real


def directories_of(model: Path) -> tuple[Path, ...]:
    """Returns the directories in which the external data of a model may lie, without links."""
    real = Path(os.path.realpath(model))
    return tuple(dict.fromkeys((Path(os.path.realpath(model.parent)), real.parent)))


def relocated(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Returns a copy of a model that names its external files otherwise."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in walk_tensors(copy):
        for entry in tensor.proto.external_data if tensor.is_external else ():
            if entry.key == "location":
                entry.value = names.get(entry.value, entry.value)
    return copy


def _remedy(model: Path, location: str) -> str:
    real = Path(os.path.realpath(model))
    if real.parent != model.parent and (real.parent / location).is_file():
        return f"the model is a link: name {real} itself"
    return "put it beside the model"


def require_inside(tensor: Outside, size: int) -> None:
    """Checks that a tensor lies inside of the file that holds it.

    Args:
        tensor: the tensor.
        size: of the file, in bytes.

    Raises:
        ModelFileError: it does not.
    """
    if tensor.end > size:
        raise ModelFileError(
            f"{tensor.what} ends at byte {tensor.end:,} of {tensor.location!r}, which has {size:,} bytes",
            remedy="get the file again",
        )


def chunks(path: Path, start: int, length: int, size: int = 2**24) -> Iterator[bytes]:
    """Yields a stretch of a file in pieces of at most ``size`` bytes.

    Raises:
        ModelFileError: the file cannot be read, or ends before.
    """
    with reading(path, ModelFileError), path.open("rb") as file:
        file.seek(start)
        while length:
            piece = file.read(min(size, length))
            if not piece:
                raise ModelFileError(f"{path} ends {length:,} bytes too early", remedy="get the file again")
            length -= len(piece)
            yield piece
