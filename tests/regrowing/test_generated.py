"""Rebirth in generated networks of all operators that are traced."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.models import random_feeds, save
from tests.regrowing.starts import assert_preserves, assert_within_masks, reborn_in
from tests.tracing.graphs import networks
from tests.tracing.wide_graphs import WIDE_STEPS
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.layers import open_network
from tgdonnx.selection import Filters


def some_filters(draw: st.DataObject, path: Path) -> Filters:
    """Filters of any layers but the last, as they come."""
    layers = [layer for layer in open_network(path).layers[:-1] if layer.weight]
    rows = {
        layer.weight.name: sorted(draw.draw(st.sets(st.integers(0, layer.filters - 1), max_size=layer.filters)))
        for layer in layers
    }
    assume(any(rows.values()))
    return Filters({name: listed for name, listed in rows.items() if listed})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    data=st.data(),
    model=st.one_of(networks(), networks(WIDE_STEPS)),
    kind=st.sampled_from(["he", "clone", "calibrated"]),
    isolate=st.booleans(),
)
def test_the_start_of_any_network_is_the_drop_test(
    data: st.DataObject, model: onnx.ModelProto, kind: str, isolate: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save(model, Path(folder, "model.onnx"))
        filters = some_filters(data, path)
        images = random_feeds(model, 3) if kind == "calibrated" else None
        try:
            case = reborn_in(model, Path(folder), filters, kind, calibrate=images, isolate=isolate)
        except (SelectionError, DataError):
            assume(False)
        assert_preserves(case)
        assert_within_masks(case)
