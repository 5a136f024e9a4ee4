"""What is said of a chosen blend."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tgdonnx.finetuning import BlendCurve, BlendPoint
from tgdonnx.reporting.blends import print_blends


@pytest.mark.parametrize(("chosen", "said"), [(0.0, True), (0.5, False)])
def test_of_a_blend_of_0_it_is_said_that_nothing_learnt_is_used_and_what_to_do(chosen: float, said: bool) -> None:
    points = tuple(BlendPoint(blend, {"loss": 1 + blend}, {}, 0.0) for blend in (0.0, 0.5, 1.0))
    shown = io.StringIO()
    print_blends(BlendCurve(points, chosen, "by hand", 4), Console(file=shown, width=200))
    text = " ".join(shown.getvalue().split())
    assert ("nothing is used of what was learnt" in text) == said
    assert ("Train longer, with another learning rate or selection" in text) == said
