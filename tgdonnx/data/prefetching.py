"""Batches of a data set, made ahead by another process where making them takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from tgdonnx.data.cases import Case
from tgdonnx.data.dataset import Dataset
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.recipe import Stream
from tgdonnx.data.scaling import Scaling
from tgdonnx.data.worker import Worker

# Once so many seconds have gone into making batches, a process takes over.
WORKER_PAYS = 1.0


class Prefetched:
    """A data set whose batches are made ahead; they are the same.

    The first ones are made here, when they are asked for. Once that has taken `WORKER_PAYS` seconds a process is started, which
    takes over when it has opened the data; data in memory stays here. Wrap a data set when all is said of it that it checks:
    the process is not told what comes later.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Wraps a data set."""
        self._dataset = dataset
        self._worker: Optional[Worker] = None
        self._seconds = 0.0

    def __len__(self) -> int:
        return len(self._dataset)

    @property
    def where(self) -> str:
        """What the data is, for messages."""
        return self._dataset.where

    @property
    def scaling(self) -> Optional[Scaling]:
        """How intensities were scaled; None if they were not."""
        return self._dataset.scaling

    @property
    def cases(self) -> tuple[Case, ...]:
        """The samples, in order."""
        return self._dataset.cases

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what the target counts; none where nobody says them."""
        return self._dataset.options.classes

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was done to the data, and what is worth knowing about it."""
        return self._dataset.remarks

    @property
    def identity(self) -> str:
        """A hash by which a resumed run knows its data again."""
        return self._dataset.identity

    def require_batch(self, size: int) -> None:
        """Checks that samples can share batches of a size, as `Dataset.require_batch` does."""
        self._dataset.require_batch(size)

    def describe(self) -> Mapping[str, Any]:
        """Returns what a run's record says of the data."""
        return self._dataset.describe()

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields what `Dataset.batches` yields.

        Raises:
            DataError: as there; the process has died.
        """
        made = self._dataset.batches(size, epoch=epoch, seed=seed, start=start)
        while self._worker is None or not self._worker.is_ready:
            begin = time.monotonic()
            batch = next(made, None)
            if batch is None:
                return
            self._seconds += time.monotonic() - begin
            yield batch
            start += 1
            if self._seconds > WORKER_PAYS and self._worker is None and sys.executable:
                recipe = self._dataset.recipe
                self._worker = Worker(recipe) if recipe is not None else None
        worker, self._worker = self._worker, None
        left = self._dataset.count_batches(size, epoch=epoch) - start
        for batch in worker.batches(Stream(size, epoch, seed, start), left):
            left -= 1
            if not left:
                self._worker = worker
            # A consumer that stops earlier leaves batches in the pipe; then the process ends with this generator.
            yield batch
