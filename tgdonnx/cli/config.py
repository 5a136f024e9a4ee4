"""The option --config: options of a command from a YAML or TOML file. What the command line says wins."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import Any, Optional

import click

from tgdonnx.cli.paths import PATH
from tgdonnx.errors import DataError
from tgdonnx.files.optionfiles import read_options

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
            near = difflib.get_close_matches(name[:_LONGEST], known, 1)
            meant = (
                f"; did you mean {near[0]!r}?"
                if near
                else f"; expected options of `{ctx.command_path}`, without dashes"
            )
            raise DataError(f"{path}: unknown key {_shown(key)}{meant}")
        parameter = known[name]
        if parameter.name in defaults:
            raise DataError(f"{path}: {name!r} is given twice")
        try:
            defaults[str(parameter.name)] = option_value(name, parameter, value)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


_LONGEST = 80


def option_value(name: str, parameter: click.Option, value: Any) -> Any:
    """Returns a value of a file as an option takes it. The command line's conversion cuts 2.5 to 2, so types are checked here.

    Args:
        name: what the file calls the option.
        parameter: the option.
        value: as the file has it.

    Raises:
        DataError: it is not what the option takes.
    """
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise DataError(f"expected {name!r} to be true or false, got {_shown(value)}")
        return value
    several = parameter.multiple or parameter.nargs != 1
    values = value if isinstance(value, list) and several else [value]
    for item in values:
        problem = _problem(parameter.type, item)
        if problem is not None:
            more = ", or a list of such" if several else ""
            raise DataError(f"expected {name!r} to be {problem}{more}, got {_shown(item)}")
    return values if several else value


def _problem(kind: click.ParamType[Any], item: Any) -> Optional[str]:
    """Returns what was expected in the place of a value; None if it is that. Text is left to the option, as in a shell."""
    if isinstance(item, str):
        return None
    if isinstance(kind, click.Path):
        return "text, a path"
    number = isinstance(item, (int, float)) and not isinstance(item, bool)
    if number and isinstance(item, int) and abs(item) >= 2**63:
        return "a number below 2^63"
    if isinstance(kind, click.types.IntParamType):
        return None if number and isinstance(item, int) else "a whole number"
    if isinstance(item, float) and not math.isfinite(item):
        return "a finite number"
    return None if number else "a value, not true or false" if isinstance(item, bool) else "text or a number"


def _shown(value: Any) -> str:
    """Returns a value for a message; what holds others only by its kind, for it may be long or endless."""
    if isinstance(value, (list, tuple, dict, set)):
        return {list: "a list", dict: "a mapping"}.get(type(value), type(value).__name__)
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _read(path: Path) -> dict[Any, Any]:
    try:
        content = read_options(path)
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected options and their values, such as `epochs: 20`, got {type(content).__name__}"
        )
    return content


config_option = click.option(
    "--config",
    is_eager=True,
    expose_value=False,
    type=PATH,
    callback=_apply,
    help="YAML or TOML file with options of this command, without dashes; the command line wins.",
)
