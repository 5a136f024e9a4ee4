"""Pictures made ready for a model: colour, size, centre, and a mean and standard deviation per channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

RNG = np.random.default_rng(0)
LABELS = TensorSpec("target", "int64", (None,), 2, role="target")


def folder(root: Path, *pictures: Array) -> Path:
    for name in ("cats", "dogs"):
        (root / name).mkdir(parents=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(root / ("cats", "dogs")[index % 2] / f"{index}.png")
    return root


def first(root: Path, channels: int, **options: Any) -> Array:
    dataset = opened(root, (spec("x", channels, None, None), LABELS), **options)
    picture: Array = dataset.batch(1, 0)[0][0]
    return picture


def test_the_shorter_side_is_resized_and_the_centre_cut_as_pillow_does(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (30, 41, 3), np.uint8)
    root = folder(tmp_path / "d", picture, picture)
    found = first(root, 3, scale=1, resize=(20,), crop=(16,))
    small = Image.fromarray(picture).resize((27, 20), Image.Resampling.BILINEAR)  # 41 * 20 / 30 = 27.3
    expected = np.asarray(small)[2:18, 6:22]  # (27 - 16) / 2 = 5.5, to even
    assert np.array_equal(found, expected.transpose(2, 0, 1))


def test_both_sides_are_resized_and_each_way_of_resampling_is_pillows(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (30, 41), np.uint8)
    root = folder(tmp_path / "d", picture, picture)
    for resample in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"):
        found = first(root, 1, scale=1, resize=(10, 12), resample=resample)
        expected = Image.fromarray(picture).resize((12, 10), Image.Resampling[resample.upper()])
        assert np.array_equal(found[0], np.asarray(expected))


def test_larger_pictures_are_smoothed_when_they_are_made_smaller(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (16, 16))
    found = first(folder(tmp_path / "d", stripes, stripes), 1, scale=1, resize=(4, 4))
    assert abs(found - 127.5).max() < 12, "every other pixel alone would be black or white"


def test_grey_becomes_three_colours_and_colours_become_grey(tmp_path: Path) -> None:
    grey, colour = RNG.integers(0, 256, (6, 7), np.uint8), RNG.integers(0, 256, (6, 7, 3), np.uint8)
    root = folder(tmp_path / "d", grey, colour)
    x, _ = everything(opened(root, (spec("x", 3, None, None), LABELS), scale=1, colour="rgb"))
    assert np.array_equal(x[0], np.stack([grey] * 3))
    assert np.array_equal(x[1], colour.transpose(2, 0, 1))
    x, _ = everything(opened(root, (spec("x", 1, None, None), LABELS), scale=1, colour="grey"))
    assert np.array_equal(x[0, 0], grey)
    assert abs(x[1, 0] - colour @ [0.299, 0.587, 0.114]).max() <= 1


def test_a_mean_and_standard_deviation_per_channel_follow_the_scale(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    root = folder(tmp_path / "d", picture, picture)
    found = first(root, 3, scale=255, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = (picture / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    assert found.dtype == np.float32
    assert np.array_equal(found, expected.astype(np.float32).transpose(2, 0, 1))
    assert np.array_equal(
        first(root, 3, mean=(100.0,), std=(50.0,)).transpose(1, 2, 0), ((picture - 100.0) / 50).astype("f4")
    )
    imagenet = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.array_equal(first(root, 3, scale="imagenet"), imagenet.astype(np.float32).transpose(2, 0, 1))


def test_targets_have_no_mean(tmp_path: Path) -> None:
    values = RNG.uniform(0, 1, (2, 3, 4, 5)).astype(np.float32)
    specs = (spec("x", 3, None, None), spec("target", 3, None, None))
    x, target = everything(opened({"x": values, "target": values}, specs, scale=2, mean=(0.5,), std=(0.25,)))
    assert np.array_equal(target, values / 2)
    assert np.allclose(x, (values / 2 - 0.5) / 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 1, "crop": (9,)}, "is 6x7, smaller than the centre of 9x9; make it larger first (`resize`)"),
        ({"scale": 1, "crop": (7,)}, "is 6x7, smaller than the centre of 7x7"),
        ({"scale": 1, "resize": (1, 2, 3)}, "expected resize of one size or two, such as 224x224; got 1x2x3"),
        ({"scale": 1, "crop": (0,)}, "expected crop of one size or two"),
        ({"scale": 1, "colour": "sepia"}, "expected colour of grey, rgb"),
        ({"scale": 1, "resample": "fourier"}, "expected resample of nearest, box"),
        ({"mean": (0.5,), "std": (0.5,)}, "at most 1, and its values are uint8; `scale=255` takes them to 0 to 1"),
        ({"scale": 1, "mean": (0.5, 0.5), "std": (0.5, 0.5)}, "has 3 channels, and there are 2 means"),
        ({"scale": 1, "mean": (0.5,)}, "expected as many numbers of `mean` as of `std`, got 1 and 0"),
        ({"scale": 1, "mean": (0.5,), "std": (0.0,)}, "and a std above 0"),
        ({"scale": "imagenet", "mean": (0.5,), "std": (1.0,)}, "imagenet has a mean and std of its own"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, (6, 7, 3), np.uint8)
    with pytest.raises(DataError) as caught:
        first(folder(tmp_path / "d", picture, picture), 3, **options)
    assert message in str(caught.value)


def test_arrays_and_targets_that_are_images_are_not_resized() -> None:
    values = np.zeros((2, 1, 4, 5), np.float32)
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    with pytest.raises(DataError) as caught:
        opened({"x": values, "target": values}, specs, resize=(4,))
    assert "expected a picture of 8 bits to make ready for 'x', found float32 [2, 1, 4, 5]" in str(caught.value)
    assert "targets that are images do not follow" in str(caught.value.also[0])
