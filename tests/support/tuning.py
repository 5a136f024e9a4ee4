"""Small networks, masked, built and trained through the Python API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.training_models import dncnn_without_batch_norm

PHI = 0.35


NETWORKS = {
    "plain": models.chain,
    "with batch norm": models.dncnn,
    "without batch norm": dncnn_without_batch_norm,
    "in Constant nodes": models.constant_nodes,
}


def data_for(model: onnx.ModelProto, samples: int = 6) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples, 3, 7, 8)).astype(np.float32)
    shape = open_session(model).run(None, {"x": x})[0].shape
    return {"x": x, "target": rng.normal(size=shape).astype(np.float32)}


def options_for(optimizer: str = "adamw", clip_norm: Optional[float] = None, **_: Any) -> tgdonnx.TrainOptions:
    """Steps large enough that float32 shows them in every row."""
    rate = 1e-3 if optimizer == "adamw" else 1e-4 if clip_norm is None else 0.1
    return tgdonnx.TrainOptions(epochs=2, batch=3, learning_rate=rate)


def trained(
    model: onnx.ModelProto, directory: Path, *, phi: float = PHI, mode: str = "paper", cut: bool = False, **options: Any
) -> Path:
    """Masks, builds and trains; returns the artifacts directory. ``cut``: the run is cut off once and resumed."""
    base = models.save(model, directory / "model.onnx")
    tgdonnx.mask(base, directory / "masked.onnx", tgdonnx.Phi(phi), tgdonnx.MaskOptions(mode=mode))
    tgdonnx.build(directory / "masked.onnx", directory / "artifacts", tgdonnx.BuildOptions(**options))
    run = options_for(**options)
    if cut:
        with pytest.raises(InterruptedError):
            tgdonnx.train(directory / "artifacts", data_for(model), run, watch=tgdonnx.Watch(on_progress=interrupt))
    tgdonnx.train(directory / "artifacts", data_for(model), run, resume=cut)
    return directory / "artifacts"


def in_objects(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments for `tgdonnx.finetune` or `tgdonnx.train`: fields of the objects that it takes become these."""
    found = dict(given)
    for name, kind in (("masking", tgdonnx.MaskOptions), ("results", tgdonnx.Results), ("watch", tgdonnx.Watch)):
        inside = {field.name: found.pop(field.name) for field in fields(kind) if field.name in found}
        if inside:
            found[name] = kind(**inside)
    return found


def interrupt(progress: tgdonnx.Progress) -> None:
    if progress.step == 3:
        raise InterruptedError


def listing(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())
