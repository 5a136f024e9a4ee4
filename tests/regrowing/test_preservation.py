"""The start computes what the dropped model computes, and differs from the vendor's file within the masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.regrowing.starts import assert_preserves, assert_within_masks, reinitialized_in
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import MODELS, random_feeds
from tgdonnx.regrowing import KINDS
from tgdonnx.selection import Filters, Phi


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_filter_that_is_listed_is_reinitialized_and_the_start_is_the_drop_test(
    name: str, kind: str, isolate: bool, tmp_path: Path
) -> None:
    topology = TOPOLOGIES[name]
    model = topology.build()
    images = random_feeds(model, 7) if kind == "calibrated" else None
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), kind, calibrate=images, isolate=isolate)
    assert case.reinitialized == topology.filters
    assert case.regrown.filters == sum(map(len, topology.filters.values()))
    assert_preserves(case)
    assert_within_masks(case)


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("kind", ["he", "clone"])
@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("shared")])
def test_the_start_is_the_drop_test_where_filters_are_chosen_by_score(
    name: str, kind: str, isolate: bool, tmp_path: Path
) -> None:
    case = reinitialized_in(MODELS[name](0), tmp_path, Phi(0.3), kind, isolate=isolate)
    assert case.reinitialized
    assert_preserves(case)
    assert_within_masks(case)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_values_and_another_others(kind: str, tmp_path: Path) -> None:
    topology = TOPOLOGIES["batch norms"]
    model = topology.build()
    images = random_feeds(model, 7) if kind == "calibrated" else None

    def values(seed: int) -> dict[str, bytes]:
        case = reinitialized_in(model, tmp_path, Filters(topology.filters), kind, calibrate=images, seed=seed)
        return {name: array.tobytes() for name, array in case.regrown.values.items()}

    assert values(3) == values(3)
    assert values(3)["w1"] != values(4)["w1"]


def test_the_change_is_that_of_the_drop_test_on_the_images_that_are_given(tmp_path: Path) -> None:
    topology = TOPOLOGIES["residual"]
    model = topology.build()
    images = random_feeds(model, 7)
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), "he", calibrate=images)
    from tests.sweeping.oracle import outputs, relative_change

    (before,), (after,) = outputs(model, images), outputs(case.dropped, images)
    np.testing.assert_allclose(case.regrown.change, relative_change(before, after), rtol=1e-4)
    assert case.regrown.samples == len(images["x"])
