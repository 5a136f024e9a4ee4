"""The progress bar of a training run, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from rich import progress as rich_progress

from tgdonnx.cli.output import stderr
from tgdonnx.finetuning import Progress


@contextmanager
def training_bar() -> Iterator[Callable[[Progress], None]]:
    """Shows epoch, loss and time left; gives the function to call after every step."""
    columns = (
        rich_progress.TextColumn("epoch {task.fields[epoch]}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("loss {task.fields[loss]}"),
        rich_progress.TextColumn("{task.fields[validation]}"),
        rich_progress.TimeRemainingColumn(),
    )
    bar = rich_progress.Progress(*columns, console=stderr())
    task = bar.add_task("train", total=None, epoch=1, loss="", validation="")
    try:

        def show(state: Progress) -> None:
            bar.start()  # not before there is something to show: bad input gets an error message alone
            validation = "" if state.validation is None else f"validation {state.validation:.4g}"
            bar.update(
                task,
                completed=state.step,
                total=state.steps,
                epoch=state.epoch,
                loss=f"{state.loss:.4g}",
                validation=validation,
            )

        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
