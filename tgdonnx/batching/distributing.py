"""Jobs on workers: several at a time where they are small, so that a call costs little beside what is done in it.

A worker keeps what jobs share open from one call to the next. A call whose worker dies is made again, and goes on: jobs that it
did are done, and the one at hand is resumed. Where every worker died that made a call, its jobs are handed out one by one, so
that only the one fails that ends its worker.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGTERM
from typing import Optional

from tgdonnx.batching.jobs import BatchJob
from tgdonnx.batching.records import JobResult
from tgdonnx.batching.running import Runner
from tgdonnx.cluster import Cluster, is_cancelled, run_calls
from tgdonnx.errors import ClusterError, StoppedError
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import Progress, Watch

_CALL = 1.0  # seconds that a call takes, at most, where jobs are that small
_CALLS = (
    10  # a second, of all workers together; whoever hands out takes some 30 ms for each, see `tools/measure_batch.py`
)
_MOST = 1024  # jobs of a call


@dataclass(frozen=True)
class _Portion:
    """Jobs of a call.

    Attributes:
        directory: of the batch.
        jobs: the jobs.
    """

    directory: Path
    jobs: tuple[BatchJob, ...]


@dataclass
class _Portions(Iterator[_Portion]):
    """Hands out jobs, as many at a time as take about a second, of many workers longer; the last ones in smaller portions.

    Attributes:
        directory: of the batch.
        left: jobs that were not handed out.
        workers: gives how many workers there are.
        alone: jobs that are handed out by themselves.
        given: what was handed out, in order.
        seconds: that a job took, on average of the latest call; 0 before the first is done.
    """

    directory: Path
    left: deque[BatchJob]
    workers: Callable[[], int]
    alone: deque[BatchJob] = field(default_factory=deque)
    given: list[tuple[BatchJob, ...]] = field(default_factory=list)
    seconds: float = 0.0

    def __next__(self) -> _Portion:
        """Returns the next portion.

        Raises:
            StopIteration: there is none, for now.
        """
        if self.alone:
            chosen: tuple[BatchJob, ...] = (self.alone.popleft(),)
        elif self.left:
            workers = self.workers()
            fair, wanted = -(-len(self.left) // (2 * workers)), max(_CALL, workers / _CALLS)
            size = 1 if not self.seconds else max(1, min(_MOST, int(wanted / self.seconds), fair))
            chosen = tuple(self.left.popleft() for _ in range(min(size, len(self.left))))
        else:
            raise StopIteration
        self.given.append(chosen)
        return _Portion(self.directory, chosen)


def run_on_cluster(
    cluster: Cluster, directory: Path, jobs: Sequence[BatchJob], check: Callable[[], None]
) -> Iterator[JobResult]:
    """Does jobs on workers, and yields results in the order in which they are done.

    Args:
        cluster: the workers, which see the same files under the same paths.
        directory: of the batch.
        jobs: what to do.
        check: called a few times a second; what it raises ends the work.

    Raises:
        ClusterError: the scheduler is gone.
    """
    portions = _Portions(directory.absolute(), deque(jobs), lambda: cluster.size)
    for done in run_calls(cluster, _do, portions, check=check):
        chosen, portions.given[done.index] = portions.given[done.index], ()  # not all of a long list is kept
        if done.value is not None:
            portions.seconds = sum(each.seconds + each.overhead for each in done.value) / len(chosen)
            yield from done.value
        elif len(chosen) > 1:
            portions.alone.extend(chosen)
        else:
            yield JobResult(chosen[0].name, "failed", str(done.error))


_RUNNERS: dict[Path, Runner] = {}


def _do(portion: _Portion) -> tuple[JobResult, ...]:
    """Does jobs on a worker.

    Raises:
        ClusterError: nobody waits for them any more.
    """
    runner = _runner(portion.directory)
    results = []
    try:
        for job in portion.jobs:
            _stop_if_cancelled()
            results.append(runner.run(job, Watch(on_progress=_stop_if_cancelled)))
    except StoppedError as error:
        raise ClusterError("cancelled") from error
    finally:
        runner.waiting.sync()
    return tuple(results)


def _runner(directory: Path) -> Runner:
    """Returns what runs the jobs of a batch in this process; only that of the latest batch stays open."""
    if directory not in _RUNNERS:
        _RUNNERS.clear()
        held = ExitStack()
        atexit.register(held.close)
        _RUNNERS[directory] = Runner(directory, held.enter_context(scratch_directory()))
    return _RUNNERS[directory]


def _stop_if_cancelled(_: Optional[Progress] = None) -> None:
    if is_cancelled():
        raise StoppedError("nobody waits for this job any more", int(SIGTERM))
