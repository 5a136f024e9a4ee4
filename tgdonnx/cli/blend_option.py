"""The option --blend of commands that train: a number, or ``auto``."""

from __future__ import annotations

from typing import Literal, Optional, Union

import click

from tgdonnx.cli.helping import OUTPUT, options_of

Blend = Union[float, Literal["auto"]]


def blend_value(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Optional[Blend]:
    """Reads a number from 0 to 1, or ``auto``.

    Raises:
        BadParameter: it is neither.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    try:
        blend = float(text)
    except ValueError:
        blend = -1.0
    if not 0 <= blend <= 1:
        raise click.BadParameter(f"expected a number from 0 to 1, or auto; got {text!r}")
    return blend


blend_option = options_of(OUTPUT)(
    "--blend",
    callback=blend_value,
    metavar="A|auto",
    help="How far the tuned model goes from what training started from (0) to what it came to (1). auto: the smallest within "
    "one standard error of the lowest validation loss, or the lowest within --retain-limit, which then stops no run.  "
    "[default: 1; auto, where nothing is selected and there is validation data]",
)
