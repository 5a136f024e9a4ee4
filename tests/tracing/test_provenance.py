"""The tracer against the oracle: on networks of the usual kinds and on random ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from tests.support.models import MODELS, Builder, save
from tests.tracing.graphs import networks
from tests.tracing.oracle import assert_traced_exactly
from tests.tracing.wide_graphs import WIDE_STEPS


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_claimed_producers_are_the_filters_that_change_the_map(builder: Builder, seed: int, tmp_path: Path) -> None:
    model = builder(seed)
    assert_traced_exactly(model, save(model, tmp_path / "model.onnx"))


@settings(deadline=None, max_examples=250)
@given(model=networks())
def test_claimed_producers_are_the_filters_that_change_the_map_in_random_networks(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert_traced_exactly(model, save(model, Path(directory, "model.onnx")))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(model=networks(steps=WIDE_STEPS))
def test_claimed_producers_are_the_filters_that_change_the_map_in_networks_of_all_kinds(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as directory:
        assert_traced_exactly(model, save(model, Path(directory, "model.onnx")))
