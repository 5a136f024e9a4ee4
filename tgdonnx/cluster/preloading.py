"""What a worker process of this machine does before anything else; Dask imports it there by its name.

Ctrl-C in a terminal goes to all its processes, but it is the one that started the workers which ends them.
"""

from __future__ import annotations

import signal
import warnings

signal.signal(signal.SIGINT, signal.SIG_IGN)
warnings.simplefilter("ignore")  # what libraries warn of, the process that started this one has seen, or hidden
