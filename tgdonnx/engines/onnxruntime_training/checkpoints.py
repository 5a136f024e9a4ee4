"""The checksum of a checkpoint: the last bytes of its file, so that both are there or neither is.

A checkpoint is a flatbuffer, which may be followed by anything; ours are followed by ``tgdonnx sha-256:`` and the SHA-256 (32
bytes) of all that stands before. Whoever loads the file as the runtime's stock interface does need not know. A file that ends
otherwise was written by such a stock program, and is taken as it is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional

from tgdonnx.engines.onnxruntime_training.files import BEST_CHECKPOINT, CHECKPOINT
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.access import reading
from tgdonnx.files.paths import why_no_text
from tgdonnx.runtime import load_training_api, reason_of

_MARK = b"tgdonnx sha-256:"
_SEAL = len(_MARK) + hashlib.sha256().digest_size
_BLOCK = 2**20
RUN_PROPERTY = "tgdonnx.run"
"""The property of a checkpoint that holds the state of the run, as JSON."""


def seal(path: Path) -> None:
    """Appends the checksum to a checkpoint that was just written."""
    with path.open("r+b") as file:
        digest = _digest(_blocks(file, path.stat().st_size))
        file.write(_MARK + digest)


def load_checkpoint(directory: Path, name: str) -> Any:
    """Returns the runtime's ``CheckpointState`` of a checkpoint whose checksum is right.

    Args:
        directory: the artifacts directory.
        name: the file in it.

    Raises:
        ArtifactsError: it cannot be read, or is not as it was written.
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    api = load_training_api()
    path = directory / name
    if reason := why_no_text(directory):
        raise ArtifactsError(f"{directory} cannot be opened: {reason}")
    _require_sound(directory, name)
    try:
        return api.CheckpointState.load_checkpoint(str(path))
    except RuntimeError as error:
        raise ArtifactsError(
            f"{path} is no readable checkpoint: {reason_of(error)}; {_remedy(directory, name)}"
        ) from error


def run_of(checkpoint: Any, path: Path) -> Optional[str]:
    """Returns the state of the run that wrote a checkpoint, as JSON; None if none of ours did.

    Raises:
        ArtifactsError: it is no text.
    """
    if RUN_PROPERTY not in checkpoint.properties:
        return None
    text = checkpoint.properties[RUN_PROPERTY]
    if not isinstance(text, str):
        raise ArtifactsError(
            f"the state in {path} is no text", remedy="use the other checkpoint, or build and train again"
        )
    return text


def is_sound(path: Path) -> bool:
    """Whether a checkpoint is there and is as it was written, as far as its file says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _SEAL))
            end = file.read()
            mark, written = end[: len(_MARK)], end[len(_MARK) :]
            if size < _SEAL:
                return size > 0
            file.seek(0)
            found = _digest(_blocks(file, size - _SEAL))
    except OSError:
        return False
    # With the right digest behind it, a mark that is not ours is a damaged one.
    return hmac.compare_digest(found, written) == (mark == _MARK)


def _require_sound(directory: Path, name: str) -> None:
    path = directory / name
    if not path.is_file():
        raise ArtifactsError(f"{path} is no file; {_remedy(directory, name)}")
    with reading(path, ArtifactsError), path.open("rb"):
        pass
    if not is_sound(path):
        raise ArtifactsError(
            f"{path} is damaged: its content is not what was written (its SHA-256 is another); {_remedy(directory, name)}"
        )


def _remedy(directory: Path, name: str) -> str:
    other = BEST_CHECKPOINT if name == CHECKPOINT else CHECKPOINT
    if name in (CHECKPOINT, BEST_CHECKPOINT) and (directory / other).is_file() and is_sound(directory / other):
        return f"export {other} (`checkpoint={other!r}`), copy it over {name} to go on from there, or build and train again"
    return "copy the directory again if it is a copy, or build and train again"


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        block = file.read(min(size, _BLOCK))
        if not block:
            return
        size -= len(block)
        yield block


def _digest(blocks: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()
