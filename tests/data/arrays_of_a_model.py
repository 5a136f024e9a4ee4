"""Arrays for a model of two inputs and a target, good ones and as files."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import numpy as np

from tests.support.models import Array
from tgdonnx.graphs.tensor_specs import TensorSpec

X = TensorSpec("x", "float32", (None, 3, None, 5))
SIZE = TensorSpec("size", "int64", (None,))
TARGET = TensorSpec("target", "float32", (None, 1, None, 5), role="target")
INPUTS = (X, SIZE, TARGET)


def arrays(samples: int = 6, **changed: Optional[Array]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    good: dict[str, Optional[Array]] = {
        "target": rng.normal(size=(samples, 1, 4, 5)).astype(np.float32),
        "x": rng.normal(size=(samples, 3, 4, 5)).astype(np.float32),
        "size": np.arange(samples),
        **changed,
    }
    return {name: array for name, array in good.items() if array is not None}


def saved(tmp_path: Path, form: str, content: dict[str, Array]) -> Path:
    if form == "npy":
        directory = tmp_path / "data"
        directory.mkdir()
        for name, array in content.items():
            np.save(directory / f"{name}.npy", array)
        return directory
    path = tmp_path / "data.npz"
    (np.savez_compressed if form == "compressed" else np.savez)(path, **content)
    return path
