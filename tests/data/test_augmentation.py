"""Flips and rotations: of all arrays alike, all eight of them, and exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

IMAGES = (spec("x", 2, None, None), spec("target", 1, None, None))


def turned(array: Array) -> list[Array]:
    """The eight symmetries of a square, by other means than those under test: of index arithmetic."""
    n = array.shape[-1]
    r, c = np.mgrid[:n, :n]
    m = n - 1
    places = [(r, c), (c, m - r), (m - r, m - c), (m - c, r), (r, m - c), (m - r, c), (c, r), (m - c, m - r)]
    return [array[..., a, b] for a, b in places]


def epochs(dataset: Any, count: int) -> list[list[Array]]:
    return [[sample for batch in dataset.batches(1, epoch=epoch) for sample in batch] for epoch in range(1, count + 1)]


@pytest.mark.parametrize(("kinds", "number"), [(("flips",), 4), (("rotations",), 4), (("flips", "rotations"), 8)])
def test_all_arrays_of_a_sample_turn_alike_and_in_every_way(kinds: tuple[str, ...], number: int) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(1, 2, 5, 5)).astype(np.float32), rng.normal(size=(1, 1, 10, 10)).astype(np.float32)
    dataset = opened({"x": x, "target": target}, IMAGES, augment=kinds)
    ways = set()
    for found_x, found_target in epochs(dataset, 120):
        (way,) = [i for i, expected in enumerate(turned(x)) if np.array_equal(expected, found_x)]
        assert np.array_equal(turned(target)[way], found_target)
        ways.add(way)
    assert len(ways) == number
    if kinds == ("rotations",):
        assert ways == {0, 1, 2, 3}


def test_volumes_are_mirrored_along_three_axes() -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 1, 2, 3, 4)
    specs = (spec("x", 1, None, None, None), spec("target", 1, None, None, None))
    dataset = opened({"x": x, "target": x}, specs, augment=("flips",))
    assert len({found[0].tobytes() for found in epochs(dataset, 120)}) == 8


def test_labels_stay_and_evaluation_is_not_turned() -> None:
    x = np.arange(50, dtype=np.float32).reshape(2, 1, 5, 5)
    specs = (spec("x", 1, None, None), spec("target", dtype="int64"))
    dataset = opened({"x": x, "target": np.array([3, 4])}, specs, augment=("flips", "rotations"))
    for batch in dataset.batches(2, epoch=1):
        assert sorted(batch[1].tolist()) == [3, 4]
        assert [float(picture.min()) for picture in batch[0]] == [25.0 * (label - 3) for label in batch[1]]
    assert np.array_equal(everything(dataset)[0], x)
    assert "target has no axes of space and is not turned with the images" in dataset.remarks


@pytest.mark.parametrize(
    ("shape", "kinds", "message"),
    [
        ((2, 1, 4, 6), ("rotations",), "need squares, 'x' has H 4 and W 6; use square patches"),
        ((2, 1, 6), ("rotations",), "no plane to rotate in"),
        ((2, 6), ("flips",), "no array has axes of space to turn"),
        ((2, 1, 4, 4), ("shear",), "expected augmentation of flips, rotations, got 'shear'"),
    ],
)
def test_what_cannot_be_turned_is_told(shape: tuple[int, ...], kinds: tuple[str, ...], message: str) -> None:
    x = np.zeros(shape, np.float32)
    specs = tuple(TensorSpec(name, "float32", (None, *[None] * (len(shape) - 1))) for name in ("x", "target"))
    with pytest.raises(DataError, match=message):
        opened({"x": x, "target": x}, specs, augment=kinds)


def test_square_patches_of_oblongs_can_be_rotated() -> None:
    x = np.arange(48, dtype=np.float32).reshape(2, 1, 4, 6)
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    dataset = opened({"x": x, "target": x}, specs, augment=("rotations",), patch=(3, 3), patches_per_epoch=5)
    for a, b in dataset.batches(5, epoch=1):
        assert np.array_equal(a, b)
