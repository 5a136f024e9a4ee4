"""What a command says of itself: sections, examples, and as wide as the terminal."""

from __future__ import annotations

import shlex
from typing import Optional

import click
import pytest

from tgdonnx.cli import COMMANDS, main
from tgdonnx.cli.helping import Command, folded

GENERAL = {"config", "help"}


def helped(name: str, columns: Optional[int] = 80) -> str:
    group = click.Context(main, info_name="tgdonnx", terminal_width=columns, **main.context_settings)
    return main.commands[name].get_help(click.Context(main.commands[name], group, name))


def titles(text: str) -> list[str]:
    return [line[:-1] for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]


def test_options_of_a_long_command_stand_in_sections_and_each_is_there_once() -> None:
    text = helped("finetune")
    expected = [
        "Model",
        "Data",
        "Reading data",
        "Selection",
        "Training",
        "Loss and updates",
        "Output",
        "Other",
        "Examples",
    ]
    assert titles(text) == expected
    listed = [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")]
    known = [option.opts[0] for option in main.commands["finetune"].params if isinstance(option, click.Option)]
    assert sorted(listed) == sorted([*known, "-h"])
    data = text[text.index("\nData:") : text.index("\nReading data:")]
    assert "--validation, --val " in data
    assert "--epochs" not in data


def test_options_of_a_short_command_stand_in_one_piece() -> None:
    assert titles(helped("trace")) == ["Options", "Examples"]


@pytest.mark.parametrize("name", COMMANDS)
def test_only_what_every_command_could_have_is_in_no_section(name: str) -> None:
    command = main.commands[name]
    assert isinstance(command, Command)
    outside = {str(each.name) for each in command.params if type(each) is click.Option}
    assert outside <= GENERAL


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_are_taken_by_it(name: str) -> None:
    command = main.commands[name]
    assert isinstance(command, Command)
    assert command.examples
    for example in command.examples:
        program, called, *arguments = shlex.split(example)
        assert (program, called) == ("tgdonnx", name)
        command.make_context(name, arguments, click.Context(main, info_name="tgdonnx", **main.context_settings))


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_fit_into_80_columns_and_a_shell_reads_them_as_one_command(name: str) -> None:
    shown = helped(name).partition("\nExamples:\n")[2]
    assert max(map(len, shown.splitlines())) <= 80
    command = main.commands[name]
    assert isinstance(command, Command)
    assert [line.split() for line in shown.replace("\\\n", "").splitlines()] == [
        each.split() for each in command.examples
    ]


@pytest.mark.parametrize("columns", [80, 160, 220])
def test_help_is_as_wide_as_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert columns - 20 < max(map(len, helped("finetune", columns=None).splitlines())) <= columns


def test_a_word_that_fits_nowhere_gets_a_line_of_its_own() -> None:
    assert folded(f"tgdonnx score {'m' * 40} --json", 30, 0) == f"tgdonnx score {'m' * 40} \\\n    --json\n"
