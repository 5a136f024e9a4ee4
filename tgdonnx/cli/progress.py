"""Progress bars, on stderr: of a training run, and of anything that is counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Callable

from rich import progress as rich_progress
from rich.console import RenderableType
from rich.text import Text

from tgdonnx.cli.output import stderr
from tgdonnx.cli.results import epoch_line, title
from tgdonnx.finetuning import Epoch, Progress
from tgdonnx.reporting.legible import legible

_MOMENT = 1.0  # seconds


class _Bar(rich_progress.Progress):
    """A bar, and under it a line of numbers: side by side they would not fit into 80 columns."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Gives the two lines."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["numbers"], no_wrap=True, overflow="ellipsis")


@dataclass(frozen=True)
class Shown:
    """What to call after every step, and after every epoch or validation."""

    step: Callable[[Progress], None]
    epoch: Callable[[Epoch], None]


@contextmanager
def training_bar() -> Iterator[Shown]:
    """Shows where a run is, loss, validation, speed and time left; a line per epoch and validation stays, terminal or not."""
    columns = (
        rich_progress.TextColumn("epoch {task.fields[epoch]}"),
        rich_progress.BarColumn(20),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[speed]}"),
    )
    bar = _Bar(*columns, console=stderr())
    task = bar.add_task("train", total=None, epoch=1, numbers="", speed="")
    try:

        def show(state: Progress) -> None:
            bar.start()  # not before there is something to show: bad input gets an error message alone
            bar.update(
                task,
                completed=state.step,
                total=state.steps,
                epoch=state.epoch,
                numbers=numbers_of(state),
                speed=speed_of(state),
            )

        def stay(epoch: Epoch) -> None:
            if epoch.step or epoch.validation is not None or epoch.retain:  # else nothing is known at the start
                bar.console.print(epoch_line(epoch), soft_wrap=True)
            numbers = [f"{title(name)} {value:.4g}" for name, value in epoch.metrics.items() if value is not None]
            if epoch.validation is not None and bar.live.is_started:
                bar.update(task, numbers="  ".join([f"validation {epoch.validation:.4g}", *numbers]))

        yield Shown(show, stay)
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def counting_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Gives what shows how many of how many are done, and what is at hand; nothing is shown of what takes a moment."""
    columns = (
        rich_progress.BarColumn(20),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.description}"),
    )
    console, started = stderr(), time.monotonic()
    bar = rich_progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=None)

    def show(done: int, total: int, what: str) -> None:
        if time.monotonic() - started > _MOMENT:
            bar.start()
        bar.update(task, completed=done, total=total, description=legible(what))

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def numbers_of(state: Progress) -> str:
    """Returns the loss and the latest validation in words."""
    told = [f"loss {state.loss:.4g}"]
    if state.validation is not None:
        told.append(f"validation {state.validation:.4g}")
    return "  ".join([*told, *(f"{name} {value:.4g}" for name, value in state.metrics.items() if value is not None)])


def speed_of(state: Progress) -> str:
    """Returns images per second, the share of waiting for data, and the time left."""
    left = timedelta(seconds=round(state.seconds_left))
    return f"{state.images_per_second:.3g} images/s, {state.wait:.0%} wait, {left} left"
