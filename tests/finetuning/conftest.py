"""Fixtures of the room."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tgdonnx
from tests.support import models
from tests.support.trainer import make_artifacts


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path_factory.mktemp("built"), tgdonnx.Phi(0.3), l2=0.01)


@pytest.fixture
def artifacts(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "artifacts"))
