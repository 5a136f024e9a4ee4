"""What a checkpoint of federated training says of it."""

from __future__ import annotations

import pytest

from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning.federation import Federation, federation_of, settings_of_federation
from tgdonnx.finetuning.state import RunState
from tgdonnx.records import FederationPart, PreparationPart, ScalingPart, SitePart

PART = FederationPart(3, [SitePart("north", 12, 3), SitePart("south", 5, 1)])
SCALING = {"x": ScalingPart(1.5, 2.0, "percentiles", 1, [0.5], [0.25])}


@pytest.mark.parametrize(
    "federation", [Federation(PART), Federation(PART, ("a", "b"), PreparationPart(SCALING, [32, 24]))]
)
def test_it_is_read_from_the_state_as_it_was_put_there(federation: Federation) -> None:
    assert federation_of(RunState(3, 9, settings_of_federation(federation)).to_json()) == federation


def test_a_run_at_one_place_says_nothing() -> None:
    assert federation_of(None) is None
    assert federation_of(RunState(3, 9, {"batch": 4}).to_json()) is None


def test_what_was_not_written_so_is_refused() -> None:
    with pytest.raises(ArtifactsError, match="federated training is damaged"):
        federation_of(RunState(3, 9, {"federation": {"part": {"rounds": -1, "sites": []}}}).to_json())
