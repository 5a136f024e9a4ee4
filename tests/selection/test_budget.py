"""As many filters as a fraction of the weights is: those of the highest values."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.errors import SelectionError
from tgdonnx.selection.budget import largest

VALUES = {"a": np.array([0.5, 9.0, 0.1]), "b": np.array([3.0, 3.0]), "c": np.array([np.inf, 0.0])}
WEIGHTS = {"a": 2, "b": 5, "c": 1}  # 18 in all; by value: c0, a1, b0, b1, a0, a2, c1


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"c": [0]}),
        (2, {"c": [0]}),  # a1 would make it 3
        (3, {"a": [1], "c": [0]}),
        (7, {"a": [1], "c": [0]}),  # though a0 would fit, b0 comes first
        (8, {"a": [1], "b": [0], "c": [0]}),
        (13, {"a": [1], "b": [0, 1], "c": [0]}),
        (15, {"a": [0, 1], "b": [0, 1], "c": [0]}),
        (18, {"a": [0, 1, 2], "b": [0, 1], "c": [0, 1]}),
    ],
)
def test_filters_are_taken_by_value_until_one_does_not_fit(count: int, expected: dict[str, list[int]]) -> None:
    assert largest(VALUES, WEIGHTS, count / 18) == expected


def test_a_fraction_that_the_first_filter_does_not_fit_into_is_refused_with_the_least_that_would_do() -> None:
    with pytest.raises(SelectionError, match=r"0 of 'c', alone holds 0\.0556 of .* fraction 1e-09") as caught:
        largest(VALUES, WEIGHTS, 1e-9)
    assert caught.value.remedy == "ask for a fraction of at least 0.0556"
    assert largest(VALUES, WEIGHTS, 0.0556) == {"c": [0]}


def test_any_two_orders_hold_the_same_number_of_weights_to_within_one_filter() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = largest({name: rng.random(len(each)) for name, each in VALUES.items()}, WEIGHTS, 0.6)
        held = sum(len(rows) * WEIGHTS[name] for name, rows in chosen.items())
        assert 0.6 * 18 - max(WEIGHTS.values()) < held <= 0.6 * 18
