"""Clusters whose workers are threads of this process: they are there in no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import distributed

from tgdonnx.cluster import Cluster


@contextmanager
def cluster_of_threads(folder: Path, *, threads: int = 1) -> Iterator[Cluster]:
    """Gives two workers.

    Args:
        folder: for what Dask writes; in its common directory tests would take one another's files away.
        threads: of each worker.
    """
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=threads,
            processes=False,
            dashboard_address=":0",
            local_directory=str(folder),
        ) as made,
        distributed.Client(made, set_as_default=False) as client,
    ):
        yield Cluster(client, "threads of this process", local=True)
