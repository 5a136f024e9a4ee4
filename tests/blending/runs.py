"""Artifacts with a checkpoint that no training made: random numbers wherever something trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.regrowing.starts import ANY_CHANGE
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import Array, random_feeds, save
from tests.support.sessions import open_session
from tgdonnx import Reinitialization
from tgdonnx.artifacts import read_manifest
from tgdonnx.engines.onnxruntime.state import State, read_state, write_state
from tgdonnx.masked_model import read_masked
from tgdonnx.records import record_key
from tgdonnx.selection import Filters

STATE = "state.safetensors"


def invented(
    model: onnx.ModelProto | Path,
    directory: Path,
    strategy: tgdonnx.Strategy,
    masking: tgdonnx.MaskOptions = tgdonnx.MaskOptions(),  # noqa: B008  # frozen
    *,
    form: str = "masked",
    seed: int = 0,
) -> Path:
    """Masks and builds, and moves everything that trains; returns the artifacts directory."""
    directory.mkdir(exist_ok=True)
    base = model if isinstance(model, Path) else save(model, directory / "model.onnx")
    tgdonnx.mask(base, directory / "masked.onnx", strategy, masking)
    artifacts = directory / "artifacts"
    tgdonnx.build(directory / "masked.onnx", artifacts, tgdonnx.BuildOptions(engine="onnxruntime", form=form))
    state, rng = read_state(artifacts / STATE), np.random.default_rng([seed, 7])
    masked, tensors = read_masked(artifacts / "masked.onnx"), dict(state.tensors)
    dequantized = masked.network.dequantized
    for tensor in read_manifest(artifacts).trained:
        name = tensor.vendor_name
        mask = masked.masks[dequantized[name][0].name if name in dequantized else name]
        old = tensors[tensor.name]
        trains = np.ones(()) if tensor.part is not None else mask
        size = float(np.abs(old).max()) or 0.1
        tensors[tensor.name] = (old + trains * rng.normal(0, size / 2, old.shape)).astype(np.float32)
    write_state(artifacts / STATE, State(tensors, state.updates, state.run))
    return artifacts


def tensors_in(path: Path) -> dict[str, Array]:
    """Every stored tensor of a file, also those in external data and in Constant nodes."""
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors_of(onnx.load(path)).items()}


def record_in(path: Path, number: int = 1) -> dict[str, Any]:
    (text,) = [e.value for e in onnx.load(path, load_external_data=False).metadata_props if e.key == record_key(number)]
    found: dict[str, Any] = json.loads(text)
    return found


def data_of(model: onnx.ModelProto, seed: int, samples: int = 5) -> dict[str, Array]:
    """Inputs, and targets a little beside what the model gives."""
    rng = np.random.default_rng(seed)
    (name,) = random_feeds(model)
    shape = random_feeds(model)[name].shape
    x = rng.normal(size=(samples, *shape[1:])).astype(np.float32)
    y = open_session(model).run(None, {name: x})[0]
    return {name: x, "target": (0.8 * y + 0.3 + rng.normal(0, 0.1, y.shape)).astype(np.float32)}


def reinitialised(name: str, directory: Path, *, isolate: bool = False, kind: Any = "he") -> tuple[Path, Path]:
    topology = TOPOLOGIES[name]
    vendor = save(topology.build(), directory / "model.onnx")
    masking = tgdonnx.MaskOptions("regrow", Reinitialization(kind, isolate=isolate, tolerance=ANY_CHANGE))
    return vendor, invented(vendor, directory / "run", Filters(topology.filters), masking)
