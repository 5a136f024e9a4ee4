"""Commands that are imported when they are run, or their own help is asked for: ``tgdonnx --help`` must not wait for all."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Optional

import click

from tgdonnx.cli.habits import command_meant
from tgdonnx.cli.outermost import Outermost
from tgdonnx.starting import leaving_on_interrupt


class LazyCommands(MutableMapping[str, click.Command]):
    """Commands by name; a value is imported from the module of that name in ``tgdonnx.cli`` when it is looked up."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._commands: dict[str, click.Command | None] = dict.fromkeys(names)

    def __getitem__(self, name: str) -> click.Command:
        """Returns a command."""
        command = self._commands[name]
        if command is None:
            command = self._commands[name] = _imported(name)
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        """Adds a command that is there already."""
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        """Takes a command away."""
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        """Gives the names."""
        return iter(self._commands)

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._commands)


class LazyGroup(Outermost):
    """A group that knows what its commands do before it has imported one."""

    def __init__(self, *, sections: Mapping[str, Mapping[str, str]], **settings: Any) -> None:
        """Takes the first sentence of the help of every command, by name, in the sections and the order of the list."""
        names = {name: summary for section in sections.values() for name, summary in section.items()}
        super().__init__(**settings, commands=LazyCommands(names))
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # as click has it
        """Returns the names in the order of the list."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[Optional[str], Optional[click.Command], list[str]]:
        """Finds the command that is named.

        Raises:
            UsageError: there is none.
        """
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {name!r}. {command_meant(name, self.commands)}".rstrip(), ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the list of commands from their summaries."""
        widest = max(len(name) for section in self.sections.values() for name in section)
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), summary) for name, summary in section.items()])


def _imported(name: str) -> click.Command:
    with leaving_on_interrupt():
        command: click.Command = importlib.import_module(f"tgdonnx.cli.{name}").command
        if any(isinstance(parameter.type, click.Path) for parameter in command.params):
            from tgdonnx.cli.guarding import guard  # brings onnx, which commands without files do without

            guard(command)
        return command
