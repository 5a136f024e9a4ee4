"""The README keeps up with the code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import tgdonnx
from tgdonnx.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_shown_in_the_readme_and_is_a_function(name: str) -> None:
    assert f"tgdonnx {name} " in README or name == "score"
    assert f"`{name}`" in README or name == "finetune"
    assert callable(getattr(tgdonnx, name))


def test_every_option_in_the_readme_exists() -> None:
    known = {
        option
        for command in main.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README.replace("pip install -e", "")))
    assert shown - known <= {"--help"}


def test_every_room_in_the_map_of_modules_exists_and_every_room_is_in_it() -> None:
    table = README[README.index("## Map of modules") : README.index("Imports run downward")]
    named = set(re.findall(r"`(?:tgdonnx/)?([\w/]+(?:\.py|/))`", table))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "tgdonnx").iterdir()}
    assert named == {name for name in there if not name.startswith(("__", "py.typed"))}
