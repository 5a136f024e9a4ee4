"""``state.safetensors``: the parameters, what the optimizer remembers of them, and where the run stands.

A safetensors file of float32 tensors: every parameter by its name, and its moments as `models.moment_names` calls them. Its
metadata has, as text,

    tgdonnx.format     1
    tgdonnx.updates    how often the optimizer moved the parameters
    tgdonnx.run        the state of the run, as JSON; missing before the first step
    tgdonnx.sha256     SHA-256 of all else: of names, types, shapes and contents, in the order of names, and of the metadata

The file is written beside its place and renamed: it is there whole or not at all, and its parts belong together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import replacing

FORMAT = 1
STATE, BEST_STATE = "state.safetensors", "state.best.safetensors"
_FORMAT, _UPDATES, _RUN, _SHA256 = (f"tgdonnx.{word}" for word in ("format", "updates", "run", "sha256"))
_REMEDY = "copy the directory again if it is a copy, or build and train again"


@dataclass(frozen=True)
class State:
    """What a checkpoint holds.

    Attributes:
        tensors: parameters and moments by name, float32.
        updates: how often the optimizer moved the parameters.
        run: the state of the run, as JSON; None before the first step.
    """

    tensors: Mapping[str, NDArray[np.float32]] = field(repr=False)
    updates: int = 0
    run: Optional[str] = None


def write_state(path: Path, state: State) -> None:
    """Writes a checkpoint.

    Raises:
        OutputError: it cannot be written.
    """
    metadata = {_FORMAT: str(FORMAT), _UPDATES: str(state.updates)}
    if state.run is not None:
        metadata[_RUN] = state.run
    tensors = {name: np.asarray(array, order="C") for name, array in state.tensors.items()}
    data = save(tensors, {**metadata, _SHA256: _digest(tensors, metadata)})
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_ordered_header(data))
        file.write(memoryview(data)[_end_of_header(data) :])


def _ordered_header(data: bytes) -> bytes:
    """Returns the header of a safetensors file with its metadata in order: the library writes it in another one every time."""
    header = json.loads(data[8 : _end_of_header(data)])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _end_of_header(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def read_state(path: Path) -> State:
    """Reads a checkpoint, and checks that it is as it was written.

    Raises:
        ArtifactsError: it cannot be read, or is not as it was written.
    """
    if not path.is_file():
        raise ArtifactsError(f"{path} is no file", remedy="build the artifacts again")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ArtifactsError(f"{path} is no readable checkpoint: {error}; {_REMEDY}") from error
    written = metadata.pop(_SHA256, "")
    if not hmac.compare_digest(_digest(tensors, metadata).encode(), written.encode()):
        raise ArtifactsError(
            f"{path} is damaged: its content is not what was written (its SHA-256 is another); {_REMEDY}"
        )
    if metadata.get(_FORMAT) != str(FORMAT):
        raise ArtifactsError(
            f"{path} has format {metadata.get(_FORMAT)}; this version reads format {FORMAT}: update tgdonnx"
        )
    return State(tensors, int(metadata[_UPDATES]), metadata.get(_RUN))


def _digest(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
