"""Scaling: of the training data alone, the same for images of a kind, recorded and undone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.data import DataOptions, lazy_arrays, open_training
from tgdonnx.data import scaling as scaling_module
from tgdonnx.data.scaling import Linear
from tgdonnx.errors import DataError

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))
RNG = np.random.default_rng(0)
BYTES = RNG.integers(3, 250, (4, 1, 6, 7), np.uint8)
WORDS = RNG.integers(-1000, 3000, (4, 1, 6, 7), np.int16)

EXPECTED: dict[Any, tuple[float, float]] = {
    255: (0.0, 255.0),
    1: (0.0, 1.0),
    0.5: (0.0, 0.5),
    "minmax": (float(WORDS.min()), float(WORDS.max()) - float(WORDS.min())),
    "percentile": (
        float(np.quantile(WORDS.astype(float), 0.01)),
        float(np.quantile(WORDS.astype(float), 0.99) - np.quantile(WORDS.astype(float), 0.01)),
    ),
    "standard": (float(WORDS.astype(float).mean()), float(WORDS.astype(float).std())),
}


@pytest.mark.parametrize("how", EXPECTED)
@pytest.mark.parametrize("block", [2**24, 100])
def test_input_and_target_are_scaled_alike_by_what_the_input_has(
    how: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", block)
    target = (WORDS // 2).astype(np.int16)
    dataset = opened({"x": WORDS, "target": target}, IMAGES, scale=how)
    offset, divisor = EXPECTED[how]
    for found, stored in zip(everything(dataset), (WORDS, target)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, (stored.astype(float) - offset) / divisor, rtol=1e-6, atol=1e-6)
    assert dataset.scaling is not None
    np.testing.assert_allclose(dataset.scaling.undo(everything(dataset)[1]), target, rtol=0, atol=2e-3)
    record = json.loads(json.dumps(dataset.describe()))["scaling"]
    assert record["x"] == record["target"]
    assert (record["x"]["offset"], record["x"]["divisor"]) == pytest.approx((offset, divisor), rel=1e-12)
    assert record["x"]["how"] == how


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
@settings(max_examples=50, deadline=None)
def test_undone_is_as_it_was(offset: float, divisor: float, values: list[float]) -> None:
    linear = Linear(offset, divisor, "minmax")
    stored = np.array(values)
    scale = max(abs(offset), float(np.abs(stored).max()), 1.0)
    np.testing.assert_allclose(linear.undo(linear.apply(stored).astype(np.float64)), stored, rtol=0, atol=2e-7 * scale)


def test_the_range_of_targets_is_that_of_batches() -> None:
    for options in ({"scale": "standard"}, {"scales": {"x": 1, "target": 3}}):
        dataset = opened({"x": WORDS, "target": WORDS}, IMAGES, **options)
        target = everything(dataset)[1]
        assert dataset.target_range("target") == (float(target.min()), float(target.max()))


def test_every_conversion_is_said() -> None:
    dataset = opened({"x": BYTES, "target": WORDS}, IMAGES, scale="minmax")
    low, high = int(BYTES.min()), int(BYTES.max())
    assert f"x: uint8 to float32: (v - {low}) / {high - low} (minmax)" in dataset.remarks
    assert f"target: int16 to float32: (v - {low}) / {high - low} (minmax)" in dataset.remarks
    assert "x: uint8 to float32: v / 255" in opened({"x": BYTES, "target": BYTES}, IMAGES, scale=255.0).remarks


def test_an_input_can_be_scaled_alone() -> None:
    mask = RNG.integers(0, 2, BYTES.shape).astype(np.float32)
    dataset = opened({"x": BYTES, "target": mask}, IMAGES, scales={"x": 255})
    x, target = everything(dataset)
    np.testing.assert_allclose(x, BYTES / 255, rtol=1e-6)
    assert np.array_equal(target, mask)
    assert dataset.scaling is not None
    assert dataset.scaling.undo(target) is target


def test_class_indices_are_taken_as_they_are_when_that_is_said() -> None:
    labels = RNG.integers(0, 4, (4, 6, 7)).astype(np.uint8)
    specs = (spec("x", 1, None, None), spec("target", None, None, dtype="int64"))
    dataset = opened({"x": BYTES, "target": labels}, specs, scale=255, scales={"target": 1})
    found = everything(dataset)[1]
    assert found.dtype == np.int64
    assert np.array_equal(found, labels)
    assert "target: uint8 to int64, every value as it is" in dataset.remarks


def test_validation_is_scaled_by_the_training_data(tmp_path: Path) -> None:
    train, held_out = tmp_path / "train.npz", tmp_path / "held_out.npz"
    np.savez(train, x=BYTES, target=BYTES)
    np.savez(held_out, x=BYTES // 2, target=BYTES // 2)
    training, validation = open_training(train, IMAGES, DataOptions(scale="standard"), validation=held_out)
    assert validation is not None
    assert validation.scaling == training.scaling
    expected = (BYTES // 2 - BYTES.astype(float).mean()) / BYTES.astype(float).std()
    np.testing.assert_allclose(everything(validation)[0], expected, rtol=1e-5, atol=1e-6)


def test_a_split_measures_the_training_files_alone(tmp_path: Path) -> None:
    for number in range(4):
        np.savez(
            tmp_path / f"{number}.npz", **{n: np.full((1, 1, 2, 2), 2.0**number, np.float32) for n in ("x", "target")}
        )
    training, validation = open_training(tmp_path, IMAGES, DataOptions(scale="minmax", validation_split=0.25))
    assert validation is not None
    assert training.scaling is not None
    held_out = float(training.scaling.undo(everything(validation)[0][0, 0, 0, :1])[0])
    left = sorted({1.0, 2.0, 4.0, 8.0} - {held_out})
    linear = training.scaling.arrays["x"]
    assert (linear.offset, linear.divisor) == (left[0], left[-1] - left[0])


def test_percentiles_of_much_data_come_from_evenly_spaced_values_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling_module, "PERCENTILE_VALUES", 50)
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 100)
    dataset = opened({"x": WORDS, "target": WORDS}, IMAGES, scale="percentile")
    assert dataset.scaling is not None
    linear = dataset.scaling.arrays["x"]
    assert linear.every == 4
    assert linear.offset == pytest.approx(np.quantile(WORDS.ravel()[::4].astype(float), 0.01))
    assert any("from 1 in 4 values" in remark for remark in dataset.remarks)


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("uint8", "it, or say how: `scale=255` divides by it, `scale=1` takes"),
        ("uint16", "it, or say how: `scale=65535` divides by it"),
        (
            "int16",
            r"it, in numpy with \.astype\('float32'\), or say how: `scales={'x': 1}` takes the numbers as they are",
        ),
        ("float64", r"it, in numpy with \.astype\('float32'\), or say how: `scales={'x': 1}`"),
        (">f4", r"it, in numpy with \.astype\('float32'\), or say how: `scales={'x': 1}`"),
    ],
)
def test_numbers_of_another_kind_are_refused_with_the_scale_that_would_take_them(dtype: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"convert {hint}"):
        opened({"x": BYTES.astype(dtype), "target": BYTES.astype(np.float32)}, IMAGES)
    taken = opened({"x": BYTES.astype(dtype), "target": BYTES.astype(np.float32)}, IMAGES, scales={"x": 1})
    assert np.array_equal(everything(taken)[0], BYTES.astype(np.float32))


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (BYTES, {"scale": "max"}, "expected a scale of minmax, percentile, standard, imagenet, or a number; got 'max'"),
        (BYTES, {"scale": 0}, "expected a scale > 0, got 0"),
        (BYTES, {"scale": -1.0}, "expected a scale > 0, got -1"),
        (BYTES, {"scale": float("nan")}, "expected a scale > 0, got nan"),
        (BYTES, {"scales": {"y": 1}}, "`scales` names 'y', which the model does not take"),
        (
            np.full((2, 1, 3, 3), 7, np.uint8),
            {"scale": "minmax"},
            "'x' cannot be scaled by minmax: its values do not differ",
        ),
        (np.full((2, 1, 3, 3), 7, np.uint8), {"scale": "standard"}, "do not differ, 7 to 7"),
        (BYTES.astype(np.complex64), {"scale": 1}, "these are no numbers to scale"),
        (BYTES.astype(str), {"scale": 1}, "found text .*, not numbers"),
    ],
)
def test_a_scale_that_cannot_be_is_told(x: Array, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened({"x": x, "target": x}, IMAGES, **options)


def test_integers_that_would_change_are_refused() -> None:
    specs = (spec("x", 1, None, None), spec("target", dtype="int64"))
    with pytest.raises(DataError, match="where no value can change"):
        opened({"x": BYTES.astype(np.float32), "target": np.zeros(4, np.uint8)}, specs, scales={"target": 255})


def test_a_number_too_large_for_float32_is_told() -> None:
    x = np.full((1, 1, 2, 2), 1e300)
    dataset = opened({"x": x, "target": x}, IMAGES, scale=1)
    with pytest.raises(DataError, match="'x' is too large for float32 once scaled"):
        next(dataset.batches(1))
