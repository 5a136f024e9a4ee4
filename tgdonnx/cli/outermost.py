"""The outermost layer: what ends a command is said in a line or two, and the exit status tells which kind of end it was."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Optional

import click

from tgdonnx.calls import words_of_reader
from tgdonnx.cli import streams
from tgdonnx.cli.spelling import spelled
from tgdonnx.errors import DataError, StoppedError, TgdonnxError

REFUSED = 2
INTERRUPTED = 130
READER_GONE = 141  # as shells say of a program that SIGPIPE ended

_NO_MEMORY = (
    "there is not enough memory for this; close other programs, or give it less: a smaller batch, fewer samples"
)
_NO_ROOM = "{}; free some where the output goes and where temporary files go"
_NO_ROOM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Outermost(click.Group):
    """A group of commands that ends with a sentence, whatever happens in one of them."""

    def main(
        self,
        args: Optional[Sequence[str]] = None,
        prog_name: Optional[str] = None,
        complete_var: Optional[str] = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command and exits."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        streams.prepare()
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.UsageError as error:
            usage = (
                []
                if error.ctx is None
                else [error.ctx.get_usage(), f"Try '{error.ctx.command_path} --help' for help.", ""]
            )
            status = _refuse(error.format_message(), before=usage)
        except click.ClickException as error:
            status = _refuse(error.format_message())
        except click.Abort:
            status = INTERRUPTED
        sys.exit(_flushed(status if isinstance(status, int) else 0))

    def make_context(
        self, info_name: Optional[str], args: list[str], parent: Optional[click.Context] = None, **extra: Any
    ) -> click.Context:
        """Reads what stands before the name of the command."""
        with _ended(verbose=False):
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the options of the group; where there is nothing at all, help is what is wanted.

        Raises:
            Exit: there is nothing.
        """
        if not args and not ctx.resilient_parsing:
            for line in ctx.get_help().splitlines():
                _say(line)
            ctx.exit(REFUSED)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what it raises becomes a sentence and an exit status."""
        verbose = bool(ctx.params["verbose"])
        if verbose:
            warnings.simplefilter("default")
            logging.disable(logging.NOTSET)
        with words_of_reader(spelled), _ended(verbose=verbose):
            return super().invoke(ctx)


@contextlib.contextmanager
def _ended(*, verbose: bool) -> Iterator[None]:
    """Says why the block ended, if it did by an error.

    Raises:
        Exit: with the status of the error.
    """
    try:
        yield
    except StoppedError as error:
        _end(_refuse(str(error), status=128 + error.signal), error)
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except KeyboardInterrupt as error:
        _say("stopped")
        _end(INTERRUPTED, error)
    except BrokenPipeError as error:
        streams.abandon_stdout()
        _end(READER_GONE, error)
    except DataError as error:
        fitting = ", ".join(f"{name}={value!r}" for name, value in error.options.items())
        after = [f"Also: {each}" for each in error.also]
        after += [f"It fits with `{fitting}`."] if fitting and error.also else []
        _end(_refuse(str(error), after=after), error)
    except TgdonnxError as error:
        _end(_refuse(str(error)), error)
    except MemoryError as error:
        _end(_refuse(_NO_MEMORY), error)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM_ERRORS:
            _end(_refuse(_NO_ROOM.format(error.strerror)), error)
        if verbose:
            traceback.print_exc(file=sys.stderr)
        first_line = str(error).partition("\n")[0]
        fault = f"this is a fault of tgdonnx, not yours: {type(error).__name__}: {first_line}"
        _end(_refuse(fault, after=["Please report it with the output of `tgdonnx --verbose ...`."]), error)


def _flushed(status: int) -> int:
    """Returns the exit status after all is printed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = READER_GONE
    except OSError as error:
        status = _refuse(_NO_ROOM.format(error.strerror or error))
    else:
        return status
    streams.abandon_stdout()
    return status


def _refuse(sentence: str, *, before: Sequence[str] = (), after: Sequence[str] = (), status: int = REFUSED) -> int:
    for line in (*before, f"Error: {sentence}", *after):
        _say(line)
    return status


def _say(line: str) -> None:
    from tgdonnx.cli.output import remark  # rich, which `--help` does not need

    with contextlib.suppress(OSError):  # with no stderr to say it on, the exit status has to do
        remark(line)


def _end(status: int, cause: BaseException) -> NoReturn:
    raise click.exceptions.Exit(status) from cause
