"""Inputs without an axis of samples: one value for all, or one per sample and then one sample at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

import tgdonnx
from tests.data.datasets import everything, opened
from tests.support import models
from tests.support.checkpoints import CHECKPOINT
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx.data import Prefetched
from tgdonnx.errors import DataError
from tgdonnx.finetuning import TrainOptions
from tgdonnx.graphs.tensor_specs import TensorSpec

RNG = np.random.default_rng(3)
X = RNG.normal(size=(4, 2, 6, 5)).astype(np.float32)
LEVELS = np.array([0.1, 0.4, 0.2, 0.3], np.float32)


def specs(*shape: Optional[int], batch: Optional[int] = None, dtype: str = "float32") -> list[TensorSpec]:
    """A step that takes an image, a level of this shape, and an image as target."""
    image = (batch, 2, None, None)
    return [
        TensorSpec("x", "float32", image),
        TensorSpec("s", dtype, shape),
        TensorSpec("target", "float32", image, role="target"),
    ]


def data(level: Any, **more: Any) -> dict[str, Any]:
    return {"x": X, "s": level, "target": X * 2, **more}


@pytest.mark.parametrize(
    ("shape", "level"),
    [
        ((), np.array(0.3, np.float32)),
        ((), np.array([0.3], np.float32)),
        ((), np.array([0.3] * 4, np.float32)),
        ((), 0.3),
        ((1, 1, 1, 1), np.full((1, 1, 1, 1), 0.3, np.float32)),
        ((1, 1, 1, 1), np.array([0.3], np.float32)),
        ((1, 1, 1, 1), np.full((4, 1, 1, 1), 0.3, np.float32)),
        ((1, 1, 1, 1), 0.3),
        ((1,), np.full((4, 1), 0.3, np.float32)),
    ],
)
def test_one_value_for_all_samples_stands_in_every_batch_in_the_shape_of_the_input(
    shape: tuple[int, ...], level: Any
) -> None:
    dataset = opened(data(level), specs(*shape))
    batches = list(dataset.batches(3))
    assert [len(batch[0]) for batch in batches] == [3, 1]
    for batch in batches:
        assert batch[1].shape == shape
        assert batch[1].dtype == np.float32
        assert batch[1] == np.float32(0.3)
    assert np.array_equal(np.concatenate([batch[0] for batch in batches]), X)
    assert "s: 0.3 in every batch" in dataset.remarks


def test_a_table_that_all_samples_share_comes_whole() -> None:
    table = RNG.normal(size=(7, 3)).astype(np.float32)
    for given in (table, np.stack([table] * 4)):
        (batch,) = opened(data(given), specs(7, 3)).batches(4)
        assert np.array_equal(batch[1], table)


def test_a_map_that_all_samples_share_comes_whole_whatever_its_open_sizes() -> None:
    shared = RNG.normal(size=(1, 1, 6, 5)).astype(np.float32)
    (batch,) = opened(data(shared), specs(1, 1, None, None)).batches(4)
    assert np.array_equal(batch[1], shared)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [((), LEVELS), ((), LEVELS.reshape(4, 1)), ((1, 1, 1, 1), LEVELS.reshape(4, 1, 1, 1)), ((1,), LEVELS)],
)
def test_values_that_differ_between_samples_come_with_theirs_one_by_one(shape: tuple[int, ...], levels: Array) -> None:
    dataset = opened(data(levels), specs(*shape))
    batches = list(dataset.batches(1, epoch=1, seed=4))
    for x, level, _ in batches:
        place = int(np.flatnonzero((x == X).all(axis=(1, 2, 3)))[0])
        assert level.shape == shape
        assert level == LEVELS[place]
    assert sorted(float(batch[1].item()) for batch in batches) == sorted(LEVELS.tolist())


def test_maps_that_differ_between_samples_come_in_the_shape_of_the_input() -> None:
    maps = RNG.normal(size=(4, 1, 6, 5)).astype(np.float32)
    for place, batch in enumerate(opened(data(maps), specs(1, 1, None, None)).batches(1)):
        assert np.array_equal(batch[1], maps[place : place + 1])


def test_values_that_differ_between_samples_cannot_share_a_batch_and_the_remedy_is_said() -> None:
    dataset = opened(data(LEVELS), specs())
    for act in (lambda: dataset.require_batch(2), lambda: next(dataset.batches(2))):
        with pytest.raises(DataError, match=r"'s' has no axis of samples .* pass `batch=1` \(with `accumulate"):
            act()
    dataset.require_batch(1)
    assert dataset.fixed_batch == 1


def test_every_file_may_bring_its_own_value(tmp_path: Path) -> None:
    for place, level in enumerate((0.1, 0.1)):
        np.savez(tmp_path / f"{place}.npz", x=X[place * 2 :][:2], s=level, target=X[:2])
    (batch,) = opened(tmp_path, specs()).batches(4)
    assert batch[1] == np.float32(0.1)
    np.savez(tmp_path / "1.npz", x=X[2:], s=0.5, target=X[:2])
    dataset = opened(tmp_path, specs())
    assert [float(batch[1]) for batch in dataset.batches(1)] == pytest.approx([0.1, 0.1, 0.5, 0.5])
    with pytest.raises(DataError, match="`batch=1`"):
        dataset.require_batch(2)


def test_a_fixed_batch_of_one_takes_one_value_for_all_samples_too() -> None:
    dataset = opened(data(np.full((1, 1, 1, 1), 0.3, np.float32)), specs(1, 1, 1, 1, batch=1))
    assert [batch[1].tolist() for batch in dataset.batches(1)] == [np.full((1, 1, 1, 1), 0.3, np.float32).tolist()] * 4


def test_one_image_is_no_value_for_all_targets() -> None:
    with pytest.raises(DataError, match="differ in the number of samples"):
        opened({"x": X[:1], "s": 0.3, "target": X}, specs(batch=1))


def test_images_are_scaled_cut_and_turned_and_the_value_is_not() -> None:
    dataset = opened(
        data(np.array(0.3, np.float32)),
        specs(),
        scale=2.0,
        patch=(3, 3),
        patches_per_epoch=8,
        augment=("rotations",),
    )
    for x, level, _ in dataset.batches(4, epoch=1):
        assert x.shape == (4, 2, 3, 3)
        assert level == np.float32(0.3)
    shared = np.ones((1, 1, 6, 5), np.float32)
    assert np.array_equal(opened(data(shared), specs(1, 1, None, None), scale=2.0).batch(1, 0)[1], shared)
    assert opened(data(0.3), specs(), scales={"s": 3.0}).batch(1, 0)[1] == np.float32(0.3 / 3)


def test_a_level_per_sample_that_the_model_takes_in_batches_is_no_image_either() -> None:
    dataset = opened(data(LEVELS.reshape(4, 1, 1, 1)), specs(None, 1, 1, 1), scale=2.0, patch=(3, 3))
    x, level, _ = next(dataset.batches(16))
    assert x.shape == (16, 2, 3, 3)
    assert np.array_equal(level.reshape(4, 4), np.repeat(LEVELS, 4).reshape(4, 4))


@pytest.mark.parametrize(
    ("shape", "level"),
    [((), np.zeros(3, np.float32)), ((1, 1, 1, 1), np.zeros((4, 2, 1, 1), np.float32)), ((7, 3), np.zeros((7, 4)))],
)
def test_refuses_a_value_of_another_shape_with_both_that_it_could_have(shape: tuple[int, ...], level: Array) -> None:
    with pytest.raises(DataError, match="give that, or one for each of the 4 samples"):
        opened(data(level), specs(*shape))


def test_refuses_values_that_the_type_of_the_input_cannot_hold() -> None:
    assert opened(data(3), specs(dtype="int64")).batch(1, 0)[1] == 3
    for level, dtype in ((0.5, "int64"), (1e300, "float32"), (300, "uint8")):
        with pytest.raises(DataError, match="'s'"):
            opened(data(level), specs(dtype=dtype))


def denoiser(shape: str) -> Any:
    """y = W (x sigma), the level first."""
    return text_model(
        f"g (float{shape} sigma, float[N, 2, H, W] x) => (float[N, 2, H, W] y) {{ m = Mul(x, sigma)\n y = Conv(m, w) }}",
        w=(2, 2, 1, 1),
    )


@pytest.mark.parametrize("shape", ["", "[1, 1, 1, 1]"])
@pytest.mark.parametrize("per_sample", [False, True])
def test_a_step_at_a_level_is_that_of_a_model_with_the_level_drawn_into_the_data(
    shape: str, per_sample: bool, tmp_path: Path
) -> None:
    levels = LEVELS if per_sample else LEVELS[:1]
    path = models.save(denoiser(shape), tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    given = levels.reshape(-1, 1, 1, 1) if shape else levels
    neutral = np.ones((1, 1, 1, 1) if shape else (), np.float32)
    drawn = X * levels.reshape(-1, 1, 1, 1)
    options = TrainOptions(batch=1 if per_sample else 3, accumulate=2, epochs=2, learning_rate=0.05)
    weights = []
    for name, sigma, x in (("levels", given, X), ("drawn", neutral, drawn)):
        directory = tmp_path / name
        tgdonnx.build(tmp_path / "masked.onnx", directory, tgdonnx.BuildOptions(optimizer="sgd"))
        source = {"x": x, "sigma": sigma, "target": X[::-1]}
        report = tgdonnx.train(
            directory, tgdonnx.RunData(source, validation=source, retain=source, agree=source), options
        )
        weights.append((tgdonnx.finetuning.session.read_parameters(directory, CHECKPOINT)["w"], report.best.loss))
    np.testing.assert_allclose(weights[0][0], weights[1][0], rtol=1e-5, atol=1e-6)
    assert weights[0][1] == pytest.approx(weights[1][1], rel=1e-5)


def test_different_levels_are_refused_before_the_first_step(tmp_path: Path) -> None:
    path = models.save(denoiser(""), tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    before = sorted(file.name for file in (tmp_path / "artifacts").iterdir())
    for role in ("data", "validation", "retain", "agree"):
        good = {"x": X, "sigma": 0.5, "target": X}
        sources = {"data": good, role: {**good, "sigma": LEVELS}}
        with pytest.raises(DataError, match="'sigma' has no axis of samples"):
            tgdonnx.train(tmp_path / "artifacts", tgdonnx.RunData(**sources), TrainOptions(batch=2))
    assert sorted(file.name for file in (tmp_path / "artifacts").iterdir()) == before


def test_what_a_process_reads_ahead_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "data.npz", **data(LEVELS))
    plain = everything(opened(data(LEVELS.repeat(1)), specs(None)))
    monkeypatch.setattr("tgdonnx.data.prefetching.WORKER_PAYS", -1.0)
    dataset = Prefetched(opened(tmp_path / "data.npz", specs()))
    for _ in range(3):
        found = [batch[1] for batch in dataset.batches(1)]
        assert [level.shape for level in found] == [()] * 4
        assert np.array_equal(np.stack(found), plain[1])
        if dataset._worker is not None:
            dataset._worker._opened.wait(30)
