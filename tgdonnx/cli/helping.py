"""How a command shows itself: its options in sections, examples below, as wide as the terminal.

Where an option belongs is said where it is declared: ``option = options_of(DATA)``, then ``option("--data", ...)``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, Callable, Protocol, TypeVar

import click

from tgdonnx.cli.habits import option_meant

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MODEL = "Model"
DATA = "Data"
READING = "Reading data"
SELECTION = "Selection"
TRAINING = "Training"
UPDATES = "Loss and updates"
OUTPUT = "Output"
OTHER = "Other"
_ORDER = (MODEL, DATA, READING, SELECTION, TRAINING, UPDATES, OUTPUT, OTHER)

ANY_WIDTH = sys.maxsize
"""For click's ``max_content_width``: help is as wide as the terminal."""

_FEW = 9
"""So many options are read in one piece."""

_COLUMN = 30
_WIDE = 120
_WIDE_COLUMN = 46


class _Option(click.Option):
    """An option that knows its section."""

    def __init__(self, *declarations: Any, section: str, **settings: Any) -> None:
        """Takes what click's takes, and the section."""
        super().__init__(*declarations, **settings)
        self.section = section


class Declaring(Protocol):
    """What `click.option` is: from the names of an option and its settings to a decorator."""

    def __call__(self, *declarations: str, **settings: Any) -> Callable[[Decorated], Decorated]:
        """Declares an option."""


def options_of(section: str) -> Declaring:
    """Returns what declares options as `click.option` does, in a section of the help."""
    return functools.partial(click.option, cls=_Option, section=section)


class Command(click.Command):
    """A command whose help has sections and examples, and that answers other habits with the option that is meant."""

    def __init__(self, *declarations: Any, examples: Sequence[str], **settings: Any) -> None:
        """Takes what click's takes, and examples: whole commands, as a shell takes them."""
        super().__init__(*declarations, **settings)
        self.examples = tuple(examples)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the command line; what is wrong with it is answered with what was meant.

        Raises:
            UsageError: it cannot be read.
        """
        given = list(args)  # click takes them out one by one
        self._require_one_name(ctx, given)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            root = ctx.find_root().command
            others = root.commands if isinstance(root, click.Group) else {}
            meant = option_meant(error.option_name, self, others)
            raise click.UsageError(f"No such option {error.option_name!r}. {meant}".rstrip(), ctx) from error
        except click.MissingParameter as error:
            if not isinstance(error.param, click.Option):
                raise
            no_file = "-o" in error.param.opts and any(each.split("=")[0] == "--output" for each in given)
            meant = " --output names an output of the model." if no_file else ""
            raise click.UsageError(f"Missing option {error.param.opts[0]!r}: {error.param.help}{meant}", ctx) from error

    def _require_one_name(self, ctx: click.Context, given: Sequence[str]) -> None:
        """Refuses one option under two of its names, of which the last would win unheard."""
        words = [each.split("=")[0] for each in given[: given.index("--") if "--" in given else None]]
        for each in self.params:
            said = [name for name in each.opts if name in words]
            if isinstance(each, click.Option) and not each.multiple and len(said) > 1:
                raise click.UsageError(f"{' and '.join(said)} are two names of one option; give one of them", ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, section by section, in one column for all."""
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        described = [(_section(each), each.get_help_record(ctx)) for each in options]
        shown = [(section, record) for section, record in described if record is not None]
        column = _COLUMN if formatter.width < _WIDE else _WIDE_COLUMN
        widest = min(column, max(len(names) for _, (names, _) in shown))
        aligned = [(section, (names.ljust(widest), text)) for section, (names, text) in shown]
        if len(shown) <= _FEW:
            _write("Options", [record for _, record in aligned], formatter, column)
            return
        for title in _ORDER:
            _write(title, [record for section, record in aligned if section == title], formatter, column)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Examples"):
            for each in self.examples:
                formatter.write(folded(each, formatter.width, formatter.current_indent))


def _section(parameter: click.Option) -> str:
    return parameter.section if isinstance(parameter, _Option) else OTHER


def _write(title: str, records: Sequence[tuple[str, str]], formatter: click.HelpFormatter, column: int) -> None:
    if records:
        with formatter.section(title):
            formatter.write_dl(records, col_max=column)


def folded(command: str, width: int, indent: int) -> str:
    r"""Returns a command in lines of at most a width, as a shell takes them, where its words allow it.

    >>> print(folded("tgdonnx score model.onnx -o scores.csv", 30, 2), end="")
      tgdonnx score model.onnx \
          -o scores.csv
    """
    lines = [" " * indent]
    for word in command.replace(" -", "\n-").split("\n"):  # an option and its value stay together
        if lines[-1].strip() and len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append(" " * (indent + 4))
        lines[-1] += f" {word}" if lines[-1].strip() else word
    return "\n".join(lines) + "\n"
