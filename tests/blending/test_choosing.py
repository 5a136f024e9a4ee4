"""The rule of choice, on losses whose answer can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from tgdonnx.blending.choosing import above_lowest, choose_blend
from tgdonnx.errors import DataError
from tgdonnx.finetuning import BlendPoint

Losses = NDArray[np.float64]


def chosen(losses: Losses, psnr: Sequence[Optional[float]] = (), limit: Optional[float] = None) -> int:
    """Which of some blends is chosen, from losses of (blends, samples), and the vendor's own task."""
    _, errors = above_lowest(losses)
    points = [
        BlendPoint(index / 10, {"loss": float(row.mean())}, {"psnr": psnr[index]} if psnr else {}, float(error))
        for index, (row, error) in enumerate(zip(losses, errors))
    ]
    blend, _ = choose_blend(points, limit)
    return round(10 * blend)


def test_the_error_is_that_of_the_differences_on_the_same_samples() -> None:
    losses = np.array([[3.0, 104.0, 53.0], [1.0, 100.0, 50.0]])
    above, error = above_lowest(losses)
    # Differences 2, 4 and 3: mean 3, standard deviation 1, by sqrt(3).
    assert above.tolist() == [3.0, 0.0]
    assert np.allclose(error, [1 / np.sqrt(3), 0], rtol=1e-15)


def test_images_that_differ_much_among_themselves_do_not_hide_which_blend_is_better() -> None:
    hard = np.array([1.0, 10.0, 100.0, 1000.0])
    losses = np.stack([hard * 1.5, hard * 1.2, hard])
    # The losses of one blend spread far more than blends differ; of every sample the last is the lowest.
    assert hard.std(ddof=1) / 2 > losses[0].mean() - losses[-1].mean()
    assert chosen(np.stack([hard + 3, hard + 1, hard])) == 2


def test_the_smallest_blend_within_one_error_is_taken() -> None:
    noise = np.array([-1.0, 1.0, -1.0, 1.0])
    # Above the lowest by 2, 0.5 and 0 on average; the standard error of the differences is 2 / sqrt(3) / 2 = 0.577.
    losses = np.stack([10 + 2 + noise, 10 + 0.5 + noise, np.full(4, 10.0)])
    assert chosen(losses) == 1
    assert chosen(losses[[0, 2]]) == 1


def test_of_one_sample_the_lowest_loss_is_taken() -> None:
    assert chosen(np.array([[3.0], [1.0], [2.0]])) == 1
    assert chosen(np.array([[1.0], [1.0]])) == 0


def test_with_a_limit_the_lowest_loss_within_it_is_taken() -> None:
    losses = np.array([[5.0, 5.0], [3.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    psnr = [30.0, 29.7, None, 29.1]
    assert chosen(losses, psnr, 1.0) == 3
    assert chosen(losses, psnr, 0.5) == 2  # infinitely good is within any limit
    assert chosen(losses, [30.0, 29.7, 29.4, 29.1], 0.1) == 0


def test_a_start_that_is_infinitely_good_has_no_loss_to_limit() -> None:
    with pytest.raises(DataError, match="psnr of the vendor's own task is infinite at blend 0"):
        chosen(np.array([[5.0], [3.0]]), [None, 30.0], 1.0)
