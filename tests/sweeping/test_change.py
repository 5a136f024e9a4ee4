"""How far outputs moved, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tgdonnx.errors import DataError
from tgdonnx.sweeping.change import Array, OutputChange, baseline, output_changes, worst


def changes(before: list[Array], after: list[Array]) -> OutputChange:
    """Of one output, in batches."""
    (found,) = output_changes(baseline(["y"], [[array] for array in before]), [[array] for array in after])
    return found


def f32(*values: object) -> Array:
    return np.array(values, np.float32)


def test_the_change_is_relative_to_the_spread_over_all_batches() -> None:
    # Mean 3, deviations -2, 0, 2 and 0: squares 8. Changes 1, 0, 0 and -1: squares 2.
    assert changes([f32([1, 3]), f32([5, 3])], [f32([2, 3]), f32([5, 2])]).change == pytest.approx(math.sqrt(2 / 8))


@pytest.mark.parametrize(("factor", "offset"), [(1e-6, 0.0), (1e4, 0.0), (1.0, 1e3)])
def test_neither_scale_nor_offset_of_the_output_matters(factor: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    before, move = rng.standard_normal((2, 3, 5, 4)), 0.1 * rng.standard_normal((2, 3, 5, 4))
    found = changes([before * factor + offset], [(before + move) * factor + offset]).change
    assert found == pytest.approx(float(np.sqrt(np.mean(move**2)) / np.std(before)), rel=1e-9)


def test_half_precision_is_summed_in_double() -> None:
    before = np.array([[-60000, 60000]] * 50, np.float16)
    assert changes([before], [before]).change == 0.0
    assert changes([before], [-before]).change == pytest.approx(2.0)


def test_what_is_not_finite_or_of_another_shape_is_beyond_measure_and_moved_farthest() -> None:
    before = f32([1, 2], [3, 5])
    for after in (f32([1, np.nan], [3, 5]), f32([1, np.inf], [3, 5]), f32([1, 2])):
        assert changes([before], [after]).change is None
    entries = [OutputChange("a", 7.0, None), OutputChange("b", None, None), OutputChange("c", 0.1, None)]
    assert worst(entries).output == "b"
    assert worst(entries[::2]).output == "a"


def test_another_shape_in_one_batch_is_not_made_good_by_the_next() -> None:
    before = [f32([1, 2]), f32([3, 5])]
    assert changes(before, [f32([1]), f32([3, 5])]).change is None


@pytest.mark.parametrize("trailing", [(), (1, 1)])
def test_agreement_is_how_often_the_largest_class_stays(trailing: tuple[int, ...]) -> None:
    shape = (-1, 3, *trailing)
    before = [f32([0, 1, 2], [5, 1, 2]).reshape(shape), f32([0, 9, 2], [0, 1, 2]).reshape(shape)]
    after = [f32([0, 1, 9], [0, 1, 2]).reshape(shape), f32([0, 1, 0], [0, 1, 3]).reshape(shape)]
    assert changes(before, after).agreement == 0.75


@pytest.mark.parametrize("shape", [(4, 1), (2, 3, 1), (2, 3, 4, 1), (6,)])
def test_outputs_that_are_no_scores_of_classes_have_no_agreement(shape: tuple[int, ...]) -> None:
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert changes([array], [array]).agreement is None


def test_outputs_without_a_measure_are_left_out_and_named() -> None:
    label, image, prior = np.array([3, 4]), f32([1, 2]), f32([0.1, 0.1, 0.1])
    before = baseline(["label", "image", "prior"], [[label, image, prior]] * 2)
    assert before.outputs == ("image",)
    assert before.left_out == (
        "output 'label' is of type int64, not floating point: left out",
        "output 'prior' is the same number everywhere on this data: left out",
    )
    assert output_changes(before, [[image], [image]])[0].change == 0.0


def test_without_any_output_to_measure_the_data_is_refused() -> None:
    with pytest.raises(DataError, match="no change can be measured: output 'y' is the same number everywhere"):
        baseline(["y"], [[f32(2, 2)], [f32(2, 2)]])
    with pytest.raises(DataError, match="'y' is of type list, not floating point; choose another output"):
        baseline(["y"], [[["a", "b"]]])
    with pytest.raises(DataError, match="no change can be measured"):
        baseline(["y"], [[np.zeros((0, 4), np.float32)]])


def test_a_vendor_output_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DataError, match="the vendor's output 'y' is not finite on this data"):
        baseline(["y"], [[f32(1, np.nan)]])
