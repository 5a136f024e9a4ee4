"""Fixtures for all tests, and which of them a runtime is missing for."""

from __future__ import annotations

import pytest

from tests.support.environments import no_torch_environment, stock_environment
from tgdonnx.runtime import has_training_runtime, load_onnxruntime

load_onnxruntime()  # before a test imports it, which would import torch, where that is installed, in every process

__all__ = ["no_torch_environment", "stock_environment"]


@pytest.fixture(params=["onnxruntime", pytest.param("onnxruntime-training", marks=pytest.mark.training)])
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine that can train here."""
    return str(request.param)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of onnxruntime-training where it is not installed; pytest counts them as deselected."""
    if has_training_runtime():
        return
    absent = [item for item in items if item.get_closest_marker("training")]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if not item.get_closest_marker("training")]
