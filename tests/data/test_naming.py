"""Arrays of usual names, or the only ones, are taken for what they are, and that is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.data import DataOptions, open_dataset
from tgdonnx.errors import MissingArrayError

PAIR = (spec("x", 1, None, None), spec("target", 1, None, None))
TWO = (spec("x", 1, None, None), spec("y", 1, None, None), spec("target", 1, None, None))


def image(value: float) -> Array:
    return np.full((2, 1, 4, 5), value, np.float32)


@pytest.mark.parametrize("name", ["clean", "label", "labels", "mask", "masks", "gt", "GT", "Clean"])
def test_a_usual_name_of_targets_is_taken_as_the_target(name: str) -> None:
    dataset = opened({"x": image(1), name: image(2)}, PAIR)
    assert [array.max() for array in everything(dataset)] == [1, 2]
    assert f"{name}: taken as the target" in dataset.remarks


def test_the_only_array_is_taken_for_the_only_input_whatever_its_name() -> None:
    dataset = opened({"noisy": image(1), "gt": image(2)}, PAIR)
    assert [array.max() for array in everything(dataset)] == [1, 2]
    assert "noisy: taken as the only array for the only input, 'x'" in dataset.remarks


def test_target_itself_comes_before_usual_names() -> None:
    dataset = opened({"x": image(1), "clean": image(2), "target": image(3)}, PAIR)
    assert dataset.remarks == ("left out: 'clean'; what is taken is x, target",)
    np.testing.assert_array_equal(next(dataset.batches(4))[1], image(3))


def test_an_array_named_like_the_output_that_trains_is_the_target_before_usual_names() -> None:
    specs = (PAIR[0], replace(PAIR[1], vendor_name="boxes"))
    dataset = opened({"noisy": image(1), "boxes": image(2), "mask": image(3)}, specs, map={"noisy": "x"})
    assert [array.max() for array in everything(dataset)] == [1, 2]
    assert dataset.remarks == ("left out: 'mask'; what is taken is x, target", "boxes: taken as the target")


def test_two_usual_names_are_asked_about() -> None:
    with pytest.raises(MissingArrayError) as caught:
        opened({"x": image(1), "mask": image(2), "label": image(3)}, PAIR)
    assert str(caught.value).endswith(
        "if it goes by another name, say which: `map={'mask': 'target'}` or `map={'label': 'target'}`"
    )


def test_an_input_of_a_usual_name_is_that_input() -> None:
    specs = (spec("x", 1, None, None), spec("mask", 1, None, None), spec("target", 1, None, None))
    dataset = opened({"x": image(1), "mask": image(2), "clean": image(3)}, specs)
    assert [array.max() for array in everything(dataset)] == [1, 2, 3]


def test_of_several_inputs_none_is_guessed() -> None:
    with pytest.raises(MissingArrayError, match=r"has no array 'y'.*`map={'z': 'y'}`"):
        opened({"x": image(1), "z": image(2), "clean": image(3)}, TWO)


def test_a_target_of_a_usual_name_may_be_there_where_none_is_asked_for() -> None:
    dataset = open_dataset({"noisy": image(1), "clean": image(2)}, PAIR[:1], DataOptions(), ignored=("target",))
    assert [array.max() for array in everything(dataset)] == [1]


def test_all_that_is_wrong_with_a_group_is_found_at_once() -> None:
    arrays = {"x": image(1).astype(np.uint8), "y": image(1)[:, :, 0, 0, None, None, None]}
    with pytest.raises(MissingArrayError, match="has no array 'target'") as caught:
        opened(arrays, TWO)
    said = [str(problem) for problem in caught.value.also]
    assert len(said) == 2
    assert "expected 'x' to be float32" in said[0]
    assert "expected 'y' to be float32" in said[1]


def test_half_precision_is_taken_as_it_is() -> None:
    values = np.linspace(-7, 7, 40).reshape(2, 1, 4, 5).astype(np.float16)
    dataset = opened({"x": values, "target": image(2)}, PAIR)
    x, _ = everything(dataset)
    assert x.dtype == np.float32
    assert np.array_equal(x, values.astype(np.float32))
    assert "x: float16 to float32, every value as it is" in dataset.remarks


def test_bytes_are_taken_as_they_are_where_the_model_takes_bytes() -> None:
    values = np.arange(40, dtype=np.uint8).reshape(2, 1, 4, 5)
    specs = (spec("x", 1, None, None, dtype="uint8"), PAIR[1])
    x, _ = everything(opened({"x": values, "target": image(2)}, specs))
    assert x.dtype == np.uint8
    assert np.array_equal(x, values)


@pytest.mark.parametrize(
    ("shape", "sizes", "layout"),
    [
        ((6, 50), (1, None), "NW"),
        ((6, 50), (1, 50), "NW"),
        ((3, 50), (3, 50), "CW"),
        ((7, 9), (1, None, None), "HW"),
        ((6, 7, 9), (1, None, None), "NHW"),
        ((3, 7, 9), (3, None, None), "CHW"),
        ((4, 7, 9), (1, None, None, None), "DHW"),
        ((6, 4, 7, 9), (1, None, None, None), "NDHW"),
        ((50,), (1, None), "W"),
    ],
)
def test_a_missing_axis_of_channels_or_samples_is_added_and_said(
    shape: tuple[int, ...], sizes: tuple[int | None, ...], layout: str
) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    open_sizes = (None,) * len(sizes)
    dataset = opened({"x": values, "target": 2 * values}, (spec("x", *sizes), spec("target", *open_sizes)))
    x, target = everything(dataset)
    whole = {"W": 0, "HW": 0, "CW": 0, "CHW": 0, "DHW": 0}.get(layout)
    expected = values if whole is None else values[None]
    expected = expected if "C" in layout else expected[:, None]
    assert np.array_equal(x, expected)
    assert np.array_equal(target, 2 * expected)
    assert any(said.startswith(f"x: stored {layout}, taken to ") for said in dataset.remarks)
