"""Runs of federated training in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.federated.flower.local_grid import LocalGrid
from tests.federated.sites import data, make_site
from tgdonnx.federated.history import History, read_history
from tgdonnx.federated.plan import read_plan
from tgdonnx.federated.server_app import averaging, federate

CONFIG: dict[str, Any] = {"batch": 4, "learning-rate": 1e-2, "seed": 5, "wait": 5.0, "timeout": 30.0}


def run(grid: LocalGrid, directory: Path, output: Path, **config: Any) -> History:
    told = {key.replace("_", "-"): value for key, value in config.items()}
    plan = read_plan({**CONFIG, "artifacts": str(directory), "output": str(output), "sites": len(grid.sites), **told})
    federate(grid, plan, averaging())
    return read_history(directory)


def many(folder: Path, built: Path, sizes: dict[str, int], **more: Any) -> dict[int, Path]:
    return {
        100 - place: make_site(folder, built, name, data(size, place), **more)
        for place, (name, size) in enumerate(sizes.items())
    }


def joined(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    parts = [data(size, place) for place, size in enumerate(sizes.values())]
    return {name: np.concatenate([part[name] for part in parts]) for name in ("x", "target")}
