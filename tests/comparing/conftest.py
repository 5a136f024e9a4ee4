"""The vendor's model of comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import models


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")
