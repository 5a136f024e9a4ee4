"""Our own files, read as types: what is not as we write it becomes one sentence that names file, field and remedy.

A reader asks for a dataclass; msgspec checks every field of it. Whatever is not checked by types, its own reader checks, and
raises ValueError inside `decode`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import msgspec
import numpy as np

from tgdonnx.errors import ArtifactsError
from tgdonnx.files.access import reading

MOST_BYTES = 256 * 2**20
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
AtLeast0 = Annotated[float, msgspec.Meta(ge=0)]
Above0 = Annotated[float, msgspec.Meta(gt=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

T = TypeVar("T")


class _Versioned(msgspec.Struct):
    format: Count


def read_bytes(path: Path, *, remedy: str, most: int = MOST_BYTES) -> bytes:
    """Returns a file of ours, if it is one that could be.

    Args:
        path: the file.
        remedy: what to do when it is not.
        most: bytes that such a file has at most.

    Raises:
        ArtifactsError: it is no file, cannot be read, or is too large.
    """
    if not path.is_file():
        raise ArtifactsError(f"{path} is {'no file' if path.exists() else 'missing'}; {remedy}")
    with reading(path, ArtifactsError), path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ArtifactsError(f"{path} is damaged (it has more than {most:,} bytes); {remedy}")
    return data


def decode(
    data: bytes,
    shape: type[T],
    where: str,
    *,
    remedy: str,
    newest: Optional[int] = None,
    upgrade: Optional[Callable[[int, dict[str, Any]], dict[str, Any]]] = None,
    check: Callable[[T], None] = lambda _: None,
) -> T:
    """Reads JSON as a type.

    Args:
        data: the JSON.
        shape: a dataclass.
        where: the file, for messages.
        remedy: what to do when it is damaged.
        newest: the newest format that we read, of files with a number of their format.
        upgrade: turns the content of an older format, whose number it is given, into that of the newest.
        check: raises ValueError where types do not say all.

    Raises:
        ArtifactsError: the data is not of this type, or of a newer format.
    """
    try:
        version = None if newest is None else msgspec.json.decode(data, type=_Versioned).format
        if newest is not None and version is not None and version > newest:
            raise ArtifactsError(f"{where} has format {version}; this version reads up to {newest}: update tgdonnx")
        if version != newest and version is not None and upgrade is not None:
            content = msgspec.convert(upgrade(version, msgspec.json.decode(data, type=dict[str, Any])), shape)
        else:
            content = msgspec.json.decode(data, type=shape)
        check(content)
    except ArtifactsError:
        raise
    except RecursionError as error:
        raise ArtifactsError(f"{where} is damaged (it is nested too deeply); {remedy}") from error
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
    ) as error:  # those of msgspec are ValueErrors
        raise ArtifactsError(f"{where} is damaged ({error}); {remedy}") from error
    return content


def encode(content: Any, *, indent: int = 0) -> bytes:
    r"""Returns a dataclass as `decode` reads it, with a newline behind it.

    Numbers that are not finite become null; in names of files, bytes that are no UTF-8 are spelled ``\xe9``.

    Args:
        content: the dataclass; numbers in it may be numpy's, and paths are written as text.
        indent: spaces per level; 0 for one line.
    """
    try:
        data = msgspec.json.encode(content, enc_hook=_plain)
    except UnicodeEncodeError:
        data = msgspec.json.encode(_spelled(msgspec.to_builtins(content, enc_hook=_plain)))
    return msgspec.json.format(data, indent=indent) + b"\n"


def _spelled(content: Any) -> Any:
    """Returns plain values with all text in them such as UTF-8 can hold."""
    if isinstance(content, dict):
        return {_spelled(key): _spelled(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_spelled(value) for value in content]
    if not isinstance(content, str):
        return content
    try:
        return content.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return content.encode("utf-8", "backslashreplace").decode("utf-8")


def retype(content: Any, shape: type[T]) -> T:
    """Returns plain values as a dataclass, by the way of JSON; they are ours, so they fit."""
    return msgspec.json.decode(encode(content), type=shape)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise NotImplementedError(f"{type(value).__name__} has no place in a file of ours")
