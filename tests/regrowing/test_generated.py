"""Reinitialisation in generated networks of all operators that are traced."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.regrowing.starts import (
    Case,
    activations,
    assert_preserves,
    assert_within_masks,
    reinitialized_in,
    trained_at_random,
)
from tests.support.models import random_feeds, save
from tests.tracing.graphs import networks
from tests.tracing.wide_graphs import WIDE_STEPS
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.layers import open_network
from tgdonnx.selection import Filters


def some_filters(data: st.DataObject, path: Path) -> Filters:
    """Filters of any layers but the last, as they come."""
    layers = [layer for layer in open_network(path).layers[:-1] if layer.weight]
    rows = {layer.weight.name: sorted(data.draw(st.sets(st.integers(0, layer.filters - 1)))) for layer in layers}
    assume(any(rows.values()))
    return Filters({name: listed for name, listed in rows.items() if listed})


NOTHING_TO_LOOK_AT = (
    "none of the",  # filters that are selected can be reinitialised
    "no layer would read",
    "on random input",  # the output does not vary, or is not finite
    "has no axis that counts samples",  # a condition of If, which images cannot give
)


def regrown(data: st.DataObject, model: onnx.ModelProto, kind: str, directory: Path, *, isolate: bool) -> Case:
    """A case, if any filter can be reinitialised."""
    filters = some_filters(data, save(model, directory / "model.onnx"))
    images = random_feeds(model, 3) if kind == "calibrated" else None
    try:
        return reinitialized_in(model, directory, filters, kind, calibrate=images, isolate=isolate)
    except (SelectionError, DataError) as error:
        if not any(reason in str(error) for reason in NOTHING_TO_LOOK_AT):
            raise
    assume(False)
    raise AssertionError


FOUND = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
NETWORKS = st.one_of(networks(), networks(WIDE_STEPS))


@FOUND
@given(data=st.data(), model=NETWORKS, kind=st.sampled_from(["he", "clone", "calibrated"]))
def test_the_start_of_any_network_is_the_drop_test(data: st.DataObject, model: onnx.ModelProto, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = regrown(data, model, kind, Path(folder), isolate=False)
        assert_preserves(case)
        assert_within_masks(case)


@FOUND
@given(data=st.data(), model=NETWORKS)
def test_isolated_no_map_that_stays_moves(data: st.DataObject, model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = regrown(data, model, "he", Path(folder), isolate=True)
        assert_preserves(case)
        assert_within_masks(case)
        reinitialized = {
            (layer.index, m)
            for layer in case.provenance.layers
            for m in case.reinitialized.get(layer.weight.name if layer.weight else "", [])
        }
        graph = case.provenance.network.graph
        layers = [layer for layer in case.provenance.layers if layer.node.graph is graph]
        names = list(dict.fromkeys(layer.node.inputs[0].name for layer in layers))
        feeds = random_feeds(model, 1)
        before, after = (activations(m, names, feeds) for m in (case.start, trained_at_random(case)))
        for layer in layers:
            axis = -1 if layer.op_type in ("Gemm", "MatMul") else 1
            name = layer.node.inputs[0].name
            ours, theirs = (np.moveaxis(found[name], axis, 0) for found in (before, after))
            length = len(ours) // layer.maps
            for c, origin in enumerate(case.provenance.layer_inputs[layer.index]):
                if not origin.producers & reinitialized and origin.opaque is None:
                    places = slice(c * length, (c + 1) * length)
                    np.testing.assert_array_equal(ours[places], theirs[places], err_msg=f"map {c} of {layer.name}")
