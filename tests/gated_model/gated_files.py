"""Gated files of small networks, and what they answer in ONNX Runtime as it is by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import onnxruntime

import tgdonnx
from tests.blending.runs import invented, reinitialised
from tests.support.models import Array, save
from tgdonnx.selection import Filters


@dataclass(frozen=True)
class Pair:
    """A vendor's file, what export made of it, and the same at blend 0."""

    vendor: Path
    tuned: Path
    without: Path


def regrown(name: str, folder: Path) -> Pair:
    """A pair of mode regrow, of a topology."""
    folder.mkdir(exist_ok=True)
    vendor, artifacts = reinitialised(name, folder)
    return _exported(vendor, artifacts, folder)


def adapted(model: onnx.ModelProto, folder: Path) -> Pair:
    """A pair of mode adapter."""
    folder.mkdir(exist_ok=True)
    vendor = save(model, folder / "model.onnx")
    masking = tgdonnx.MaskOptions("adapter", adapter=tgdonnx.Adapter(2))
    return _exported(vendor, invented(vendor, folder / "run", tgdonnx.AllLayers(), masking), folder)


def tuned_otherwise(model: onnx.ModelProto | Path, folder: Path, filters: dict[str, list[int]]) -> Pair:
    """A pair of mode paper."""
    folder.mkdir(exist_ok=True)
    vendor = model if isinstance(model, Path) else save(model, folder / "model.onnx")
    return _exported(vendor, invented(vendor, folder / "run", Filters(filters)), folder)


def _exported(vendor: Path, artifacts: Path, folder: Path) -> Pair:
    tgdonnx.export(artifacts, folder / "tuned.onnx")
    tgdonnx.export(artifacts, folder / "without.onnx", blend=0.0)
    return Pair(vendor, folder / "tuned.onnx", folder / "without.onnx")


def new_inputs(vendor: Path) -> dict[str, Any]:
    (value,) = onnx.load(vendor).graph.input
    shape = [d.dim_value or 9 for d in value.type.tensor_type.shape.dim]
    rng = np.random.default_rng(0)
    return {value.name: rng.normal(2, 1, (24, *shape[1:])).astype(np.float32)}


def answers(model: Path, feeds: dict[str, Array], g: Optional[float] = None) -> list[Array]:
    """What a file gives, in a session with the options of a user who sets none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    given: dict[str, Any] = {} if g is None else {"g": np.array([g], np.float32)}
    found: list[Array] = session.run(None, {**feeds, **given})
    return found


def same_bits(first: list[Array], second: list[Array]) -> bool:
    return len(first) == len(second) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(first, second)
    )
