"""A tuned file of one selection, to be forged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np

from tests.support.forging import Record, body_of, entry, nudged, refused
from tgdonnx.layers import open_network
from tgdonnx.selection import score_filters
from tgdonnx.tracing import trace_network

PHI = 0.3


class Case:
    """A tuned file of one selection, to be forged."""

    def __init__(self, made: Path, work: Path, name: str) -> None:
        self.base, self.tuned, self.masked = work / "model.onnx", work / "tuned.onnx", work / "masked.onnx"
        shutil.copy(made / "model.onnx", self.base)
        shutil.copy(made / f"{name}.tuned.onnx", self.tuned)
        shutil.copy(made / f"{name}.masked.onnx", self.masked)
        self.record: Record = json.loads((made / f"{name}.json").read_text())
        self.body = body_of(self.tuned.read_bytes(), self.record)

    def write(self, record: Any = None, body: Optional[bytes] = None, number: int = 1) -> None:
        record = self.record if record is None else record
        self.tuned.write_bytes((self.body if body is None else body) + entry(number, record))

    def refused(self, *, masked: bool = False, filters: Optional[dict[str, list[int]]] = None) -> list[str]:
        return refused(self.base, self.tuned, self.masked if masked else None, filters)


def frozen(case: Case, name: str) -> int:
    """The first row of a tensor that does not train."""
    return next(m for m in range(99) if m not in case.record["trained"][name]["retrain"])


Forgery = Callable[[Case], Any]


def with_tensor(name: str, rows: list[int], *, change: bool = True) -> Forgery:
    def forge(case: Case) -> None:
        case.record["trained"][name] = {"retrain": rows, "kernels": None}
        if change:
            case.body = nudged(case.body, name, rows[0])

    return forge


def scores_of(base: Path) -> dict[str, np.ndarray]:
    provenance = trace_network(open_network(base))
    importance = score_filters(provenance, alpha=1.0, k=5).importance
    return {str(layer.weight and layer.weight.name): i.values for layer, i in zip(provenance.layers, importance)}


def is_any_score_near(phi: float, base: Path) -> bool:
    scored = score_filters(trace_network(open_network(base)), alpha=1.0, k=5)
    scores = [*(layer.values for layer in scored.importance), *(layer.kse for layer in scored.scores)]
    return any(bool((np.abs(each - phi) <= 2e-6).any()) for each in scores)
