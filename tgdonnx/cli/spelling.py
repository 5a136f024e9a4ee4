"""What messages name as Python does (`tgdonnx.calls`), in the words of the command line. The one place that knows both.

Which option sets which field, the commands themselves say: by the names of their parameters.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import click

# Not what is in quotes, too: that is somebody's name, of a node perhaps.
_NAMED = re.compile(r"(?<!['\"])`([^`\n]+)`(?!['\"])")
_FUNCTIONS = "tgdonnx"
# Fields of reports that are sentences, and those that are calls.
_PROSE = frozenset(
    {
        "message",
        "problem",
        "remedy",
        "reason",
        "note",
        "notes",
        "error",
        "violations",
        "remarks",
        "problems",
        "sentence",
    }
)

_CALLS = frozenset({"call"})
# Functions that are options of a command.
_BY_OPTION = {"dry_run": "train --dry-run", "rehearse": "finetune --dry-run"}
# And the one that has another name than its command, since that is the name of a room.
_COMMANDS = {"examine": "data"}


def spelled(text: str) -> str:
    """Returns a message for who sits at the command line. What is nothing of ours stays as it is."""
    context = click.get_current_context(silent=True)
    if "`" not in text or context is None:
        return text
    spelling = _Spelling(context.find_root())
    return _NAMED.sub(lambda found: spelling.of(found[1]) or found[0], text)


def spelled_report(value: Any, name: str = "") -> Any:
    """Returns a report, as plain values, of which the sentences and calls are spelled."""
    if isinstance(value, dict):
        return {key: spelled_report(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [spelled_report(item, name) for item in value]
    if isinstance(value, str) and value and name in _CALLS:
        return spelled(f"`{value}`").strip("`")
    return spelled(value) if isinstance(value, str) and name in _PROSE else value


class _Spelling:
    """The commands below a root; the options of the one that runs come before those of others."""

    def __init__(self, root: click.Context) -> None:
        self._commands = root.command.commands if isinstance(root.command, click.Group) else {}
        self._running = root.invoked_subcommand

    def of(self, code: str) -> str:
        """Returns what was in backticks, spelled; empty if it is nothing of ours."""
        try:
            parsed = ast.parse(f"_({code})", mode="eval").body
        except (SyntaxError, ValueError):
            return ""
        if not isinstance(parsed, ast.Call):
            return ""
        if len(parsed.args) == 1 and not parsed.keywords:
            (only,) = parsed.args
            if isinstance(only, ast.Call):
                return self._call(only)
            if isinstance(only, ast.Attribute):
                return self._function(only)
        words = [self._option(each.id) if isinstance(each, ast.Name) else "" for each in parsed.args]
        words += [_with_value(self._option(str(each.arg)), each.value) for each in parsed.keywords]
        return " ".join(words) if all(words) else ""

    def _option(self, field: str) -> str:
        for command in self._in_turn():
            known = {**_by_parameter(command), **_by_option(command)}
            if known.get(field, "").startswith("--"):  # `output` is no -o, where files go
                return known[field]
        return ""

    def _in_turn(self) -> Iterator[click.Command]:
        if self._running is not None and self._running in self._commands:
            yield self._commands[self._running]
        yield from self._commands.values()

    def _function(self, named: ast.Attribute) -> str:
        if not isinstance(named.value, ast.Name) or named.value.id != _FUNCTIONS:
            return ""
        if _command_of(named) in self._commands:
            return f"`{_FUNCTIONS} {_command_of(named)}`"
        option = _BY_OPTION.get(named.attr)
        return f"`{_FUNCTIONS} {option}`" if option is not None else ""

    def _call(self, call: ast.Call) -> str:
        function = call.func
        if not isinstance(function, ast.Attribute) or not self._function(function):
            return ""
        if _command_of(function) not in self._commands:
            return ""
        command = self._commands[_command_of(function)]
        options = {**_by_option(command), **_by_parameter(command)}
        words = [_FUNCTIONS, _command_of(function), *(_value(each) for each in call.args)]
        words += [_with_value(options.get(str(each.arg), ""), each.value) for each in call.keywords]
        return f"`{' '.join(words)}`" if all(words) else ""


def _command_of(function: ast.Attribute) -> str:
    return _COMMANDS.get(function.attr, function.attr)


def _by_parameter(command: click.Command) -> dict[str, str]:
    """Returns for the names of a command's parameters their options."""
    return {str(each.name): _shown(each) for each in command.params if isinstance(each, click.Option)}


def _by_option(command: click.Command) -> dict[str, str]:
    """Returns for the names that options have by themselves the options."""
    return {
        name.lstrip("-").replace("-", "_"): _shown(each)
        for each in command.params
        if isinstance(each, click.Option)
        for name in each.opts
        if name.startswith("--")
    }


def _shown(option: click.Option) -> str:
    return next((name for name in option.opts if name.startswith("--")), option.opts[0])


def _with_value(option: str, value: ast.expr) -> str:
    if option and isinstance(value, ast.Dict) and _value(value):  # once for each
        pairs: dict[str, object] = ast.literal_eval(value)
        return " ".join(f"{option} {shlex.quote(f'{name}={each}')}" for name, each in pairs.items())
    given = _value(value)
    return option if not option or given in ("", "True") else f"{option} {given}"


def _value(node: ast.expr) -> str:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, (tuple, list)):  # sizes, such as 64x64, or a list
        return shlex.quote(("x" if all(type(each) is int for each in value) else ",").join(map(str, value)))
    return shlex.quote(value) if isinstance(value, str) else str(value)
