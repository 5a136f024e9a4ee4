"""Load an ONNX file, and write files so that a crash leaves either the old state or the new one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Optional, Union

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from tgdonnx import bounds
from tgdonnx.errors import ModelFileError, OutputError
from tgdonnx.files import wire
from tgdonnx.files.access import writing
from tgdonnx.files.durability import on_disk
from tgdonnx.files.external_data import Outside, relocated, require_inside, resolve_external, tensors_outside
from tgdonnx.files.in_memory import IN_MEMORY, ModelInMemory, bytes_of
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.nearby import meant_by
from tgdonnx.files.paths import why_unwritable
from tgdonnx.files.regular import TooLargeError, read_regular
from tgdonnx.files.relocation import entries_in, with_entries

StrPath = Union[str, "os.PathLike[str]"]
Pieces = Mapping[str, Mapping[int, bytes]]
"""For files with external data, bytes that lie at offsets."""


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on disk, or as it would.

    Attributes:
        path: where it was read; `IN_MEMORY` for a model that was not, which has no external data.
        data: its bytes.
        proto: the same, parsed; external data is not loaded. Never changed.
    """

    path: Path
    data: bytes = field(repr=False)
    proto: onnx.ModelProto = field(repr=False)

    @property
    def in_memory(self) -> bool:
        """Whether it lies nowhere on disk."""
        return self.path == IN_MEMORY

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, in hex; external data is not part of it."""
        return hashlib.sha256(self.data).hexdigest()

    def to_ir(self) -> ir.Model:
        """Returns the model for analysis. Tensors are read when they are asked for; value names are the file's.

        Raises:
            ModelFileError: what is there of its external data is not what it should be; it may be missing.
        """
        proto, directory = self.proto, self.path.parent
        real = {location: path for location, path in self.external_paths() if path is not None}
        if any(Path(os.path.realpath(directory)) not in path.parents for path in real.values()):
            # A model of a cache of links: `directories_of` allows it, onnx_ir only if it is told the true names.
            directory = Path(os.path.realpath(self.path)).parent
            proto = relocated(proto, {location: os.path.relpath(path, directory) for location, path in real.items()})
        model = ir.from_proto(proto)
        for graph in (model.graph, *(function.graph for function in model.functions.values())):
            ir.external_data.set_base_dir(graph, directory)
        return model

    @cached_property
    def outside(self) -> tuple[Outside, ...]:
        """The tensors whose data lies in other files.

        Raises:
            ModelFileError: the model says something of them that cannot be.
        """
        return tensors_outside(self.proto, self.path)

    @cached_property
    def external_files(self) -> tuple[str, ...]:
        """The files that hold its external data, as the model names them: relative to its directory."""
        return tuple(sorted({tensor.location for tensor in self.outside}))

    def with_external_data(self, name: Optional[str], data: Optional[bytes] = None) -> bytes:
        """Returns the file as it is with external data of its own.

        Args:
            name: of the file for it; None for a model that has none, which stays as it is.
            data: the model file, if it has other values now; external tensors are where they were.
        """
        content = self.data if data is None else data
        return content if name is None else with_entries(content, entries_in(name, self.outside))

    def external_paths(self) -> Iterator[tuple[str, Optional[Path]]]:
        """Yields for each external file where it really lies, if it is there, and checks that it is what it should be."""
        furthest = {tensor.location: tensor for tensor in sorted(self.outside, key=lambda tensor: tensor.end)}
        for location in self.external_files:
            path = None
            if os.path.lexists(self.path.parent / location):
                path = resolve_external(self.path, location)
                require_inside(furthest[location], path.stat().st_size)
            yield location, path


ModelSource = Union[StrPath, ModelInMemory, ModelFile]
"""A model as it is given: the path of its file, the model itself, or what was read already."""


def load_model(source: ModelSource) -> ModelFile:
    """Reads an ONNX file, or takes a model in memory as the file that it would be; what was read already stays as it is.

    Raises:
        ModelFileError: the file is missing, no ONNX model, truncated, or its graph is empty; or a model in memory refers to
            external data, of which nobody knows where it lies.
    """
    if isinstance(source, ModelFile):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _parsed(Path(source), _read(Path(source)))
    file = _parsed(IN_MEMORY, bytes_of(source))
    if file.outside:
        raise ModelFileError(
            f"{IN_MEMORY} keeps weights in {file.external_files[0]!r}, and where that lies is not known",
            remedy="give the path of its file, or load the weights into it",
        )
    return file


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, bounds.MODEL_BYTES)
    except TooLargeError as error:
        raise ModelFileError(
            f"{path} cannot be read: {error.strerror}, as protobuf has no longer messages",
            remedy="save it with external data",
        ) from error
    except OSError as error:
        meant = meant_by(path) if isinstance(error, FileNotFoundError) else ""
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}{meant}") from error


def _parsed(path: Path, data: bytes) -> ModelFile:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        if wire.graphs_nest_deeper(data, bounds.GRAPH_DEPTH):
            raise ModelFileError(
                f"{path} has graphs inside nodes more than {bounds.GRAPH_DEPTH} graphs deep",
                remedy="export the model again",
            ) from error
        raise ModelFileError(
            f"{path} is no ONNX model, or it is truncated ({len(data):,} bytes do not parse)",
            remedy="get the file again",
        ) from error
    if not proto.ir_version or not proto.HasField("graph"):
        raise ModelFileError(f"{path} is no ONNX model: it has no {'graph' if proto.ir_version else 'IR version'}")
    if proto.ir_version >= 3 and not proto.opset_import:
        raise ModelFileError(
            f"{path} imports no operator set, so it is truncated or damaged", remedy="get the file again"
        )
    if not proto.graph.node:
        raise ModelFileError(f"{path} has an empty graph: expected at least one node")
    return ModelFile(path, data, proto)


def require_external_data(file: ModelFile) -> dict[str, Path]:
    """Checks that the external data of a model is there, all of it, and nowhere but in its directory.

    Returns:
        For each file, as the model names it, where it really lies.

    Raises:
        ModelFileError: it is not.
    """
    return {location: path or resolve_external(file.path, location) for location, path in file.external_paths()}


def require_writable(path: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a file may be written, before any work is done; `tgdonnx.files.outputs` says what it must not be.

    Args:
        path: the file to write.
        overwrite: whether it may exist.

    Raises:
        OutputError: it exists and may not be overwritten, is no file, or its directory is missing or not writable.
    """
    path = Path(path)
    if reason := why_unwritable(path):
        raise OutputError(f"{str(path)!r} can be no file: {reason}", remedy="choose another name")
    if path.is_dir():
        raise OutputError(f"{path} is a directory; expected the name of a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no regular file, and is not replaced", remedy="choose another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists", remedy="pass `overwrite=True` to replace it, or choose another name")
    if not path.parent.is_dir():
        raise OutputError(f"the directory {path.parent} does not exist", remedy="create it or choose another")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"the directory {path.parent} is not writable", remedy="change its permissions or choose another"
        )
    return path


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """Gives a temporary path beside ``path``, and renames it to ``path`` when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        with writing(path):
            yield temporary
            with temporary.open("rb") as file:
                on_disk(file.fileno(), path)
            os.replace(temporary, path)
            remove_leftovers(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: StrPath, data: bytes) -> None:
    """Writes a whole file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
