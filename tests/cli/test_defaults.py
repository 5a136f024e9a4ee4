"""An option has one default: that of the object which the command collects."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
import pytest

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli import main
from tgdonnx.finetuning import TrainOptions

# What the command line calls otherwise than Python, or has no option for.
NAMES = {"output": "output_name"}
WITHOUT = {"on_retain_limit"}


def parameters(command: str) -> dict[str, click.Parameter]:
    found = main.get_command(click.Context(main), command)
    assert found is not None
    return {str(parameter.name): parameter for parameter in found.params}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("build", BuildOptions()),
        ("finetune", BuildOptions()),
        ("compare", BuildOptions()),
        ("train", TrainOptions()),
        ("finetune", TrainOptions()),
        ("compare", TrainOptions()),
    ],
)
def test_every_field_of_the_options_is_an_option_with_the_same_default(command: str, options: Any) -> None:
    known = parameters(command)
    for field in fields(options):
        if field.name in WITHOUT:
            continue
        parameter = known[NAMES.get(field.name, field.name)]
        shown = parameter.default if isinstance(parameter.default, (str, int, float)) else None
        default = getattr(options, field.name)
        assert shown == (None if default == () else default), field.name
