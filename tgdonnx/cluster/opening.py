"""Workers to make calls on: processes of this machine, or those of a scheduler that runs somewhere."""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import current_process
from pathlib import Path
from typing import Any, Union

from tgdonnx.errors import ClusterError, RuntimeMissingError
from tgdonnx.files.scratch import scratch_directory

Workers = Union[int, str]
"""How many processes of this machine, or the address of a scheduler (``tcp://host:8786``), or its file."""

DEATHS = 3
"""So many workers may die under one call, on this machine, before it counts as failed."""
ANSWERS_WITHIN = 10  # seconds
JOINS_WITHIN = 60  # seconds
ENDS_WITHIN = 60  # seconds
_PROTOCOLS = ("tcp", "tls", "ws", "wss", "ucx", "inproc")


@dataclass(frozen=True)
class Cluster:
    """Workers that wait for calls.

    Attributes:
        client: of ``distributed``.
        where: what it is, for messages.
        local: whether its workers are processes of this machine that end with it.
    """

    client: Any = field(repr=False)
    where: str
    local: bool

    @property
    def size(self) -> int:
        """How many workers there are now, at least one: those that died are replaced, and others may join."""
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))


def parse_workers(text: Union[str, int]) -> Workers:
    """Reads what a user says of workers.

    Raises:
        ClusterError: it is no number of at least 1, no address and no scheduler file.
    """
    stripped = str(text).strip()  # a file of options has numbers
    if stripped.isascii() and stripped.lstrip("+-").isdecimal():
        return _require_number(int(stripped))
    if stripped.partition("://")[0] in _PROTOCOLS and stripped.partition("://")[2]:
        return stripped
    if _is_scheduler_file(Path(stripped)):
        return stripped
    raise ClusterError(
        f"{text!r}: expected a number of worker processes, the address of a scheduler, such as tcp://host:8786, or a "
        "scheduler file of Dask"
    )


def _is_scheduler_file(path: Path) -> bool:
    """Whether a file says where a scheduler is. Of one that does not, Dask's client would come to no good end."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and isinstance(content.get("address"), str)


def _require_number(count: int) -> int:
    if count < 1:
        raise ClusterError(f"expected at least 1 worker, got {count}")
    return count


@contextmanager
def open_cluster(workers: Workers) -> Iterator[Cluster]:
    """Gives workers to make calls on; those that were started for it end with the block.

    Args:
        workers: a number N starts N processes on this machine, which share its cores: each has as many threads as there are
            cores for it, at least one. One that dies is replaced. An address or the file of a scheduler takes the workers
            that it has.

    Raises:
        ClusterError: nothing answers there, no worker is there, or none can be started.
        RuntimeMissingError: dask and distributed are not installed.
        OutputError: there is no directory for temporary files.
    """
    distributed = _distributed()
    if isinstance(workers, str):
        workers = parse_workers(workers)
    if isinstance(workers, str):
        with _running(distributed, workers) as cluster:
            yield cluster
    else:
        with _local(distributed, _require_number(workers)) as cluster:
            yield cluster


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise RuntimeMissingError(
            f"workers need dask and distributed ({error})", remedy="pip install 'tgdonnx[cluster]'"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Dask logs of workers that come and go to itself; it is told in our own words."""
    logger = logging.getLogger("distributed")
    before, logger.disabled, level = logger.disabled, True, logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.disabled = before
        logger.setLevel(level)


@contextmanager
def _local(distributed: Any, count: int) -> Iterator[Cluster]:
    if getattr(current_process(), "_inheriting", False):
        raise ClusterError(
            "a worker process has run the program that started it once more",
            remedy="put what the program does under if __name__ == '__main__'",
        )
    config = {
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        "distributed.worker.multiprocessing-method": "spawn",  # a fork of a process with threads may hang
        "distributed.deploy.lost-worker-timeout": "1h",  # one that dies is not given up because the machine is busy
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.memory.terminate": False,  # the system kills what takes too much; Dask would do so at 95 %
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with _quiet(), scratch_directory() as scratch, _configured({**config, "temporary-directory": str(scratch)}):
        try:
            processes = distributed.LocalCluster(
                n_workers=count,
                threads_per_worker=max(1, _cores() // count),
                processes=True,
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                local_directory=str(scratch),
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                preload=["tgdonnx.cluster.preloading"],
            )
        except Exception as error:  # whatever stands in the way of a process, Dask's own errors among it
            raise ClusterError(
                f"{count} worker processes cannot be started: {_first_line(error)}",
                remedy="a program that starts some has to do so under if __name__ == '__main__'",
            ) from error
        try:
            with distributed.Client(processes, set_as_default=False) as client:
                client.wait_for_workers(count, timeout=JOINS_WITHIN)
                yield Cluster(client, f"{count} worker processes of this machine", local=True)
        finally:
            with suppress(distributed.TimeoutError):  # of a machine that is too busy; they end with this process
                processes.close(timeout=ENDS_WITHIN)


def _configured(config: Mapping[str, object]) -> AbstractContextManager[object]:
    made: AbstractContextManager[object] = importlib.import_module("dask").config.set(config)
    return made


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _running(distributed: Any, address: str) -> Iterator[Cluster]:
    place = {"address": address} if "://" in address else {"scheduler_file": address}
    with _quiet():
        try:
            client = distributed.Client(**place, timeout=ANSWERS_WITHIN, set_as_default=False)
        except Exception as error:  # of the network, of TLS, of another version of Dask
            raise ClusterError(
                f"no Dask scheduler answers at {address} within {ANSWERS_WITHIN} s ({_first_line(error)})",
                remedy="start one (dask scheduler), or give a number of processes of this machine",
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=JOINS_WITHIN)
            except Exception as error:
                raise ClusterError(
                    f"the scheduler at {address} has no worker, and none joined within {JOINS_WITHIN} s",
                    remedy=f"start some (dask worker {address})",
                ) from error
            yield Cluster(client, f"the workers of {address}", local=False)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
