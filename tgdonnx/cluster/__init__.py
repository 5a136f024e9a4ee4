"""Calls on other processes and machines, by Dask (extra ``cluster``).

``opening``: worker processes on this machine, or a scheduler that runs; ``running``: calls, and what came of each as it is
done; ``likeness``: whether workers see what is seen here; ``calling``: what a worker does with a call; ``preloading``: what a
worker process of ours does first.

dask and distributed are imported when a cluster is opened. A function that is called there is pickled by its name, its argument
and its result by their values, and a worker makes one call at a time, with as many threads of ONNX Runtime as it has itself.
"""

from tgdonnx.cluster.calling import is_cancelled, note
from tgdonnx.cluster.likeness import require_alike, require_same_files, versions
from tgdonnx.cluster.opening import Cluster, Workers, open_cluster, parse_workers
from tgdonnx.cluster.running import Done, run_calls

__all__ = [
    "Cluster",
    "Done",
    "Workers",
    "is_cancelled",
    "note",
    "open_cluster",
    "parse_workers",
    "require_alike",
    "require_same_files",
    "run_calls",
    "versions",
]
