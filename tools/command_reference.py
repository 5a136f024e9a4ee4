"""The reference of commands in the guides, from what ``--help`` says: ``python tools/command_reference.py`` writes it again."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tgdonnx.cli import COMMANDS, main

REFERENCE = Path(__file__).parents[1] / "tgdonnx" / "guides" / "commands.md"
WIDTH = 100
_HEAD = """# Commands

Every command with its options, as `tgdonnx COMMAND --help` shows them.

This guide is written by `python tools/command_reference.py`.
"""


def reference() -> str:
    """Returns the guide."""
    # With the settings of a real call: a command keeps the help option that it was first asked for.
    settings = {**main.context_settings, "max_content_width": WIDTH, "terminal_width": WIDTH}
    context = click.Context(main, info_name="tgdonnx", **settings)
    parts = [_HEAD, _block(main.get_help(context))]
    for name in COMMANDS:
        command = main.commands[name]
        inner = click.Context(command, context, name, max_content_width=WIDTH, terminal_width=WIDTH)
        parts += [f"## tgdonnx {name}\n", _block(command.get_help(inner))]
    return "\n".join(parts)


def _block(text: str) -> str:
    # Releases of click differ in the space behind what they wrap.
    return "```text\n" + re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip("\n") + "\n```\n"


if __name__ == "__main__":
    REFERENCE.write_text(reference(), "utf-8")
