"""Fixtures for all tests, and which of them a runtime is missing for."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.support.environments import no_torch_environment, stock_environment
from tgdonnx.runtime import has_training_runtime, load_onnxruntime

onnxruntime = (
    load_onnxruntime()
)  # before a test does, which would import torch, where that is installed, in every process


class _IdleThreads(onnxruntime.SessionOptions):  # type: ignore[misc]
    """Options of sessions whose threads sleep while they have nothing to do: several processes share the machine.

    By default they wait in a loop, and take the processor from the test beside. No result depends on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_session_config_entry("session.intra_op.allow_spinning", "0")


onnxruntime.SessionOptions = _IdleThreads

# Of these also the import needs Flower; `.ci/run` has an environment with it.
collect_ignore = [] if find_spec("flwr") else ["federated/flower"]

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
