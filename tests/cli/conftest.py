"""A vendor's model and data that fits it, for commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import save_pairs
from tests.support import models


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_pairs(tmp_path / "data.npz", (6, 3, 9, 8), (6, 3, 9, 8))
