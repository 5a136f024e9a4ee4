"""The option --config: options of a command from a YAML or TOML file. What the command line says wins."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx import bounds
from tgdonnx.cli.paths import PATH
from tgdonnx.errors import DataError, RuntimeMissingError, TgdonnxError
from tgdonnx.regular import read_regular

CONFIG = "tgdonnx.config"
"""Under this key of a context's ``meta`` is the file of --config, which no command gets to see."""


def _apply(ctx: click.Context, _: click.Parameter, path: Optional[Path]) -> None:
    if path is None:
        return
    ctx.meta[CONFIG] = path
    known = {
        option.lstrip("-"): parameter
        for parameter in ctx.command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for option in parameter.opts
    }
    defaults: dict[str, Any] = {}
    for key, value in _read(path).items():
        name = str(key).replace("_", "-")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; expected options of `{ctx.command_path}`, without dashes"
            )
            raise DataError(f"{path}: unknown key {key!r}{meant}")
        parameter = known[name]
        if parameter.name in defaults:
            raise DataError(f"{path}: {name!r} is given twice")
        defaults[str(parameter.name)] = _value(path, name, parameter, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _value(path: Path, name: str, parameter: click.Option, value: Any) -> Any:
    values = value if isinstance(value, list) and parameter.multiple else [value]
    if not all(isinstance(item, (str, int, float)) for item in values):
        several = " or a list of them" if parameter.multiple else ""
        raise DataError(f"{path}: expected {name!r} to be text, a number or true or false{several}, got {value!r}")
    if parameter.is_flag != isinstance(value, bool):
        expected = "true or false" if parameter.is_flag else "a value, not true or false"
        raise DataError(f"{path}: expected {name!r} to be {expected}, got {value!r}")
    return values if parameter.multiple else value


def _read(path: Path) -> dict[Any, Any]:
    try:
        data = read_regular(path, bounds.CONFIG_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    readers = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
    if path.suffix not in readers:
        raise DataError(f"{path}: expected a file that ends in {', '.join(readers)}")
    try:
        content = readers[path.suffix](data.decode("utf-8"))
    except TgdonnxError:
        raise
    except ValueError as error:  # of both formats, and of text that is no UTF-8
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected options and their values, such as `epochs: 20`, got {type(content).__name__}"
        )
    return content


def _toml(text: str) -> Any:
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    return importlib.import_module(name).loads(text)


def _yaml(text: str) -> Any:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise RuntimeMissingError(
            f"YAML needs PyYAML ({error}); pip install 'tgdonnx[yaml]', or write the options as TOML"
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


config_option = click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    type=PATH,
    callback=_apply,
    help="YAML or TOML file with options of this command, without dashes; the command line wins.",
)
