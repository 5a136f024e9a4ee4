"""What outputs become: images, scores, probabilities and classes, and what of it follows from the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.applying import Form
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError

Array = NDArray[Any]


def noise(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def segmenter(path: Path, end: str = "Identity", *, classes: int = 4) -> Path:
    text = f"""g (float[N, 1, H, W] x) => (float[N, {classes}, H, W] y) {{
        a = Conv<pads = [1, 1, 1, 1]>(x, v, c) r = Relu(a) z = Conv(r, w, d) y = {end}(z)
    }}"""
    return save(text_model(text, v=(6, 1, 3, 3), c=(6,), w=(classes, 6, 1, 1), d=(classes,)), path)


def applied(path: Path, data: Array, form: Optional[Form] = None, scale: Optional[float] = None) -> tuple[Array, str]:
    options = ApplyOptions(form=form, tile=(12, 14))
    report = apply(path, data, reading=DataOptions(scale=scale), options=options)
    return report.arrays["y"], " ".join(report.remarks)


def given(path: Path, data: Array) -> Array:
    (found,) = open_session(str(path)).run(None, {"x": data})
    result: Array = found
    return result


def softmax(logits: Array) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    result: Array = powers / powers.sum(1, keepdims=True)
    return result


def test_scaling_is_never_undone_on_scores_and_that_is_said(tmp_path: Path) -> None:
    data = noise(2, 1, 20, 18) * 100
    for end in ("Identity", "Sigmoid", "Softmax<axis = 1>"):
        path = segmenter(tmp_path / "model.onnx", end)
        found, said = applied(path, data, scale=100)
        np.testing.assert_allclose(found, given(path, data / 100), rtol=0, atol=1e-5)
        assert "results are scores, so no scaling is undone" in said
        assert "`form='image'` undoes it" in said


def test_scores_are_undone_where_that_is_asked_for(tmp_path: Path) -> None:
    path, data = segmenter(tmp_path / "model.onnx", "Sigmoid", classes=1), noise(2, 1, 20, 18) * 100
    found, said = applied(path, data, "image", scale=100)
    np.testing.assert_allclose(found, given(path, data / 100) * 100, rtol=1e-5, atol=1e-3)
    assert "scaling is undone in the result" in said


@pytest.mark.parametrize("end", ["Identity", "Softmax<axis = 1>"])
def test_classes_are_the_channel_of_the_largest_score(end: str, tmp_path: Path) -> None:
    path, data = segmenter(tmp_path / "model.onnx", end), noise(2, 1, 20, 18)
    found, _ = applied(path, data, "classes")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, given(path, data).argmax(1)[:, None])


@pytest.mark.parametrize("end", ["Identity", "Sigmoid"])
def test_of_one_channel_classes_are_what_is_more_likely_than_not(end: str, tmp_path: Path) -> None:
    path, data = segmenter(tmp_path / "model.onnx", end, classes=1), noise(2, 1, 20, 18)
    found, _ = applied(path, data, "classes")
    np.testing.assert_array_equal(found, given(path, data) > (0 if end == "Identity" else 0.5))
    assert 0 < found.mean() < 1


def test_probabilities_are_taken_once(tmp_path: Path) -> None:
    data = noise(2, 1, 20, 18)
    logits = given(segmenter(tmp_path / "logits.onnx"), data)
    for name, end in (("logits", "Identity"), ("softmax", "Softmax<axis = 1>")):
        found, _ = applied(segmenter(tmp_path / f"{name}.onnx", end), data, "probabilities")
        np.testing.assert_allclose(found, softmax(logits), rtol=0, atol=1e-6)
    for name, end in (("one", "Identity"), ("sigmoid", "Sigmoid")):
        path = segmenter(tmp_path / f"{name}.onnx", end, classes=1)
        expected = 1 / (1 + np.exp(-given(segmenter(tmp_path / "one.onnx", classes=1), data).astype(np.float64)))
        np.testing.assert_allclose(applied(path, data, "probabilities")[0], expected, rtol=0, atol=1e-6)


def test_labels_that_the_model_itself_gives_are_classes(tmp_path: Path) -> None:
    text = """g (float[N, 1, H, W] x) => (int64[N, H, W] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, v, c) y = ArgMax<axis = 1, keepdims = 0>(a)
    }"""
    path, data = save(text_model(text, v=(5, 1, 3, 3), c=(5,)), tmp_path / "model.onnx"), noise(2, 1, 20, 18)
    found, _ = applied(path, data)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, given(path, data)[:, None])


def test_a_volume_without_channels_gets_an_axis_for_those_of_the_result(tmp_path: Path) -> None:
    text = """g (float[N, 1, D, H, W] x) => (float[N, 3, D, H, W] y) {
        a = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, v, c) y = Relu(a)
    }"""
    path, volume = save(text_model(text, v=(3, 1, 3, 3, 3), c=(3,)), tmp_path / "model.onnx"), noise(9, 12, 10)
    expected = given(path, volume[None, None])[0]
    report = apply(path, volume, reading=DataOptions(layout="DHW"), options=ApplyOptions(tile=(6, 6, 6)))
    assert report.shape == (3, 9, 12, 10)
    np.testing.assert_allclose(report.arrays["y"], expected, rtol=0, atol=1e-5)
    labels = apply(path, volume, reading=DataOptions(layout="DHW"), options=ApplyOptions(form="classes"))
    np.testing.assert_array_equal(labels.arrays["y"], expected.argmax(0))


def test_several_outputs_are_written_by_their_names(tmp_path: Path) -> None:
    text = """g (float[N, 1, H, W] x) => (float[N, 2, h, w] boxes, float[N, 4] kind) {
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, v, c) boxes = Relu(a)
        m = GlobalAveragePool(boxes) f = Flatten(m) kind = Gemm(f, w, b)
    }"""
    path = save(text_model(text, v=(2, 1, 3, 3), c=(2,), w=(2, 4), b=(4,)), tmp_path / "model.onnx")
    data = noise(3, 1, 20, 18)
    boxes, kind = open_session(str(path)).run(None, {"x": data})
    report = apply(path, data, tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        np.testing.assert_allclose(found["boxes"], boxes, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found["kind"], kind, rtol=0, atol=1e-5)
    assert [(each.name, each.shape) for each in report.results] == [("boxes", (3, 2, 10, 9)), ("kind", (3, 4))]
    assert report.results[1].low == pytest.approx(kind.min())
    apply(path, data, tmp_path / "kind.npy", options=ApplyOptions(outputs=("kind",)))
    np.testing.assert_allclose(np.load(tmp_path / "kind.npy"), kind, rtol=0, atol=1e-5)


def test_forms_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="expected results as image, scores, probabilities, classes, got 'labels'"):
        ApplyOptions(form="labels")  # type: ignore[arg-type]
