"""tgdonnx guide."""

from __future__ import annotations

import difflib
from typing import Optional

import click

from tgdonnx.cli.helping import OUTPUT, Command, options_of
from tgdonnx.cli.output import print_json, printing, say
from tgdonnx.guides import GUIDES, summary_of, text_of

WIDEST = 100
"""Columns; longer lines are hard to read."""


def _known(_context: click.Context, _parameter: click.Parameter, name: Optional[str]) -> Optional[str]:
    if name is None or name in GUIDES:
        return name
    near = difflib.get_close_matches(name.lower(), GUIDES, 1, cutoff=0.4)
    meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(GUIDES)}"
    raise click.BadParameter(f"there is no guide {name!r}; {meant}")


@click.command(
    "guide",
    cls=Command,
    examples=(
        "tgdonnx guide",
        "tgdonnx guide runs",
    ),
)
@click.argument("name", required=False, callback=_known)
@options_of(OUTPUT)("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(name: Optional[str], as_json: bool) -> None:
    """Show a guide; without NAME, list the guides."""
    if name is None:
        listed = [{"name": each, "summary": summary_of(each)} for each in GUIDES]
        if as_json:
            print_json({"guides": listed})
        else:
            for each in listed:
                say(f"{each['name']:14}{each['summary']}")
    elif as_json:
        print_json({"name": name, "text": text_of(name)})
    else:
        _show(text_of(name))


def _show(text: str) -> None:
    from rich.markdown import Markdown  # with it come parser and highlighter, which the list does without
    from rich.text import Text

    with printing() as console:
        if console.is_terminal:
            console.print(Markdown(text), width=min(console.width, WIDEST))
        else:
            console.print(Text(text.rstrip("\n")), soft_wrap=True)
