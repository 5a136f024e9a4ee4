"""Options become objects: a command is handed what a stage takes, not option by option."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Callable

Body = Callable[..., Any]
"""A function that becomes a command, or one that hands it what it takes."""


def collected(
    name: str,
    make: Callable[..., object],
    *options: Callable[[Body], Body],
    called: Mapping[str, str] = MappingProxyType({}),
    together: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Callable[[Body], Body]:
    """Adds options to a command, which gets one object of them.

    Args:
        name: the parameter of the command that the object is for.
        make: makes it. Its parameters are options, of these or of others of the command, or objects that were collected of
            them by a decorator further up; those that the command does not have are left at their defaults.
        options: in the order of the help.
        called: for parameters of ``make`` what the command calls their options, where that is something else.
        together: for parameters of ``make`` that are mappings the options whose values they hold, by name.
    """
    parameters = [parameter for parameter in inspect.signature(make).parameters if parameter not in together]
    wanted = {parameter: called.get(parameter, parameter) for parameter in parameters}

    def decorate(command: Body) -> Body:
        @functools.wraps(command)
        def collecting(**given: Any) -> Any:
            chosen = {parameter: given.pop(each) for parameter, each in wanted.items() if each in given}
            held = {parameter: {each: given.pop(each) for each in several} for parameter, several in together.items()}
            return command(**given, **{name: make(**chosen, **held)})

        made: Body = collecting
        for option in reversed(options):
            made = option(made)
        return made

    return decorate
