"""The option --workers, of commands that do many things that do not depend on one another."""

from __future__ import annotations

from tgdonnx.cli.helping import TRAINING, options_of
from tgdonnx.cluster import parse_workers

workers_option = options_of(TRAINING)(
    "--workers",
    type=parse_workers,
    metavar="N|ADDRESS",
    help="Run in N processes that share the cores, or on a Dask scheduler: its address, as tcp://host:8786, or its file. "
    "See `tgdonnx guide cluster`.",
)
