"""What is said of a detector beside its shares."""

from __future__ import annotations

from dataclasses import replace

from tgdonnx.gating.separation import Separation
from tgdonnx.gating.telling import remarks_on

GOOD = Separation(1.0, 1.0, 1.0, accept=0.95, farthest_new=1.5, nearest_old=1.9)


def test_a_detector_that_does_what_was_asked_for_with_old_inputs_near_by_needs_no_words() -> None:
    assert remarks_on(GOOD) == ()


def test_held_out_inputs_that_fall_short_of_what_was_asked_for_are_told() -> None:
    assert remarks_on(replace(GOOD, accept=0.99, held_out=0.9)) == (
        "fewer of the held-out new inputs are accepted (90%) than was asked for (99%): a larger `accept`, or more new inputs "
        "to fit on would help",
    )
    (at_most,) = remarks_on(replace(GOOD, accept=1.0, held_out=0.999, farthest_new=0.999999))
    assert "are accepted (99.9%) than was asked for (100%): more new inputs to fit on would help" in at_most
    assert "`accept`" not in at_most
    assert remarks_on(replace(GOOD, accept=0.99, held_out=0.99)) == ()


def test_without_old_inputs_it_is_said_that_nothing_is_known_of_them() -> None:
    (text,) = remarks_on(replace(GOOD, retain=None, nearest_old=None))
    assert text == "how inputs of the vendor's kind fare is not known: name some with `retain`"


def test_how_far_old_inputs_lie_beyond_all_new_ones_is_told_where_it_is_far() -> None:
    (text,) = remarks_on(replace(GOOD, nearest_old=25.4))
    assert text == (
        "the nearest old input has 25 times the residual at the threshold, the farthest new one 1.5 times: in front of this "
        "layer a larger `accept` lets none of these old ones through"
    )
    (at_most,) = remarks_on(replace(GOOD, accept=1.0, farthest_new=0.999999, nearest_old=1234.5))
    assert at_most == "the nearest old input has 1,234 times the residual at the threshold"
    assert remarks_on(replace(GOOD, farthest_new=20.0, nearest_old=25.4)) == ()
    assert remarks_on(replace(GOOD, nearest_old=None)) == ()
