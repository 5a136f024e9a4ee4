"""Comparisons of selections on a small network, and what tells one from another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tests.support.tuning import in_objects
from tgdonnx.comparing import CompareReport, Entry

OLD = {"x": 2 * data(4, seed=7)["x"]}
IMAGES = {"x": 3 * data(7, seed=3)["x"]}
RUN = replace(OPTIONS, epochs=2, metrics=("rmse",))
SELECT = ("none", "phi:0.3", "last:2", "all+l2sp", "phi:0.3+agree")


def within(tolerance: float) -> tgdonnx.MaskOptions:
    return tgdonnx.MaskOptions(reinitialization=tgdonnx.Reinitialization(tolerance=tolerance))


def compare(
    vendor: Any,
    folder: Path,
    select: Any = SELECT,
    options: Any = RUN,
    *,
    l2_sp: float = 0.1,
    loss: str = "mse",
    validation: Any = HELD_OUT,
    retain: Any = OLD,
    agree: Any = IMAGES,
    **more: Any,
) -> CompareReport:
    building = tgdonnx.BuildOptions(loss=loss, l2_sp=l2_sp)
    given = tgdonnx.RunData(data(), validation, retain, agree)
    return tgdonnx.compare(vendor, given, folder, select, options, building=building, **in_objects(more))


def by_name(report: CompareReport) -> dict[str, Entry]:
    return {entry.name: entry for entry in report.entries}


def facts(report: CompareReport) -> list[tuple[Any, ...]]:
    return [(entry.name, entry.curve, entry.best, entry.changed, entry.steps) for entry in report.entries]


def stored(path: Path) -> dict[str, bytes]:
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in onnx.load(path).graph.initializer}


def differing(before: Path, after: Path) -> int:
    old, new = ({t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer} for p in (before, after))
    return sum(int(np.count_nonzero(old[name] != new[name])) for name in old)
