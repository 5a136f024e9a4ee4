"""A validation split goes by files: no file on both sides, none lost, none of either side empty."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.datasets import everything, opened, spec
from tgdonnx.data import DataOptions, open_training, split
from tgdonnx.data.lazy_arrays import ArrayGroup
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


def source(count: int) -> Source:
    return Source("here", tuple(ArrayGroup(f"{number:02}", {}) for number in range(count)))


@given(st.integers(2, 30), st.floats(0.02, 0.98), st.integers(0, 9))
def test_every_file_is_on_one_side_and_none_is_empty_or_it_is_refused(count: int, fraction: float, seed: int) -> None:
    if round(count * fraction) in (0, count):
        with pytest.raises(DataError, match=rf"of {count} files leaves none for (validation|training)"):
            split(source(count), fraction, seed)
        return
    training, validation = split(source(count), fraction, seed)
    assert len(validation.groups) == round(count * fraction)
    names = [group.name for part in (training, validation) for group in part.groups]
    assert sorted(names) == [f"{number:02}" for number in range(count)]
    assert split(source(count), fraction, seed) == (training, validation)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.floats(0.05, 0.95), st.integers(0, 9))
def test_of_every_class_a_like_share_is_held_out_and_one_at_least_is_trained_on(
    counts: list[int], fraction: float, seed: int
) -> None:
    classes = [str(name) for name, count in enumerate(counts) for _ in range(count)]
    labelled = replace(source(len(classes)), strata=tuple(classes))
    wanted = round(len(classes) * fraction)
    try:
        training, validation = split(labelled, fraction, seed)
    except DataError:
        assert len(classes) == 1 or wanted == 0 or max(counts) == 1
        return
    held_out = [validation.strata.count(str(name)) for name in range(len(counts))]
    assert all(training.strata.count(str(name)) == n - m >= 1 for name, (n, m) in enumerate(zip(counts, held_out)))
    assert all(min(n - 1, int(n * fraction)) <= m <= n * fraction + 1 for n, m in zip(counts, held_out))
    assert sum(held_out) <= wanted
    assert sum(held_out) == wanted or any(m == n - 1 for n, m in zip(counts, held_out))
    for part in (training, validation):
        assert part.strata == tuple(classes[int(group.name)] for group in part.groups)
    assert split(labelled, fraction, seed) == (training, validation)


def test_another_seed_holds_out_others() -> None:
    assert len({str(split(source(10), 0.2, seed)[1].groups) for seed in range(10)}) > 3


def files(directory: Path, count: int) -> Path:
    for number in range(count):
        picture = np.full((2, 1, 8, 8), number, np.float32)
        np.savez(directory / f"{number}.npz", x=picture, target=picture)
    return directory


def test_no_patch_of_a_held_out_file_is_trained_on_and_it_is_said_which_are_held_out(tmp_path: Path) -> None:
    options = DataOptions(patch=(4, 4), patches_per_epoch=60, augment=("flips",), validation_split=0.34)
    training, validation = open_training(files(tmp_path, 6), IMAGES, options, seed=3)
    assert validation is not None
    trained = {float(v) for epoch in (1, 2, 3) for x, _ in training.batches(8, epoch=epoch) for v in x.ravel()}
    validated = {float(v) for v in everything(validation)[0].ravel()}
    assert (len(trained), len(validated)) == (4, 2)
    assert not trained & validated
    assert len(validation) == 2 * 2 * 4, "tiles, not random patches"
    said = [remark for remark in validation.remarks if remark.startswith("held out for validation")]
    assert said == [f"held out for validation: {', '.join(f'{int(v)}.npz' for v in sorted(validated))}"]
    assert [Path(file["path"]).stem for file in validation.describe()["files"]] == [
        f"{int(v)}" for v in sorted(validated)
    ]


def test_a_split_that_cannot_be_is_told(tmp_path: Path) -> None:
    one = files(tmp_path, 1) / "0.npz"
    with pytest.raises(DataError, match=r"0.npz is a single file, and a split goes by files; give `validation`"):
        open_training(one, IMAGES, DataOptions(validation_split=0.2))
    files(tmp_path, 3)
    with pytest.raises(DataError, match=r"a validation split of 0\.1 of 3 files leaves none for validation"):
        open_training(tmp_path, IMAGES, DataOptions(validation_split=0.1))
    with pytest.raises(DataError, match="both validation data and a validation split"):
        open_training(tmp_path, IMAGES, DataOptions(validation_split=0.4), validation=one)
    with pytest.raises(DataError, match="leave out the validation split"):
        opened(tmp_path, IMAGES, validation_split=0.4)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 3.0, float("nan")])
def test_a_fraction_out_of_range_is_told(fraction: float) -> None:
    with pytest.raises(DataError, match="expected a validation split between 0 and 1"):
        DataOptions(validation_split=fraction)


def test_without_validation_there_is_none(tmp_path: Path) -> None:
    assert open_training(files(tmp_path, 2), IMAGES)[1] is None


def test_validation_that_is_empty_is_told(tmp_path: Path) -> None:
    (tmp_path / "held_out").mkdir()
    with pytest.raises(DataError, match="held_out holds no data"):
        open_training(files(tmp_path, 2), IMAGES, validation=tmp_path / "held_out")
    nothing = np.zeros((0, 1, 8, 8), np.float32)
    with pytest.raises(DataError, match="holds no sample"):
        open_training(files(tmp_path, 2) / "0.npz", IMAGES, validation={"x": nothing, "target": nothing})
