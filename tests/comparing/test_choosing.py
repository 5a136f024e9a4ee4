"""Which selection is recommended, from curves made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import pytest

from tgdonnx.comparing import Entry, best_point, choose, curve_of
from tgdonnx.finetuning import Epoch


def curve(losses: Sequence[float], old: Sequence[Optional[float]], metric: str = "psnr") -> list[Epoch]:
    return [
        Epoch(i, 10 * i, None, loss, 1.0, {"rmse": loss**0.5}, {metric: now, "ssim": 0.5})
        for i, (loss, now) in enumerate(zip(losses, old))
    ]


GOOD_AND_FORGETFUL = curve([4.0, 2.0, 1.0, 1.5], [40.0, 39.5, 36.0, 35.0])
MILD = curve([4.0, 3.0, 2.5, 2.2], [40.0, 40.1, 39.9, 39.8])
WORSE = curve([4.0, 4.5, 5.0], [40.0, 40.0, 40.0])


def entry(name: str, epochs: Sequence[Epoch], limit: Optional[float], changed: int = 5) -> Entry:
    points = curve_of(epochs, "psnr")
    best = best_point(points, limit)
    return Entry(name, {}, 0.1, changed, points[-1].step, 1.0, points, best, points[-1])


def test_a_curve_has_the_new_task_and_the_fall_of_the_old() -> None:
    points = curve_of(GOOD_AND_FORGETFUL, "psnr")
    assert [point.step for point in points] == [0, 10, 20, 30]
    assert [point.new for point in points] == [2.0, 2.0**0.5, 1.0, 1.5**0.5]
    assert [point.old for point in points] == [40.0, 39.5, 36.0, 35.0]
    assert [point.fall for point in points] == [0.0, 0.5, 4.0, 5.0]
    errors = curve_of(curve([4.0, 2.0], [1.0, 1.5], "rmse"), "rmse")
    assert errors[1].fall == 0.5, "a larger error is worse"
    assert curve_of(MILD, None)[1].fall is None
    skipped = [*MILD[:2], Epoch(2, 15, 0.1, None, 1.0)]
    assert len(curve_of(skipped, "psnr")) == 2, "an epoch without validation is no point"


@pytest.mark.parametrize(("limit", "step"), [(None, 20), (10.0, 20), (4.0, 20), (3.9, 10), (0.5, 10), (0.4, 0), (0, 0)])
def test_the_best_point_is_that_of_the_lowest_loss_within_the_limit(limit: Optional[float], step: int) -> None:
    assert best_point(curve_of(GOOD_AND_FORGETFUL, "psnr"), limit).step == step


def test_of_equal_losses_the_earliest_point_is_taken_and_an_infinite_metric_is_no_fall() -> None:
    assert best_point(curve_of(curve([4.0, 2.0, 2.0], [1.0, 1.0, 1.0]), "psnr"), 1.0).step == 10
    assert best_point(curve_of(curve([4.0, 2.0], [40.0, None]), "psnr"), 0.0).step == 10


@pytest.mark.parametrize(
    ("limit", "name"), [(None, "good"), (4.0, "good"), (0.5, "good"), (0.3, "mild"), (0.0, "mild")]
)
def test_the_choice_follows_the_limit(limit: Optional[float], name: str) -> None:
    entries = [entry("worse", WORSE, limit), entry("mild", MILD, limit), entry("good", GOOD_AND_FORGETFUL, limit)]
    chosen = choose(entries)
    assert chosen.name == name
    assert chosen.best.step > 0


def test_where_nothing_is_better_the_vendors_model_is_chosen() -> None:
    vendor = Entry("none", {}, 0.0, 0, 0, 0.0, (point := curve_of(WORSE, "psnr")[0],), point, point)
    assert choose([entry("worse", WORSE, None), vendor]) is vendor


def test_of_equal_losses_the_smaller_change_is_chosen() -> None:
    few, many = entry("few", MILD, None, changed=3), entry("many", MILD, None, changed=4)
    assert choose([many, few]) is few
