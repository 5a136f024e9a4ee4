"""Axes: what is stored in one order comes in the model's, and what cannot is refused."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

RNG = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def brought(array: Array, layout: str, *shape: Optional[int]) -> Array:
    """What comes of an array for an input of a shape, which is the target too."""
    specs = (spec("x", *shape), spec("target", *shape))
    return everything(opened({"x": array, "target": array}, specs, layout=layout))[0]


def test_channels_last_are_brought_first() -> None:
    array = values(4, 5, 6, 3)
    assert np.array_equal(brought(array, "NHWC", 3, None, None), np.einsum("nhwc->nchw", array))


def test_a_picture_is_one_sample_of_one_channel() -> None:
    array = values(5, 6)
    assert np.array_equal(brought(array, "HW", 1, None, None), array.reshape(1, 1, 5, 6))


def test_pictures_without_channels_get_one() -> None:
    array = values(4, 5, 6)
    assert np.array_equal(brought(array, "NHW", 1, None, None), array.reshape(4, 1, 5, 6))


def test_a_colour_picture_is_one_sample() -> None:
    array = values(5, 6, 3)
    assert np.array_equal(brought(array, "HWC", 3, None, None), np.einsum("hwc->chw", array)[np.newaxis])


def test_a_volume_stays_one_for_a_model_of_volumes() -> None:
    array = values(4, 5, 6)
    assert np.array_equal(brought(array, "DHW", 1, None, None, None), array.reshape(1, 1, 4, 5, 6))
    array = values(2, 4, 5, 6, 3)
    assert np.array_equal(brought(array, "NDHWC", 3, None, None, None), np.einsum("ndhwc->ncdhw", array))


def test_slices_of_a_volume_become_samples_of_a_model_of_pictures() -> None:
    array = values(7, 5, 6)
    assert np.array_equal(brought(array, "DHW", 1, None, None), array.reshape(7, 1, 5, 6))
    array = values(2, 4, 5, 6, 3)
    expected = np.einsum("ndhwc->ndchw", array).reshape(8, 3, 5, 6)
    assert np.array_equal(brought(array, "NDHWC", 3, None, None), expected)


@pytest.mark.parametrize("layout", ["DHW", "HWD"])
def test_neighbouring_slices_become_channels_and_the_last_ones_are_repeated(layout: str) -> None:
    array = values(4, 5, 6)
    stored = array if layout == "DHW" else np.moveaxis(array, 0, -1)
    specs = (spec("x", 5, None, None), spec("target", 1, None, None))
    dataset = opened({"x": stored, "target": stored}, specs, layout=layout)
    x, target = everything(dataset)
    places = [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [0, 1, 2, 3, 3], [1, 2, 3, 3, 3]]
    assert np.array_equal(x, array[np.array(places)])
    assert np.array_equal(target, array[:, np.newaxis])
    assert any("5 neighbouring slices" in remark and "last slice is repeated" in remark for remark in dataset.remarks)


def test_an_even_stack_has_no_middle_and_is_refused() -> None:
    with pytest.raises(DataError, match="an odd number of slices around the middle one, the model has 4 channels"):
        brought(values(7, 5, 6), "DHW", 4, None, None)


def test_every_input_may_have_a_layout_of_its_own() -> None:
    x, target = values(4, 5, 6, 3), values(4, 2, 5, 6)
    dataset = opened(
        {"x": x, "target": target},
        (spec("x", 3, 5, 6), spec("target", 2, 5, 6)),
        layouts={"x": "NHWC", "target": "NCHW"},
    )
    found = everything(dataset)
    assert np.array_equal(found[0], np.einsum("nhwc->nchw", x))
    assert np.array_equal(found[1], target)


def test_a_model_with_channels_last_is_said_to_be_one() -> None:
    array = values(4, 3, 5, 6)
    assert np.array_equal(brought(array, "NCHW:NHWC", None, None, 3), np.einsum("nchw->nhwc", array))
    picture = values(5, 6, 3)
    assert np.array_equal(brought(picture, "HWC:NHWC", None, None, 3), picture[np.newaxis])


def test_class_indices_have_no_channels() -> None:
    x, labels = values(4, 5, 6), np.arange(120).reshape(4, 5, 6)
    specs = (spec("x", 1, None, None), spec("target", None, None, dtype="int64"))
    assert np.array_equal(everything(opened({"x": x, "target": labels}, specs, layout="NHW"))[1], labels)
    volume = (spec("x", 1, None, None, None), spec("target", None, None, None, dtype="int64"))
    found = everything(opened({"x": x, "target": labels}, volume, layout="DHW"))
    assert found[1].shape == (1, 4, 5, 6)


def test_a_layout_for_all_images_leaves_numbers_per_sample_alone() -> None:
    x, size, label = values(4, 5, 6, 3), np.arange(4), np.arange(4)
    specs = (spec("x", 3, None, None), spec("size", dtype="int64"), spec("target", dtype="int64"))
    found = everything(opened({"x": x, "size": size, "target": label}, specs, layout="NHWC"))
    assert found[1].tolist() == found[2].tolist() == [0, 1, 2, 3]


def test_an_open_rank_follows_the_layout() -> None:
    array = values(4, 5, 6, 3)
    specs = (TensorSpec("x", "float32", None), TensorSpec("target", "float32", None, role="target"))
    assert everything(opened({"x": array, "target": array}, specs, layout="NHWC"))[0].shape == (4, 3, 5, 6)


def test_lines_have_a_width_alone() -> None:
    array = values(4, 9, 2)
    assert np.array_equal(brought(array, "NWC", 2, None), np.einsum("nwc->ncw", array))


@pytest.mark.parametrize(
    ("array", "shape", "message"),
    [
        (
            values(6, 4, 5, 3),
            (3, None, None),
            r"found float32 \[6, 4, 5, 3\]; it would fit as `layouts={'x': 'NHWC'}`, if that",
        ),
        (
            values(4, 5, 3),
            (3, None, None),
            r"found float32 \[4, 5, 3\]; it would fit as `layouts={'x': 'HWC'}` or `layouts={'x': 'DHW'}` or "
            r"`layouts={'x': 'HWD'}`",
        ),
        (values(6, 4, 5), (None, None, None), "it would fit as `layouts={'x': 'NHW'}` or `layouts={'x': 'CHW'}`"),
        (values(2, 4, 5, 6, 3), (3, None, None, None), "it would fit as `layouts={'x': 'NDHWC'}`, if that"),
        (values(6, 3, 70, 80), (3, 64, 64), r"found float32 \[6, 3, 70, 80\]; `patch=\(64, 64\)` trains on patches"),
    ],
)
def test_data_in_another_order_is_refused_with_the_layout_that_would_fit(
    array: Array, shape: tuple[Optional[int], ...], message: str
) -> None:
    specs = (spec("x", *shape), TensorSpec("target", "float32", None, role="target"))
    with pytest.raises(DataError, match=message):
        opened({"x": array, "target": array}, specs)


@pytest.mark.parametrize(
    ("array", "layout", "shape", "message"),
    [
        (values(4, 5, 6), "NHWC", (3, None, None), r"has 3 axes \[4, 5, 6\]; that is not NHWC"),
        (values(4, 5, 6, 2), "NHWC", (3, None, None), r"which as NHWC gives samples of \[2, 5, 6\]"),
        (values(5, 6), "HW", (3, None, None), r"which as HW gives samples of \[1, 5, 6\]"),
        (values(5, 6), "HW", (3, 8, 8, 8), "HW cannot be brought to NCDHW.*: it lacks D"),
        (values(5, 6, 3), "HWC", (3, None), "HWC cannot be brought to NCW.*the model has no axis for H"),
        (values(5, 6), "HWX", (1, 5, 6), "of the letters N, C, D, H, W, each once and with W.* got 'HWX'"),
        (values(5, 6), "HH", (1, 5, 6), "got 'HH'"),
        (values(5, 6), "NC", (1, 5, 6), "with W"),
        (values(5, 6), "HW:HWN", (1, 5, 6), "with N first"),
        (values(5, 6), "HW:", (1, 5, 6), "got 'HW:'"),
        (values(5, 6), "HW:NHW", (1, 5, 6), "has 4 axes in the model; that is not NHW"),
    ],
)
def test_a_layout_that_does_not_fit_is_told(
    array: Array, layout: str, shape: tuple[Optional[int], ...], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        brought(array, layout, *shape)
    assert len(str(caught.value).splitlines()) == 1


def test_a_layout_for_an_input_that_there_is_not_is_told() -> None:
    with pytest.raises(DataError, match="`layouts` names 'y', which the model does not take; expected x, target"):
        opened({"x": values(1, 1)}, (spec("x", 1), spec("target", 1)), layouts={"y": "NW"})


def test_number_of_samples_is_that_of_slices() -> None:
    x, target = values(7, 5, 6), values(6, 5, 6)
    with pytest.raises(DataError, match=r"differ in the number of samples: \{'x': 7, 'target': 6\}"):
        opened({"x": x, "target": target}, (spec("x", 3, 5, 6), spec("target", 1, 5, 6)), layout="DHW")
