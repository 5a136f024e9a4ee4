"""Targets of cross-entropy: whatever obviously holds class indices gives the same int64 indices, and says what was done."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.data.datasets import everything, opened
from tests.support.models import Array
from tgdonnx.data.targets import TargetLimits
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

CLASSES = 3
X = TensorSpec("x", "float32", (None, 2, None, None))
MAP = TensorSpec("target", "int64", (None, None, None), CLASSES, role="target")
ONE = TensorSpec("target", "int64", (None,), CLASSES, role="target")
LIMITS = TargetLimits("target", 0, CLASSES - 1, "ce", labels=True)
RNG = np.random.default_rng(4)
IMAGES = RNG.normal(size=(5, 2, 4, 6)).astype(np.float32)
PLACES = RNG.integers(0, CLASSES, (5, 4, 6))
WHOLE = RNG.integers(0, CLASSES, 5)


def one_hot(labels: Array, axis: int, dtype: Any = np.float32) -> Array:
    return np.moveaxis(np.eye(CLASSES)[labels], -1, axis).astype(dtype)


FORMS: dict[str, tuple[Array, TensorSpec, Array]] = {
    **{
        f"{dtype} per place": (PLACES.astype(dtype), MAP, PLACES)
        for dtype in ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
    },
    "big-endian": (PLACES.astype(">i4"), MAP, PLACES),
    "half precision": (PLACES.astype(np.float16), MAP, PLACES),
    "bool": (PLACES > 0, MAP, (PLACES > 0).astype(np.int64)),
    "an axis of channels": (PLACES[:, None].astype(np.uint8), MAP, PLACES),
    "a last axis of channels": (PLACES[..., None].astype(np.int32), MAP, PLACES),
    "one-hot": (one_hot(PLACES, 1), MAP, PLACES),
    "one-hot, channels last": (one_hot(PLACES, 3, np.uint8), MAP, PLACES),
    "one-hot, bool": (one_hot(PLACES, 1, bool), MAP, PLACES),
    "per picture": (WHOLE.astype(np.uint8), ONE, WHOLE),
    "a column": (WHOLE[:, None].astype(np.int16), ONE, WHOLE),
    "one-hot per picture": (one_hot(WHOLE, 1), ONE, WHOLE),
    "a column of floats": (WHOLE[:, None].astype(np.float64), ONE, WHOLE),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_in_any_form_are_the_same_indices(form: str) -> None:
    stored, spec, expected = FORMS[form]
    dataset = opened({"x": IMAGES, "target": stored}, (X, spec))
    found = everything(dataset)[1]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    said = [remark for remark in dataset.remarks if remark.startswith("target")]
    assert bool(said) == (stored.dtype != np.int64), "what is changed is said"


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channel", [False, True])
def test_the_layout_of_the_images_does_for_labels_with_and_without_an_axis_of_channels(
    layout: str, channel: bool
) -> None:
    axis = layout.index("C")
    target = np.expand_dims(PLACES, axis) if channel else PLACES
    dataset = opened({"x": np.moveaxis(IMAGES, 1, axis), "target": target.astype(np.uint8)}, (X, MAP), layout=layout)
    x, found = everything(dataset)
    np.testing.assert_array_equal(x, IMAGES)
    np.testing.assert_array_equal(found, PLACES)


def test_one_hot_with_equal_sizes_everywhere_is_read_along_the_axis_that_is_one_hot() -> None:
    places = RNG.integers(0, CLASSES, (4, CLASSES, CLASSES))
    images = np.zeros((4, 2, CLASSES, CLASSES), np.float32)
    for axis in (1, 3):
        dataset = opened({"x": images, "target": one_hot(places, axis)}, (X, MAP))
        np.testing.assert_array_equal(everything(dataset)[1], places)


def test_many_samples_of_one_hot_are_read_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.data.labels.BLOCK_BYTES", 600)
    dataset = opened({"x": IMAGES, "target": one_hot(PLACES, 1)}, (X, MAP))
    np.testing.assert_array_equal(everything(dataset)[1], PLACES)


def broken(labels: Array, index: tuple[int, ...], value: float, dtype: Any = np.float32) -> Array:
    changed = labels.astype(dtype)
    changed[index] = value
    return changed


REFUSED: dict[str, tuple[Array, TensorSpec, str]] = {
    "a fraction": (broken(PLACES, (3, 1, 2), 0.5), MAP, r"target\[3, 1, 2\] is 0\.5; .* build with `loss='mse'`"),
    "NaN": (broken(PLACES, (3, 1, 2), np.nan), MAP, r"target\[3, 1, 2\] is nan"),
    "no longer one-hot": (broken(one_hot(PLACES, 1), (2, 0, 1, 1), 2), MAP, r"target\[2\] is not one-hot"),
    "probabilities": (
        np.full((5, CLASSES, 4, 6), 1 / 3, np.float32),
        MAP,
        "one-hot with 3 classes: build with `loss='mse'`",
    ),
    "other classes": (
        np.eye(4, dtype=np.float32)[WHOLE],
        ONE,
        "one-hot, it would have 4 classes, and the model has 3, to which none can be added: bring it to 3",
    ),
    "classes that are the last axis": (
        PLACES,
        TensorSpec("target", "int64", (None, 6, 5), 4, role="target"),
        r"it would fit if axis -1 of the output counted its classes: then say so, as in `loss='ce\(axis=-1\)'`",
    ),
    "classes that are axis 1": (
        PLACES,
        TensorSpec("target", "int64", (None, 9, 4), 6, role="target"),
        r"it would fit if axis 1 of the output counted its classes: .*`loss='ce\(axis=1\)'`",
    ),
    "complex numbers": (PLACES.astype(np.complex64), MAP, "found complex64"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_labels_is_refused_by_place(form: str) -> None:
    stored, spec, message = REFUSED[form]
    with pytest.raises(DataError, match=message) as caught:
        everything(opened({"x": IMAGES, "target": stored}, (X, spec)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("examined", [0, 2**30])
@pytest.mark.parametrize(
    ("value", "dtype", "shown"), [(255, np.uint8, "255"), (-1, np.int8, "-1"), (2**64 - 1, np.uint64, "9.22337e+18")]
)
def test_a_class_that_there_is_not_is_named_with_its_sample_and_the_count_of_classes(
    value: int, dtype: Any, shown: str, examined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tgdonnx.data.content.EXAMINED_BYTES", examined)
    dataset = opened({"x": IMAGES, "target": broken(PLACES, (3, 2, 1), value, dtype)}, (X, MAP))

    def look() -> None:
        dataset.require_target(LIMITS)
        everything(dataset)

    with pytest.raises(DataError) as caught:
        look()
    said = str(caught.value)
    assert "a model of 3 classes" in said
    assert f"target[{'3, ' if examined else ''}2, 1] is {shown}" in said
    assert examined or "sample 3" in said
    assert f"1 of {PLACES.size if examined else PLACES[0].size} values is outside" in said
    assert "to which none can be added" in said
    assert f"`loss='ce(ignore={shown})'`" in said


@pytest.mark.parametrize("examined", [0, 2**30])
def test_a_label_that_does_not_count_may_be_any(examined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.data.content.EXAMINED_BYTES", examined)
    stored = broken(PLACES, (3, 2, 1), 255, np.uint8)
    dataset = opened({"x": IMAGES, "target": stored}, (X, MAP))
    dataset.require_target(replace(LIMITS, ignore=255))
    np.testing.assert_array_equal(everything(dataset)[1], stored)
    for value, said in ((3, "correct them, or leave them out"), (255, None)):
        stored[1, 0, 0] = value
        dataset = opened({"x": IMAGES, "target": stored}, (X, MAP))
        with pytest.raises(DataError, match=said) if said else nullcontext():
            dataset.require_target(replace(LIMITS, ignore=255))
            everything(dataset)


def test_labels_that_count_from_1_are_told_so() -> None:
    dataset = opened({"x": IMAGES, "target": PLACES + 1}, (X, MAP))
    with pytest.raises(DataError, match="subtract 1 if they count from 1"):
        dataset.require_target(LIMITS)


def test_arrays_that_are_no_labels_are_left_alone() -> None:
    values = TensorSpec("target", "float32", (None, 1, None, None), role="target")
    target = PLACES[:, None].astype(np.float32)
    dataset = opened({"x": IMAGES, "target": target}, (X, values))
    np.testing.assert_array_equal(everything(dataset)[1], target)
    with pytest.raises(DataError, match="expected 'target' to be float32"):
        opened({"x": IMAGES, "target": PLACES}, (X, values))
