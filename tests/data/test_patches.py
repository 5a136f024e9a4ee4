"""Patches: of the same place in every array, inside it, the same for the same seed and epoch, and in any start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.datasets import opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


def coordinates(samples: int, height: int, width: int, factor: int = 1) -> Array:
    """Pictures whose values say where they lie: sample, row and column of the coarse grid."""
    n, h, w = np.ogrid[:samples, : height * factor, : width * factor]
    return (n * 10000 + h // factor * 100 + w // factor)[:, np.newaxis].astype(np.float32)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_input_and_target_come_from_the_same_place(h: int, w: int, factor: int, count: int, seed: int) -> None:
    x, target = coordinates(3, 9, 9), coordinates(3, 9, 9, factor)
    dataset = opened({"x": x, "target": target}, IMAGES, patch=(h, w), patches_per_epoch=count)
    batches = list(dataset.batches(4, epoch=1, seed=seed))
    assert sum(len(batch[0]) for batch in batches) == count == len(dataset)
    for xs, targets in batches:
        assert xs.shape[1:] == (1, h, w)
        assert targets.shape[1:] == (1, h * factor, w * factor)
        assert np.array_equal(np.repeat(np.repeat(xs, factor, 2), factor, 3), targets)
        assert np.array_equal(xs - xs[:, :, :1, :1], np.broadcast_to(coordinates(1, h, w), xs.shape))


def test_a_target_coarser_than_the_input_is_cut_on_its_own_pixels() -> None:
    x, target = coordinates(2, 6, 6, 2), coordinates(2, 6, 6)
    dataset = opened({"x": x, "target": target}, IMAGES, patch=(4, 8), patches_per_epoch=20)
    for xs, targets in dataset.batches(5, epoch=3):
        assert xs.shape[2:] == (4, 8)
        assert np.array_equal(np.repeat(np.repeat(targets, 2, 2), 2, 3), xs)


def test_every_place_and_sample_is_drawn() -> None:
    x = coordinates(2, 4, 5)
    dataset = opened({"x": x, "target": x}, IMAGES, patch=(3, 3), patches_per_epoch=600)
    corners = {float(patch[0, 0, 0]) for xs, _ in dataset.batches(50, epoch=1) for patch in xs}
    assert corners == {n * 10000 + h * 100 + w for n in range(2) for h in range(2) for w in range(3)}


def test_patches_of_volumes_have_a_depth_for_a_model_of_volumes_and_neighbours_for_one_of_pictures() -> None:
    d, h, w = np.ogrid[:6, :7, :8]
    volume = (d * 10000 + h * 100 + w).astype(np.float32)
    specs = (spec("x", 1, None, None, None), spec("target", 1, None, None, None))
    dataset = opened({"x": volume, "target": volume}, specs, layout="DHW", patch=(2, 3, 4), patches_per_epoch=9)
    for xs, targets in dataset.batches(3, epoch=1):
        assert xs.shape == (3, 1, 2, 3, 4)
        assert np.array_equal(xs, targets)
    flat = (spec("x", 3, None, None), spec("target", 1, None, None))
    dataset = opened({"x": volume, "target": volume}, flat, layout="DHW", patch=(3, 4), patches_per_epoch=40)
    seen = set()
    for xs, targets in dataset.batches(8, epoch=1):
        assert np.array_equal(xs[:, 1:2], targets)
        steps = xs[:, :, 0, 0] // 10000
        for below, middle, above in steps:
            seen.add(int(middle))
            assert (below, above) == (max(0, middle - 1), min(5, middle + 1))
    assert seen == set(range(6))


def test_labels_of_whole_pictures_go_with_every_patch() -> None:
    x, labels = coordinates(3, 9, 9), np.arange(3)
    specs = (spec("x", 1, None, None), spec("target", dtype="int64"))
    dataset = opened({"x": x, "target": labels}, specs, patch=(4, 4), patches_per_epoch=30)
    for xs, targets in dataset.batches(5, epoch=1):
        assert np.array_equal(xs[:, 0, 0, 0] // 10000, targets)


@given(st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_evaluation_covers_every_pixel_by_tiles_inside_the_picture(h: int, w: int) -> None:
    x = coordinates(2, 9, 7)[:, :, :, : max(w, 7)]
    w = min(w, 7)
    dataset = opened({"x": x, "target": x}, IMAGES, patch=(h, w))
    tiles = [tile for xs, _ in dataset.batches(3) for tile in xs]
    assert len(tiles) == len(dataset) == 2 * -(-9 // h) * -(-7 // w)
    assert {float(v) for tile in tiles for v in tile.ravel()} == {float(v) for v in x.ravel()}


@pytest.mark.parametrize("start", [1, 3])
def test_a_start_skips_without_reading(start: int) -> None:
    x = coordinates(3, 9, 9)
    dataset = opened({"x": x, "target": x}, IMAGES, patch=(4, 4), patches_per_epoch=17, augment=("flips",))
    whole = list(dataset.batches(4, epoch=2, seed=3))
    rest = list(dataset.batches(4, epoch=2, seed=3, start=start))
    assert len(rest) == len(whole) - start
    for expected, found in zip(whole[start:], rest):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))


def test_another_epoch_or_seed_draws_others() -> None:
    x = coordinates(3, 30, 30)
    dataset = opened({"x": x, "target": x}, IMAGES, patch=(4, 4), patches_per_epoch=8)
    drawn = [next(dataset.batches(8, epoch=e, seed=s))[0].tobytes() for e, s in ((1, 0), (2, 0), (1, 1))]
    assert len(set(drawn)) == 3


PROGRAM = """
import sys, hashlib
from pathlib import Path
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.data import DataOptions, open_training
names = [TensorSpec(n, "float32", (None, 1, None, None)) for n in ("x", "target")]
options = DataOptions(patch=(4, 4), patches_per_epoch=20, augment=("flips", "rotations"), validation_split=0.4)
sets = open_training(sys.argv[1], names, options, seed=7)
digest = hashlib.sha256()
for dataset in sets:
    for epoch in (1, 2, None):
        for batch in dataset.batches(3, epoch=epoch, seed=7):
            for array in batch:
                digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_batches_are_the_same_in_every_process_and_for_every_order_of_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = {name: rng.normal(size=(2, 1, 8, 9)).astype(np.float32) for name in "abcde"}
    for place, names in (("one", "abcde"), ("two", "ecadb")):
        (tmp_path / place).mkdir()
        for name in names:
            np.savez(tmp_path / place / f"{name}.npz", x=pictures[name], target=pictures[name])
    found = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, tmp_path / place],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": str(number), "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for number, place in enumerate(("one", "two"))
    ]
    assert found[0] == found[1]
    assert len(found[0].strip()) == 64


def refused(message: str, x: Array, target: Array, specs: tuple[TensorSpec, ...] = IMAGES, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        opened({"x": x, "target": target}, specs, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_a_single_size_is_for_all_axes() -> None:
    x = coordinates(2, 9, 7)
    square, single = (
        opened({"x": x, "target": x}, IMAGES, patch=patch, patches_per_epoch=6) for patch in ((4, 4), (4,))
    )
    for expected, found in zip(square.batches(2, epoch=1), single.batches(2, epoch=1)):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))


def test_patches_that_do_not_fit_are_told() -> None:
    x = coordinates(2, 9, 7)
    refused("is smaller than a patch: W is 7, the patch 8", x, x, patch=(8, 8))
    refused("expected 2 sizes", x, x, patch=(8, 8, 8))
    refused("expected 2 sizes", x, x, patch=(2, 2, 2))
    refused("'target' of size 9x6 does not lie on the grid of 9x6|'x' of size 9x7", x, x[:, :, :, :6], patch=(4, 4))
    coarse = coordinates(2, 4, 4, 2)
    refused("expected a multiple of 2 along W", coarse, coordinates(2, 4, 4), patch=(4, 3))
    refused("expected a patch such as 64x64, got 0x4", x, x, patch=(0, 4))
    refused("patches per epoch without a patch", x, x, patches_per_epoch=4)
    refused("expected patches per epoch >= 1, got 0", x, x, patch=(4, 4), patches_per_epoch=0)
    flat = np.zeros((3, 4), np.float32)
    refused("no array has axes of space to cut patches from", flat, flat, (spec("x", 4), spec("target", 4)), patch=(2,))


@pytest.mark.parametrize(("patch", "fits"), [((4, 4), True), ((8, 4), False)])
def test_a_patch_has_the_size_that_the_model_fixes(patch: tuple[int, int], fits: bool) -> None:
    x = coordinates(2, 9, 9)
    sizes: Optional[int] = 4
    specs = (spec("x", 1, sizes, sizes), spec("target", 1, None, None))
    if fits:
        assert next(opened({"x": x, "target": x}, specs, patch=patch).batches(2))[0].shape == (2, 1, 4, 4)
    else:
        refused("the model fixes H of 'x' at 4; a patch would give it 8", x, x, specs, patch=patch)
