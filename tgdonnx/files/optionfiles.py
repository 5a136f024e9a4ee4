"""Files that a person writes: options as YAML or TOML, lists of filters as JSON, criteria as either. Read, and nothing more.

A key is there once; YAML has neither tags nor aliases here, which in a few lines can ask for any object, or for billions of
values; depth and size are bounded. What is wrong becomes a `ValueError` with one line, for the caller to name the file.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec

from tgdonnx import bounds
from tgdonnx.errors import RuntimeMissingError, SelectionError, TgdonnxError
from tgdonnx.files.regular import read_regular

_DEEPEST = 8  # of YAML, whose reader takes time with the square of the depth; options are a mapping with lists in it
_DOTTED = re.compile(r"(?<![\w-])(?:[\w-]+[\s\"']*\.[\s\"']*){64}")  # a key of so many parts; a UID has at most 32

Filters = dict[str, list[Annotated[int, msgspec.Meta(ge=0)]]]


def read_options(path: Path) -> Any:
    """Returns the content of a YAML or TOML file; None if it is empty.

    Raises:
        ValueError: it cannot be read, or is neither.
        RuntimeMissingError: it is YAML, and PyYAML is not installed.
    """
    readers: dict[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ValueError(f"expected a file that ends in {', '.join(readers)}")
    return _parsed(readers[suffix], _read(path))


def read_settings(path: Path) -> tuple[Any, str]:
    """Returns the content of a TOML or JSON file, and its text, which is that in UTF-8.

    Raises:
        ValueError: it cannot be read, or is neither.
    """
    data = _read(path)
    return parse_settings(path.name, data), data.decode()


def parse_settings(name: str, data: bytes) -> Any:
    """Returns the content of a TOML or JSON file of which the name and the bytes are known.

    Raises:
        ValueError: it is neither.
    """
    readers: dict[str, Callable[[str], Any]] = {".toml": _toml, ".json": _json}
    suffix = Path(name).suffix.lower()
    if suffix not in readers:
        raise ValueError(f"expected a file that ends in {', '.join(readers)}")
    return _parsed(readers[suffix], data)


def read_filters(path: Path) -> Filters:
    """Reads a list of filters: a JSON object with the rows to retrain by the names of weights.

    Raises:
        SelectionError: the file is none.
    """
    try:
        content = _parsed(_json, _read(path))
    except ValueError as error:
        raise SelectionError(f"{path} cannot be read as JSON: {error}") from error
    try:
        return msgspec.convert(content, Filters)
    except msgspec.ValidationError as error:
        raise SelectionError(f'{path}: expected an object such as {{"conv1.weight": [0, 5]}}: {error}') from error


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, bounds.CONFIG_BYTES)
    except OSError as error:
        if isinstance(error, TgdonnxError):
            raise
        raise ValueError(f"{error.strerror or error}") from error


def _parsed(parse: Callable[[str], Any], data: bytes) -> Any:
    try:
        return parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 text: {error.reason} at byte {error.start}") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deeply") from error
    except ValueError as error:  # of all formats
        said = " ".join(str(error).split())
        raise ValueError(said if len(said) <= 300 else f"{said[:300]}...") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice; leave one out")
        found[key] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)


def _toml(text: str) -> Any:
    if _DOTTED.search(text):  # its reader takes time with the square of the depth
        raise ValueError("it is nested too deeply")
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


def _yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise RuntimeMissingError(
            f"YAML needs PyYAML ({error}); pip install 'tgdonnx[yaml]', or write the options as TOML"
        ) from error
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # lazily: what is refused is not read to its end
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError("it is nested too deeply")
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"aliases (*{event.anchor}) are not taken; write the value out")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(node, yaml.MappingNode):
            names = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
            if twice is not None:
                raise ValueError(f"{twice!r} is there twice; leave one out")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
