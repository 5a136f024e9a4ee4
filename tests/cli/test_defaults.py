"""An option has one default: that of the object which the command collects."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
import pytest

from tgdonnx.artifacts import BuildOptions
from tgdonnx.cli import main
from tgdonnx.data import DataOptions
from tgdonnx.finetuning import RunData, TrainOptions
from tgdonnx.pipeline import Results
from tgdonnx.regrowing import Reinitialization

# What the command line calls otherwise than Python, or has no option for.
NAMES = {"output": "output_name"}
WITHOUT = {"on_retain_limit", "reading"}
# The option `--rebirth` says in one word what is long in Python: the kind of a reinitialisation.
SHORTER = {"kind": "rebirth"}


def parameters(command: str) -> dict[str, click.Parameter]:
    found = main.get_command(click.Context(main), command)
    assert found is not None
    return {str(parameter.name): parameter for parameter in found.params}


# What has an option of its own for each of several values, and in Python a mapping or a tuple.
COLLECTED = {"layout": "layouts", "scale": "scales"}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("build", BuildOptions),
        ("train", TrainOptions),
        ("train", RunData),
        ("train", DataOptions),
        ("finetune", Results),
        ("mask", Reinitialization),
    ],
)
def test_a_field_an_option_and_a_key_in_files_have_one_name(command: str, kind: Any) -> None:
    known = parameters(command)
    for field in fields(kind):
        if field.name in WITHOUT:
            continue
        parameter = known[NAMES.get(field.name, COLLECTED.get(field.name, field.name))]
        words = {name.lstrip("-").replace("-", "_") for name in parameter.opts}
        assert words & {field.name, field.name.rstrip("s"), SHORTER.get(field.name)}, field.name


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
