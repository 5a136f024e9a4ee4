"""Who looks on while a run goes on, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from signal import Signals
from typing import Optional

from tgdonnx.files.model_file import StrPath
from tgdonnx.finetuning.reports import Epoch, Progress


def _nothing(_: object) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Watch:
    """Who looks on while a run goes on, and what stops it.

    Attributes:
        tensorboard: a directory for event files of TensorBoard; for those of several rounds one below it each.
        stop_on: signals that save and stop, such as SIGINT; the second one raises KeyboardInterrupt. Only in the main thread.
        on_progress: called after every step.
        on_epoch: called after every epoch, and after every validation within one.
        on_remark: called with everything that is worth knowing about the data, before the first step.
        is_wanted: asked before every batch, in any thread; once it says no, the run saves and stops, as by SIGTERM.
        on_drop_test: called with the passes of the drop test that are done, and with how many there are, where it chooses what
            trains.
    """

    tensorboard: Optional[StrPath] = None
    stop_on: Collection[Signals] = ()
    on_progress: Callable[[Progress], None] = _nothing
    on_epoch: Callable[[Epoch], None] = _nothing
    on_remark: Callable[[str], None] = _nothing
    is_wanted: Callable[[], bool] = lambda: True
    on_drop_test: Callable[[int, int], None] = lambda _done, _total: None

    def without_repetition(self) -> Watch:
        """Returns one that is told every remark once."""
        said: set[str] = set()

        def tell(remark: str) -> None:
            if remark not in said:
                said.add(remark)
                self.on_remark(remark)

        return replace(self, on_remark=tell)
