"""Batches lose and repeat nothing, and data is known by what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.arrays_of_a_model import INPUTS, arrays, saved
from tests.data.datasets import everything, spec
from tgdonnx.data import DataOptions, Dataset, open_dataset, open_like
from tgdonnx.data import content as content_module
from tgdonnx.data.targets import TargetLimits
from tgdonnx.errors import DataError, MissingArrayError


def numbered(samples: int) -> Dataset:
    x = np.arange(samples, dtype=np.float32).reshape(-1, 1)
    return open_dataset({"x": x, "target": 10 * x}, (spec("x", 1), spec("target", 1)))


@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 9), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_batches_hold_every_sample_once_and_keep_what_belongs_together(
    samples: int, size: int, seed: int, epoch: int
) -> None:
    batches = list(numbered(samples).batches(size, epoch=epoch, seed=seed))
    assert [len(batch[0]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-samples // size)
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    for start, (first, second) in zip(range(0, samples, size), batches):
        assert first[:, 0].tolist() == sorted(order[start : start + size])
        assert np.array_equal(second, 10 * first)


def test_evaluation_follows_the_arrays() -> None:
    assert [batch[0][:, 0].tolist() for batch in numbered(7).batches(3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("epoch", [None, 2])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_start_skips_batches_without_changing_the_others(start: int, epoch: Optional[int]) -> None:
    whole = list(numbered(7).batches(3, epoch=epoch, seed=1))
    rest = list(numbered(7).batches(3, epoch=epoch, seed=1, start=start))
    assert len(rest) == 3 - start
    for expected, found in zip(whole[start:], rest):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))


@pytest.mark.parametrize("form", ["npz", "npy"])
def test_batches_are_contiguous_arrays_of_their_own(form: str, tmp_path: Path) -> None:
    turned: dict[str, Any] = {"x": np.asfortranarray(arrays()["x"])}
    dataset = open_dataset(saved(tmp_path, form, {**arrays(), **turned}), INPUTS)
    order = np.random.default_rng([0, 1]).permutation(6)
    for number, batch in enumerate(dataset.batches(4, epoch=1)):
        for array in batch:
            assert type(array) is np.ndarray
            assert array.flags.c_contiguous
        assert np.array_equal(batch[0], turned["x"][np.sort(order[4 * number : 4 * number + 4])])


def test_a_number_that_is_not_finite_in_data_too_large_to_look_through_is_told_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "EXAMINED_BYTES", 100)
    x = np.zeros((9, 1, 4), np.float32)
    x[7, 0, 2] = np.inf
    np.savez(tmp_path / "data.npz", x=x, target=np.zeros((9, 1, 4), np.float32))
    dataset = open_dataset(tmp_path / "data.npz", (spec("x", 1, None), spec("target", 1, None)))
    assert any("values are checked as they are read" in remark for remark in dataset.remarks)
    batches = dataset.batches(3)
    assert len(next(batches)[0]) == 3
    assert len(next(batches)[0]) == 3
    with pytest.raises(DataError, match=r"data.npz: x\[7, 0, 2\] is inf; remove or repair this sample"):
        next(batches)


@pytest.mark.parametrize("examined", [0, 2**20])
def test_targets_out_of_a_losss_range_are_told_whether_or_not_all_data_was_looked_at(
    examined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "EXAMINED_BYTES", examined)
    target = np.zeros((6, 1), np.float32)
    target[4] = 1.5
    dataset = open_dataset({"x": target, "target": target}, (spec("x", 1), spec("target", 1)))

    def train() -> None:
        dataset.require_target(TargetLimits("target", 0, 1, "bce"))
        list(dataset.batches(2))

    with pytest.raises(
        DataError,
        match=r"in 0 to 1, found (0 to )?1\.5 \(the data(, sample 4)?: target\[(4, )?0\] is 1\.5; 1 of [16] values? is outs",
    ):
        train()
    halved = DataOptions(scales={"target": 2})
    scaled = open_dataset({"x": target, "target": target}, (spec("x", 1), spec("target", 1)), halved)
    scaled.require_target(TargetLimits("target", 0, 1, "bce"))
    assert len(list(scaled.batches(2))) == 3


@dataclass(frozen=True)
class NewerOptions(DataOptions):
    """Those of a version to come."""

    newer: int = 0


def test_the_identity_of_data_is_that_of_its_contents_and_options_and_not_of_its_place(tmp_path: Path) -> None:
    found = {}
    for place, changed in (("a", {}), ("b", {}), ("c", {"size": np.arange(6)[::-1].copy()})):
        (tmp_path / place).mkdir()
        path = saved(tmp_path / place, "npy", arrays(**changed))
        found[place] = open_dataset(path, INPUTS).identity
    assert found["a"] == found["b"] != found["c"]
    path = tmp_path / "a" / "data"
    assert open_dataset(path, INPUTS, DataOptions(augment=("flips",))).identity != found["a"]
    assert open_dataset(path, INPUTS, NewerOptions()).identity == found["a"]
    assert open_dataset(path, INPUTS, NewerOptions(newer=1)).identity != found["a"]
    memory = [open_dataset(arrays(size=np.arange(6) + shift), INPUTS).identity for shift in (0, 0, 1)]
    assert memory[0] == memory[1] != memory[2]


def test_more_data_is_opened_as_other_data_is_and_may_lack_the_target() -> None:
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    x = np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)
    options = DataOptions(
        map={"noisy": "x", "clean": "target"},
        scales={"x": "minmax", "target": 2.0},
        patch=(4, 4),
        augment=("flips",),
    )
    dataset = open_dataset({"noisy": x, "clean": x}, specs, options)
    assert dataset.scaling is not None
    with pytest.raises(MissingArrayError, match="no array 'clean' to map to 'target'") as caught:
        open_like(dataset, {"noisy": x[:1]})
    assert caught.value.array == "target"
    more = open_like(dataset, {"noisy": x[:1]}, specs[:1], purpose="training")
    assert more.options.augment == ("flips",)
    assert more.scaling == dataset.scaling
    other = open_like(dataset, {"noisy": x[:1] // 2}, specs[:1])
    assert other.options.augment == ()
    assert other.scaling == dataset.scaling
    tiles = everything(other)
    assert [array.shape for array in tiles] == [(4, 1, 4, 4)]
    np.testing.assert_allclose(tiles[0][0, 0], (x[0, 0, :4, :4] // 2) / 127.0, rtol=1e-6)
