"""Two noisy images as data: both ways, a part held out of both, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tgdonnx.data import DataOptions, open_training
from tgdonnx.data.arrays import in_memory
from tgdonnx.errors import DataError
from tgdonnx.finetuning.noise2noise import Noise2Noise, noise_correlation, open_pair, open_whole_pair
from tgdonnx.graphs.tensor_specs import TensorSpec

Array = NDArray[np.float32]
STACKS = (
    TensorSpec("image", "float32", (None, 3, None, None)),
    TensorSpec("target", "float32", (None, 3, None, None), role="target"),
)
PICTURES = tuple(replace(spec, shape=(None, 1, None, None)) for spec in STACKS)


def numbered(*shape: int) -> tuple[Array, Array]:
    """Arrays in which every value tells its place; those of the second are negative."""
    values = 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return values, -values


def seen(pair: Noise2Noise, inputs: tuple[TensorSpec, ...], options: DataOptions, epochs: int = 4) -> tuple[Any, Any]:
    """All batches of training and of what is held out, as (image, target) arrays of samples."""
    source, held_out = open_pair(pair, inputs, options)
    training, validation = open_training(source, inputs, options, validation=held_out)
    assert validation is not None
    trained = [batch for epoch in range(1, epochs + 1) for batch in training.batches(5, epoch=epoch)]
    held = list(validation.batches(5))
    return tuple(np.concatenate(a) for a in zip(*trained)), tuple(np.concatenate(a) for a in zip(*held))


def test_both_ways_are_trained_on_the_same_places_and_slices_in_the_middle_are_held_out() -> None:
    a, b = numbered(20, 6, 5)
    (image, target), (held_image, held_target) = seen(Noise2Noise(a, b), STACKS, DataOptions(layout="DHW"))
    for inputs, targets in ((image, target), (held_image, held_target)):
        np.testing.assert_array_equal(inputs, -targets)
        assert (inputs > 0).mean() == 0.5
    slices = lambda stacks: {int(v - 1) // 30 for v in np.abs(stacks[:, :, 0, 0]).ravel()}  # noqa: E731
    assert slices(held_image) == {8, 9, 10, 11}
    assert slices(image) == set(range(20)) - {8, 9, 10, 11}


@pytest.mark.parametrize("augmentation", [(), ("flips", "rotations")])
def test_of_one_picture_a_strip_is_held_out_and_patches_stay_on_their_side(augmentation: Any) -> None:
    a, b = numbered(100, 64)
    options = DataOptions(layout="HW", patch=(16, 16), patches_per_epoch=100, augment=augmentation)
    (image, target), (held_image, _) = seen(Noise2Noise(a, b), PICTURES, options)
    np.testing.assert_array_equal(image, -target)
    assert (image[:, 0, 0, 0] > 0).any()
    assert (image[:, 0, 0, 0] < 0).any()
    rows = {int(v - 1) // 64 for v in np.abs(image).ravel()}
    assert {int(v - 1) // 64 for v in np.abs(held_image).ravel()} == set(range(40, 60))
    assert rows <= set(range(100)) - set(range(40, 60))
    assert rows & set(range(40))
    assert rows & set(range(60, 100))


def test_of_several_pictures_whole_ones_are_held_out() -> None:
    a, b = numbered(10, 1, 8, 8)
    (image, _), (held, _) = seen(Noise2Noise(a, b, held_out=0.3), PICTURES, DataOptions())
    assert len(held) == 2 * 3
    assert not set(np.abs(held).ravel()) & set(np.abs(image).ravel())


def test_what_was_done_is_said() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((20, 40, 40)).astype(np.float32) for _ in range(2))
    source, _ = open_pair(Noise2Noise(a, b), STACKS, DataOptions(layout="DHW"))
    assert source.remarks == (
        "trained from A to B and from B to A",
        "held out against fitting noise: slices 9 to 12 of 20",
    )
    shared, _ = open_pair(Noise2Noise(a, a + 0.3 * b), STACKS, DataOptions(layout="DHW"))
    assert "warning: the finest detail of A and B correlates by 0.9" in shared.remarks[-1]


def smooth(seed: int) -> Array:
    """A picture without fine detail, with an edge."""
    y, x = np.mgrid[:128, :128] / 128
    return (np.sin(5 * x + seed) + np.cos(4 * y) + (x + y > 1.1)).astype(np.float32)


def test_correlation_of_detail_is_that_of_the_noise_and_not_that_of_the_picture() -> None:
    rng = np.random.default_rng(3)
    first, second, common = (0.2 * rng.standard_normal((128, 128)).astype(np.float32) for _ in range(3))
    for share, low, high in ((0.0, -0.1, 0.1), (1.0, 0.4, 0.6), (3.0, 0.7, 0.8)):
        a, b = (smooth(0) + own + np.sqrt(share, dtype=np.float32) * common for own in (first, second))
        found = noise_correlation(in_memory(a, "a"), in_memory(b, "b"), "HW")
        assert found is not None
        assert low < found < high  # share / (1 + share)
    assert noise_correlation(in_memory(a[:4, :4], "a"), in_memory(b[:4, :4], "b"), "HW") is None


def refuse(message: str, a: Any, b: Any, inputs: Any = STACKS, **options: Any) -> None:
    with pytest.raises(DataError, match=message):
        open_pair(Noise2Noise(a, b), inputs, DataOptions(**options))


def test_images_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    a, b = numbered(20, 6, 5)
    refuse("are the same image.*independent noise", a, a.copy(), layout="DHW")
    refuse(r"of one shape.*\[20, 6, 5\].*\[19, 6, 5\]", a, b[:19], layout="DHW")
    refuse("of one shape and dtype.*float32.*float64", a, b.astype(np.float64), layout="DHW")
    refuse("none.npy does not exist", tmp_path / "none.npy", b, layout="DHW")
    refuse("too small for a part of it to be held out.*`patch=", a[0], b[0], PICTURES, layout="HW")
    refuse("too small.*smaller patches", a[0], b[0], PICTURES, layout="HW", patch=(4, 4))
    refuse("leave out `map`", a, b, layout="DHW", map={"x": "image"})
    refuse("leave out the validation split", a, b, layout="DHW", validation_split=0.5)
    refuse(
        "trains? a model of one image; this one takes image, more",
        a,
        b,
        (STACKS[0], TensorSpec("more", "float32", None), STACKS[1]),
    )
    with pytest.raises(DataError, match="fraction between 0 and 1 to hold out"):
        Noise2Noise(a, b, held_out=1.0)
    broken = a.copy()
    broken[3, 2, 1] = np.nan
    source, _ = open_pair(Noise2Noise(broken, b), STACKS, DataOptions(layout="DHW"))
    with pytest.raises(DataError, match="is nan"):
        open_training(source, STACKS, DataOptions(layout="DHW"))


def test_with_other_data_to_validate_with_all_of_the_study_is_trained_on() -> None:
    a, b = numbered(20, 6, 5)
    source = open_whole_pair(Noise2Noise(a, b), STACKS, DataOptions(layout="DHW"))
    training, _ = open_training(source, STACKS, DataOptions(layout="DHW"))
    images = np.concatenate([batch[0] for batch in training.batches(5)])
    assert {int(v - 1) // 30 for v in np.abs(images[:, 1, 0, 0])} == set(range(20))
    assert (images > 0).mean() == 0.5
    assert source.remarks == ("trained from A to B and from B to A",)
