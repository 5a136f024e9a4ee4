"""What a command writes is held against what it reads, before it starts."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tgdonnx.cli.config import CONFIG
from tgdonnx.cli.paths import OutputPath
from tgdonnx.files.model_writing import data_of
from tgdonnx.files.outputs import Kind, Output, require_outputs


def guard(command: click.Command) -> click.Command:
    """Makes a command check, before it starts, that nothing that it will write is something that it reads."""
    if not any(isinstance(parameter.type, OutputPath) for parameter in command.params):
        return command  # it writes nothing
    callback = command.callback
    assert callback is not None

    @functools.wraps(callback)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        context = click.get_current_context()
        outputs = [Output(path, kind) for path, kind in _written(context)]
        # Of a run that goes on the command itself says what is there, for it knows whether that is its result.
        overwrite = bool(context.params.get("overwrite") or context.params.get("resume"))
        require_outputs(outputs, list(_read(context)), overwrite=overwrite, rewritten=list(_rewritten(outputs)))
        return callback(*args, **kwargs)

    command.callback = guarded
    return command


def _rewritten(outputs: Iterable[Output]) -> Iterator[Path]:
    """Gives the masked models in directories that they are built into again: they are there afterwards as well."""
    for each in outputs:
        if each.kind is Kind.ARTIFACTS:
            from tgdonnx.artifacts.manifest import MASKED_MODEL  # brings its room, which most commands do without

            yield from (each.path / MASKED_MODEL, data_of(each.path / MASKED_MODEL))


def _written(context: click.Context) -> Iterator[tuple[Path, Kind]]:
    for parameter in context.command.params:
        path = context.params.get(str(parameter.name))
        if isinstance(parameter.type, OutputPath) and path is not None:
            yield path, parameter.type.kind


def _read(context: click.Context) -> Iterator[Path]:
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if not isinstance(parameter.type, OutputPath):
            yield from (each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Path))
    if CONFIG in context.meta:
        yield context.meta[CONFIG]
