"""Models of several inputs, from raw files to results, against ONNX Runtime on the arrays themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.cli.commands import run
from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError

Array = NDArray[np.float32]
RNG = np.random.default_rng(0)


def noise(*shape: int) -> Array:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def denoiser_with_level(path: Path, level: str, *, batch: str = "N") -> Path:
    """A denoiser that is told how strong the noise is."""
    text = f"""g (float[{batch}, 1, H, W] noisy, float{level} sigma) => (float[{batch}, 1, H, W] y) {{
        s = Mul(noisy, sigma) a = Conv<pads = [1, 1, 1, 1]>(s, v, c) r = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(r, w, d)
    }}"""
    return save(text_model(text, v=(4, 1, 3, 3), c=(4,), w=(1, 4, 3, 3), d=(1,)), path)


def fused(path: Path) -> Path:
    """Takes two images of the same place, and cares for how far both of them reach."""
    text = """g (float[N, 1, H, W] pet, float[N, 2, H, W] mr) => (float[N, 1, H, W] y) {
        a = Conv<pads = [2, 1, 2, 1]>(pet, v, c) b = Conv<pads = [0, 3, 0, 3]>(mr, w, d) j = Concat<axis = 1>(a, b)
        r = Relu(j) y = Conv<pads = [1, 1, 1, 1]>(r, z, f)
    }"""
    return save(text_model(text, v=(3, 1, 5, 3), c=(3,), w=(2, 2, 1, 7), d=(2,), z=(1, 5, 3, 3), f=(1,)), path)


@pytest.mark.parametrize(("level", "values"), [("", 0.5), ("[1]", 0.5), ("[1, 1, 1, 1]", 0.5)])
def test_a_noise_level_of_its_own_shape_or_one_for_each_sample(level: str, values: float, tmp_path: Path) -> None:
    path, images = denoiser_with_level(tmp_path / "model.onnx", level), noise(3, 1, 40, 36)
    session, shape = open_session(str(path)), tuple(int(n) for n in level.strip("[]").split(",") if n)
    np.savez(tmp_path / "one.npz", noisy=images, sigma=np.full(shape, values, np.float32))
    report = apply(path, tmp_path / "one.npz", tmp_path / "one.npy", options=ApplyOptions(tile=(20, 24)))
    (expected,) = session.run(None, {"noisy": images, "sigma": np.full(shape, values, np.float32)})
    np.testing.assert_allclose(np.load(tmp_path / "one.npy"), expected, rtol=0, atol=1e-5)
    assert report.tiles > 1
    each = np.array([0.5, 1.5, 2.0], np.float32)
    apply(path, {"noisy": images, "sigma": each}, tmp_path / "each.npy")
    for index, value in enumerate(each):
        feeds = {"noisy": images[index : index + 1], "sigma": np.full(shape, value, np.float32)}
        np.testing.assert_allclose(
            np.load(tmp_path / "each.npy")[index], session.run(None, feeds)[0][0], rtol=0, atol=1e-5
        )


def test_a_value_per_sample_goes_with_its_sample(tmp_path: Path) -> None:
    path, images = denoiser_with_level(tmp_path / "model.onnx", "[N, 1, 1, 1]"), noise(3, 1, 20, 18)
    levels = np.array([0.5, 1.5, 2.0], np.float32).reshape(3, 1, 1, 1)
    (expected,) = open_session(str(path)).run(None, {"noisy": images, "sigma": levels})
    apply(path, {"noisy": images, "sigma": levels}, tmp_path / "out.npy")
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_two_images_are_cut_into_the_same_tiles(tmp_path: Path) -> None:
    path, pet, mr = fused(tmp_path / "model.onnx"), noise(2, 1, 60, 52), noise(2, 2, 60, 52)
    (expected,) = open_session(str(path)).run(None, {"pet": pet, "mr": mr})
    report = apply(path, {"pet": pet, "mr": mr}, tmp_path / "out.npy", options=ApplyOptions(tile=(24, 26)))
    assert report.tiles > 4
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_directories_of_pictures_for_two_inputs_give_a_result_each(tmp_path: Path) -> None:
    text = """g (float[N, 1, H, W] left, float[N, 1, H, W] right) => (float[N, 1, H, W] y) {
        j = Concat<axis = 1>(left, right) y = Conv<pads = [1, 1, 1, 1]>(j, w, d)
    }"""
    path = save(text_model(text, w=(1, 2, 3, 3), d=(1,)), tmp_path / "model.onnx")
    session = open_session(str(path))
    pictures = {}
    for name in ("left", "right"):
        (tmp_path / "pairs" / name).mkdir(parents=True)
        for index in range(3):
            pictures[name, index] = RNG.integers(0, 256, (20 + index, 18), np.uint8)
            Image.fromarray(pictures[name, index]).save(tmp_path / "pairs" / name / f"{index}.png")
    result = run(
        "apply", path, "--data", tmp_path / "pairs", "--scale", 255, "-o", tmp_path / "out", "--suffix", ".npy"
    )
    assert result.exit_code == 0, result.stderr
    for index in range(3):
        feeds = {name: (pictures[name, index] / 255)[None, None].astype(np.float32) for name in ("left", "right")}
        expected = session.run(None, feeds)[0][0, 0] * 255
        np.testing.assert_allclose(np.load(tmp_path / "out" / f"{index}.npy"), expected, rtol=0, atol=1e-3)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.npy", "1.npy", "2.npy"]


def test_hdf5_holds_arrays_for_several_inputs(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path, images = denoiser_with_level(tmp_path / "model.onnx", ""), noise(2, 1, 20, 18)
    with h5py.File(tmp_path / "case.h5", "w") as file:
        file["scan"], file["sigma"] = images, np.float32(2)
    said = run(
        *("apply", path, "--data", tmp_path / "case.h5", "--map", "scan=noisy", "-o", tmp_path / "out.npy"),
    )
    assert said.exit_code == 0, said.stderr
    (expected,) = open_session(str(path)).run(None, {"noisy": images, "sigma": np.array(2, np.float32)})
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_what_cannot_be_matched_names_input_expected_found_and_remedy(tmp_path: Path) -> None:
    path, out = fused(tmp_path / "model.onnx"), tmp_path / "out.npy"
    pet, mr = noise(2, 1, 20, 18), noise(2, 2, 20, 18)
    with pytest.raises(
        DataError, match=r"expected 'mr' to be float32 \[\?, 2, \?, \?\], found float32 \[2, 3, 20, 18\]"
    ):
        apply(path, {"pet": pet, "mr": noise(2, 3, 20, 18)}, out)
    with pytest.raises(DataError, match="has no array 'mr'; expected pet, mr, found pet"):
        apply(path, {"pet": pet}, out)
    with pytest.raises(DataError, match=r"differ in the number of samples: \{'pet': 2, 'mr': 1\}"):
        apply(path, {"pet": pet, "mr": mr[:1]}, out)
    np.save(tmp_path / "pet.npy", pet)
    with pytest.raises(
        DataError, match=r"takes 2 inputs \(pet, mr\), and .* is one array; give an array for each by its name"
    ):
        apply(path, tmp_path / "pet.npy", out)
    level = denoiser_with_level(tmp_path / "level.onnx", "", batch="2")
    with pytest.raises(
        DataError, match="one value of 'sigma' for all of them, and in the data it differs between samples"
    ):
        apply(level, {"noisy": pet, "sigma": np.array([1, 2], np.float32)}, out)
    assert not out.exists()


def test_images_of_different_size_run_whole_and_that_is_said(tmp_path: Path) -> None:
    text = """g (float[N, 1, H, W] x, float[N, 1, h, w] small) => (float[N, 1, H, W] y) {
        u = Resize<mode = "nearest">(small, , two) j = Concat<axis = 1>(x, u) y = Conv<pads = [1, 1, 1, 1]>(j, w, d)
    }"""
    two = np.array([1, 1, 2, 2], np.float32)
    path = save(text_model(text, w=(1, 2, 3, 3), d=(1,), two=two), tmp_path / "model.onnx")
    x, small = noise(1, 1, 20, 18), noise(1, 1, 10, 9)
    (expected,) = open_session(str(path)).run(None, {"x": x, "small": small})
    report = apply(path, {"x": x, "small": small}, tmp_path / "out.npy", options=ApplyOptions(tile=(8, 8)))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert report.whole is not None


def test_inputs_have_scales_of_their_own(tmp_path: Path) -> None:
    path, pet, mr = fused(tmp_path / "model.onnx"), noise(2, 1, 20, 18) * 100, noise(2, 2, 20, 18)
    (expected,) = open_session(str(path)).run(None, {"pet": pet / 50, "mr": mr})
    apply(path, {"pet": pet, "mr": mr}, tmp_path / "out.npy", reading=DataOptions(scales={"pet": 50}))
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected * 50, rtol=1e-5, atol=1e-3)


def test_a_directory_of_archives_gives_a_result_for_each(tmp_path: Path) -> None:
    path = denoiser_with_level(tmp_path / "model.onnx", "[1]")
    (tmp_path / "cases").mkdir()
    sizes = (("a", 18, 0.5), ("b", 22, 2.0))
    cases = {name: (noise(1, 1, 20, size), np.array([level], np.float32)) for name, size, level in sizes}
    for name, (images, level) in cases.items():
        np.savez(tmp_path / "cases" / f"{name}.npz", noisy=images, sigma=level)
    apply(path, tmp_path / "cases", tmp_path / "out")
    for name, (images, level) in cases.items():
        (expected,) = open_session(str(path)).run(None, {"noisy": images, "sigma": level})
        np.testing.assert_allclose(np.load(tmp_path / "out" / f"{name}.npy"), expected, rtol=0, atol=1e-5)
