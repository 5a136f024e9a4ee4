"""What a worker does with a call: one at a time, with the threads that are its own, and telling how it goes.

Dask runs as many calls at a time as a worker has threads, in threads of one process. Here they wait for one another, and
ONNX Runtime has the threads instead: so the calls of all workers of a machine together use its cores once.
"""

from __future__ import annotations

import importlib
import pickle
import threading
from typing import Any, Callable

BEGAN, NOTE, ENDED = "began", "note", "ended"

_one_at_a_time = threading.Lock()
_under_way = threading.local()


def call(function: Callable[[Any], Any], argument: Any, topic: str, index: int) -> Any:
    """Makes one call on a worker; returns what it returns.

    Args:
        function: takes the argument.
        argument: of the call.
        topic: where whoever waits for the call listens.
        index: of the call, among those of the same topic.
    """
    from tgdonnx.runtime.options import limit_threads  # of no use where calls are only sent

    worker = importlib.import_module("distributed").get_worker()
    with _one_at_a_time:
        key = worker.get_current_task()
        _under_way.tell = lambda kind, value: worker.log_event(topic, (kind, index, pickle.dumps(value)))
        _under_way.is_wanted = lambda: _is_wanted(worker, key)
        limit_threads(worker.state.nthreads)
        _under_way.tell(BEGAN, worker.address)
        try:
            return function(argument)
        finally:
            _under_way.tell(ENDED, None)
            del _under_way.tell, _under_way.is_wanted


def _is_wanted(worker: Any, key: Any) -> bool:
    if worker.status.name not in ("running", "paused"):  # it ends, perhaps since its scheduler is gone
        return False
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing"


def note(value: object) -> None:
    """Tells whoever waits for the call that this thread makes how it goes; nobody, if it makes none.

    Args:
        value: anything small that can be pickled. What is told often should be told a few times a second at most.
    """
    tell = getattr(_under_way, "tell", None)
    if tell is not None:
        tell(NOTE, value)


def is_cancelled() -> bool:
    """Whether nobody waits any more for the call that this thread makes."""
    is_wanted = getattr(_under_way, "is_wanted", None)
    return is_wanted is not None and not is_wanted()
