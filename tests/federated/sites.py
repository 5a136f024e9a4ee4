"""Sites with their files, and the artifacts that they and a server share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import make_artifacts

PHI = tgdonnx.Phi(0.3)


def data(samples: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 3, 6, 5)).astype(np.float32)
    return {"x": x, "target": (x + rng.normal(0, 0.1, x.shape)).astype(np.float32)}


def artifacts(folder: Path, seed: int = 0, strategy: tgdonnx.Strategy = PHI, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return make_artifacts(models.dncnn(seed), folder, strategy, **options)


def make_site(folder: Path, built: Path, name: str, arrays: dict[str, Array], **more: dict[str, Array]) -> Path:
    """Returns the file of a site; ``more``: its data for validation, and to retain."""
    place = folder / name
    place.mkdir(parents=True)
    shutil.copytree(built, place / "artifacts")
    lines = [f'name = "{name}"', 'artifacts = "artifacts"', 'data = "data.npz"']
    np.savez(place / "data.npz", **arrays)
    for role, others in more.items():
        np.savez(place / f"{role}.npz", **others)
        lines.append(f'{role} = "{role}.npz"')
    (place / "site.toml").write_text("\n".join(lines) + "\n", "utf-8")
    return place / "site.toml"
