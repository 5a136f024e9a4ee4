"""Load an ONNX file, and write files so that a crash leaves either the old state or the new one."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional, Union

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from tgdonnx.errors import ModelFileError, OutputError
from tgdonnx.tensors import walk_tensors

StrPath = Union[str, "os.PathLike[str]"]
Pieces = Mapping[str, Mapping[int, bytes]]
"""For files with external data, bytes that lie at offsets."""


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on disk.

    Attributes:
        path: where it was read.
        data: its bytes.
        proto: the same, parsed; external data is not loaded. Never changed.
    """

    path: Path
    data: bytes = field(repr=False)
    proto: onnx.ModelProto = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, in hex; external data is not part of it."""
        return hashlib.sha256(self.data).hexdigest()

    def to_ir(self) -> ir.Model:
        """Returns the model for analysis. Tensors are read when they are asked for; value names are the file's."""
        model = ir.from_proto(self.proto)
        for graph in (model.graph, *(function.graph for function in model.functions.values())):
            ir.external_data.set_base_dir(graph, self.path.parent)
        return model

    @cached_property
    def external_files(self) -> tuple[str, ...]:
        """The files that hold its external data, as the model names them: relative to its directory."""
        return tuple(sorted({tensor.location for tensor in walk_tensors(self.proto) if tensor.is_external}))


def load_model(path: StrPath) -> ModelFile:
    """Reads an ONNX file.

    Raises:
        ModelFileError: the file is missing, no ONNX model, truncated, or its graph is empty.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(
            f"{path} is no ONNX model, or it is truncated ({len(data):,} bytes do not parse); get the file again"
        ) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelFileError(f"{path} is no ONNX model: it has no {'graph' if proto.ir_version else 'IR version'}")
    if proto.ir_version >= 3 and not proto.opset_import:
        raise ModelFileError(f"{path} imports no operator set, so it is truncated or damaged; get the file again")
    if not proto.graph.node:
        raise ModelFileError(f"{path} has an empty graph: expected at least one node")
    return ModelFile(path, data, proto)


def require_external_data(file: ModelFile) -> None:
    """Checks that the files with the model's external data are there, and nowhere but beside the model.

    Raises:
        ModelFileError: one is missing, or lies outside of the model's directory: such a path, which a stranger chose,
            must not say which files of ours are read, let alone overwritten.
    """
    for location in file.external_files:
        if not location:
            raise ModelFileError(f"{file.path} keeps weights outside of it, but does not say where; export it again")
        if Path(location).is_absolute() or Path(os.path.normpath(location)).parts[:1] == (os.pardir,):
            raise ModelFileError(
                f"{file.path} keeps weights in {location!r}, outside of its own directory; expected a relative path below it"
            )
        if not (file.path.parent / location).is_file():
            raise ModelFileError(
                f"{file.path} keeps weights in {location!r}, which is not in {file.path.parent}; put it beside the model"
            )


def require_writable(path: StrPath, *, overwrite: bool = False, keep: Optional[StrPath] = None) -> Path:
    """Checks that ``path`` may be written, before any work is done.

    Args:
        path: the file to write.
        overwrite: whether it may exist.
        keep: a file that it must not be: the vendor's.

    Raises:
        OutputError: it exists and may not be overwritten, or its directory is missing or not writable.
    """
    path = Path(path)
    if keep is not None and path.exists() and Path(keep).exists() and path.samefile(keep):
        raise OutputError(f"{path} is the vendor's model, which is never overwritten; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; pass --overwrite to replace it, or choose another name")
    if not path.parent.is_dir():
        raise OutputError(f"the directory {path.parent} does not exist; create it or choose another")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"the directory {path.parent} is not writable; change its permissions or choose another")
    return path


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Gives a temporary path beside ``path``, and renames it to ``path`` when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: StrPath, data: bytes) -> None:
    """Writes a whole file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def copy_external_data(
    file: ModelFile, output: Path, *, changes: Optional[Pieces] = None, overwrite: bool = False
) -> None:
    """Puts the external data of a model beside ``output``, unless that is where it lies.

    Args:
        file: the model.
        output: the model that the data is for.
        changes: what is different in the copies.
        overwrite: whether files may be replaced; those of ``file`` never are.

    Raises:
        ModelFileError: a file is missing, or outside of the model's directory.
        OutputError: one is in the way; then none is written.
    """
    require_external_data(file)
    if output.parent.resolve() == file.path.parent.resolve():
        if changes:
            location = next(iter(changes))
            raise OutputError(
                f"{file.path.parent / location} holds weights of {file.path}, and other ones would be written there; "
                f"write {output.name} to another directory"
            )
        return
    for location in file.external_files:
        target = output.parent / location
        if changes and target.exists() and target.samefile(file.path.parent / location):
            raise OutputError(f"{target} is the external data of {file.path} itself; write to another directory")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists, and the external data would be written there; pass --overwrite")
    for location in file.external_files:
        target = output.parent / location
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_changed(file.path.parent / location, target, (changes or {}).get(location, {}))


def copy_changed(source: Path, target: Path, changes: Mapping[int, bytes]) -> None:
    """Copies a file, with other bytes at some offsets.

    Raises:
        OutputError: the copy cannot be written.
    """
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
        with temporary.open("r+b") as copy:
            for offset, content in changes.items():
                copy.seek(offset)
                copy.write(content)
