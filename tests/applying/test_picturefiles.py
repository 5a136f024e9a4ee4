"""Results as pages of a TIFF: slices of a stack, and channels that are no colours; nothing is lost without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.applying.refusals import refuse
from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError


def network(path: Path, channels: int) -> Path:
    text = f"g (float[N, 1, H, W] x) => (float[N, {channels}, H, W] y) {{ y = Conv<pads = [1, 1, 1, 1]>(x, w, b) }}"
    return save(text_model(text, w=(channels, 1, 3, 3), b=(channels,)), path)


def pages(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.array(page) for page in ImageSequence.Iterator(image)])


def stack(path: Path, values: np.ndarray) -> Path:
    first, *others = map(Image.fromarray, values)
    first.save(path, save_all=True, append_images=others)
    return path


def expected(model: Path, images: np.ndarray) -> np.ndarray:
    (found,) = open_session(str(model)).run(None, {"x": images.astype(np.float32)[:, None]})
    return np.asarray(found)


VALUES = np.random.default_rng(0).integers(0, 256, (4, 9, 8)).astype(np.uint8)


def test_a_stack_becomes_a_stack_of_its_type(tmp_path: Path) -> None:
    model, source = network(tmp_path / "model.onnx", 1), stack(tmp_path / "in.tif", VALUES)
    apply(model, source, tmp_path / "out.tif", reading=DataOptions(scale=255))
    found = pages(tmp_path / "out.tif")
    values = expected(model, VALUES / 255)[:, 0].astype(np.float64) * 255
    assert (found.shape, found.dtype) == (VALUES.shape, np.uint8)
    np.testing.assert_allclose(found, np.clip(values, 0, 255), rtol=0, atol=0.5 + 1e-3)


def test_scores_of_a_stack_are_pages_of_float32(tmp_path: Path) -> None:
    model, source = network(tmp_path / "model.onnx", 1), stack(tmp_path / "in.tif", VALUES)
    options = ApplyOptions(form="scores")
    apply(model, source, tmp_path / "out.tif", reading=DataOptions(scale=255), options=options)
    found = pages(tmp_path / "out.tif")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(model, VALUES / 255)[:, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".tif"), (5, ".tiff")])
def test_channels_that_are_no_colours_are_pages_and_that_is_said(channels: int, suffix: str, tmp_path: Path) -> None:
    model = network(tmp_path / "model.onnx", channels)
    (tmp_path / "in").mkdir()
    Image.fromarray(VALUES[0]).save(tmp_path / "in" / f"a{suffix}")
    for out in (tmp_path / f"out{suffix}", tmp_path / "out"):
        data = tmp_path / "in" / f"a{suffix}" if out.suffix else tmp_path / "in"
        options = ApplyOptions(form="probabilities")
        report = apply(model, data, out, reading=DataOptions(scale=255), options=options)
        found = pages(out if out.suffix else out / f"a{suffix}")
        powers = np.exp(expected(model, VALUES[:1] / 255)[0].astype(np.float64))
        np.testing.assert_allclose(found, powers / powers.sum(0), rtol=0, atol=1e-6)
        assert f"the {channels} channels of a result are the pages of its TIFF, float32" in report.remarks


def test_what_neither_pages_nor_colours_hold_is_refused(tmp_path: Path) -> None:
    model, source = network(tmp_path / "model.onnx", 3), stack(tmp_path / "in.tif", VALUES)
    reading = DataOptions(scale=255)
    refuse(
        "a TIFF has pages for either slices or channels",
        DataError,
        tmp_path,
        model,
        source,
        tmp_path / "out.tif",
        reading=reading,
    )
    Image.fromarray(VALUES[0].astype(np.uint16)).save(tmp_path / "deep.png")
    three = tmp_path / "deep.png", tmp_path / "out.png"
    message = "the result has 3 channels of uint16, and a picture has colours of 8 bits"
    options = ApplyOptions(form="image")
    refuse(message, DataError, tmp_path, model, *three, reading=reading, options=options)
