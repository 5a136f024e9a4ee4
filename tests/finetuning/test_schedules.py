"""Learning rates by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tgdonnx.finetuning import SCHEDULES
from tgdonnx.finetuning.schedules import learning_rate_at


def rates(schedule: str, steps: int, warmup: int = 0) -> list[float]:
    return [learning_rate_at(step, steps, peak=2.0, schedule=schedule, warmup=warmup) for step in range(steps)]


def test_constant_stays() -> None:
    assert rates("constant", 4) == [2.0, 2.0, 2.0, 2.0]


def test_linear_falls_to_zero_at_the_end_of_the_run() -> None:
    assert rates("linear", 4) == [2.0, 1.5, 1.0, 0.5]


def test_cosine_falls_as_half_a_wave() -> None:
    assert rates("cosine", 4) == pytest.approx([2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5], rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]),
        ("linear", [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5]),
        ("cosine", [0.5, 1.0, 1.5, 2.0, 2.0, 1 + 0.5**0.5, 1.0, 1 - 0.5**0.5]),
    ],
)
def test_warmup_rises_to_the_peak_and_the_schedule_goes_on_from_there(schedule: str, expected: list[float]) -> None:
    assert rates(schedule, 8, warmup=4) == pytest.approx(expected, rel=1e-12)


@given(st.sampled_from(SCHEDULES), st.integers(1, 50), st.integers(0, 60))
def test_no_rate_is_above_the_peak_and_none_is_zero(schedule: str, steps: int, warmup: int) -> None:
    found = rates(schedule, steps, warmup)
    assert all(0 < rate <= 2.0 for rate in found)
    rising = found[:warmup]
    assert rising == sorted(rising)
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
