"""Images that models take without axes of samples or channels, against ONNX Runtime on the very arrays that they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.applying.orienting import Orientation, orientation_of
from tgdonnx.errors import DataError
from tgdonnx.layers import open_network

Array = NDArray[np.float32]

BODY = "a = Conv<pads = [1, 1, 1, 1]>(i, v, c) r = Relu(a) o = Conv<pads = [1, 1, 1, 1]>(r, w, d)"
LINE = "a = Conv<pads = [2, 2]>(i, v, c) r = Relu(a) o = Conv<pads = [1, 1]>(r, w, d)"
BOTH, FRONT = np.array([0, 1]), np.array([0])

# What the model takes, its way to the first convolution, the way back, its channels, the shape of an array, its axes.
MODELS: dict[str, tuple[str, str, str, int, tuple[int, ...], str]] = {
    "a picture alone": ("[H, W]", "i = Unsqueeze(x, both)", "y = Squeeze(o, both)", 1, (30, 26), "HW"),
    "a picture whose result has samples": ("[H, W]", "i = Unsqueeze(x, both)", "y = Identity(o)", 1, (30, 26), "HW"),
    "colours first": ("[3, H, W]", "i = Unsqueeze(x, front)", "y = Squeeze(o, front)", 3, (3, 30, 26), "CHW"),
    "colours first, of a fixed size": (
        "[3, 24, 20]",
        "i = Unsqueeze(x, front)",
        "y = Squeeze(o, front)",
        3,
        (3, 24, 20),
        "CHW",
    ),
    "colours last": (
        "[H, W, 3]",
        "t = Transpose<perm = [2, 0, 1]>(x) s = Mul(t, half) i = Unsqueeze(s, front)",
        "u = Squeeze(o, front) y = Transpose<perm = [1, 2, 0]>(u)",
        3,
        (30, 26, 3),
        "HWC",
    ),
    "no axis of channels": ("[N, H, W]", "i = Unsqueeze(x, one)", "y = Squeeze(o, one)", 1, (4, 30, 26), "NHW"),
}


def network(name: str, path: Path) -> Path:
    takes, way, back, channels, _, _ = MODELS[name]
    gives = "[n, c, h, w]" if "Identity" in back else takes
    constants = {"both": BOTH, "front": FRONT, "one": np.array([1]), "half": np.array([[[0.5]]], np.float32)}
    used = {key: value for key, value in constants.items() if f"{key})" in f"{way} {back}"}
    text = f"g (float{takes} x) => (float{gives} y) {{ {way} {BODY} {back} }}"
    shapes = {"v": (5, channels, 3, 3), "c": (5,), "w": (channels, 5, 3, 3), "d": (channels,)}
    return save(text_model(text, **shapes, **used), path)


@pytest.mark.parametrize("name", MODELS)
def test_the_axes_are_read_off_the_way_to_the_first_convolution(name: str, tmp_path: Path) -> None:
    opened = open_network(network(name, tmp_path / "model.onnx"))
    assert orientation_of(opened, opened.graph.inputs[0]) == Orientation(MODELS[name][5], "NCHW")


@pytest.mark.parametrize("name", MODELS)
def test_an_array_as_the_model_takes_it_gives_what_the_model_gives(name: str, tmp_path: Path) -> None:
    path = network(name, tmp_path / "model.onnx")
    array = np.random.default_rng(0).standard_normal(MODELS[name][4]).astype(np.float32)
    np.save(tmp_path / "image.npy", array)
    (expected,) = open_session(str(path)).run(None, {"x": array})
    fixed = "fixed" in name
    options = ApplyOptions() if fixed else ApplyOptions(tile=(16, 18))
    report = apply(path, tmp_path / "image.npy", tmp_path / "out.npy", options=options)
    found = np.load(tmp_path / "out.npy")
    np.testing.assert_allclose(found, expected.reshape(array.shape), rtol=0, atol=1e-5)
    assert report.whole is None
    assert (report.tiles == 1) == fixed


def test_one_dimension_without_an_axis_of_samples(tmp_path: Path) -> None:
    text = f"g (float[2, L] x) => (float[2, M] y) {{ i = Unsqueeze(x, front) {LINE} y = Squeeze(o, front) }}"
    path = save(text_model(text, v=(5, 2, 5), c=(5,), w=(2, 5, 3), d=(2,), front=FRONT), tmp_path / "model.onnx")
    signal = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    (expected,) = open_session(str(path)).run(None, {"x": signal})
    report = apply(path, signal, tmp_path / "out.npy", options=ApplyOptions(tile=(64,)))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)
    assert report.tiles > 4
    # Many recordings, too: each is a sample.
    many = np.stack([signal, -signal])
    apply(path, many, tmp_path / "many.npy")
    (other,) = open_session(str(path)).run(None, {"x": -signal})
    np.testing.assert_allclose(np.load(tmp_path / "many.npy"), np.stack([expected, other]), rtol=0, atol=1e-5)


def test_what_does_not_fit_such_a_model_is_told_with_what_it_takes(tmp_path: Path) -> None:
    path = network("colours first, of a fixed size", tmp_path / "model.onnx")
    with pytest.raises(DataError, match=r"expected 'x' to be float32 \[\?, 3, \?, \?\], found float32 \[2, 24, 20\]"):
        apply(path, np.zeros((2, 24, 20), np.float32), tmp_path / "out.npy")
    with pytest.raises(
        DataError, match="the model takes 24 pixels along this axis; expected an image of 24 or more, got 9"
    ):
        apply(path, np.zeros((3, 9, 20), np.float32), tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_an_input_that_nothing_tells_the_axes_of_has_samples_first(tmp_path: Path) -> None:
    text = "g (float[N, 6] x) => (float[N, 4] y) { y = Gemm(x, w) }"
    opened = open_network(save(text_model(text, w=(6, 4)), tmp_path / "model.onnx"))
    assert orientation_of(opened, opened.graph.inputs[0]) is None
