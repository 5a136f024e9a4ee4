"""Models applied to files: stacks, layouts, scaling, formats, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.applying.networks import network, whole
from tests.applying.refusals import noise, refuse
from tests.cli.commands import run, run_json
from tests.support import models
from tests.support.models import parse, save
from tests.support.trainer import make_artifacts
from tgdonnx import ApplyOptions, LastLayers, RunData, TrainOptions, apply, train
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError, OutputError

Array = NDArray[np.float32]


@pytest.fixture
def denoiser(tmp_path: Path) -> Path:
    """Three channels to three, any size."""
    return save(models.dncnn(0), tmp_path / "denoiser.onnx")


def stacked(volume: Array) -> Array:
    """Every slice between its neighbours; beyond the ends the last slice again."""
    above, below = np.concatenate([volume[:1], volume[:-1]]), np.concatenate([volume[1:], volume[-1:]])
    return np.stack([above, volume, below], axis=1)


def test_a_volume_goes_through_a_model_of_stacks_and_the_middle_slices_are_kept(denoiser: Path, tmp_path: Path) -> None:
    volume = noise(5, 40, 36)
    np.save(tmp_path / "full.npy", volume)
    expected = whole(models.dncnn(0), denoiser, stacked(volume))[:, 1]
    report = apply(
        denoiser,
        tmp_path / "full.npy",
        tmp_path / "out.npy",
        reading=DataOptions(layout="DHW"),
        options=ApplyOptions(tile=(24, 24)),
    )
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)
    assert (report.shape, report.dtype, report.tiles, report.overlap) == ((5, 40, 36), "float32", 6, (10, 8))
    assert any("at the ends of a volume the last slice is repeated" in remark for remark in report.remarks)


def test_without_a_size_small_images_are_taken_whole(denoiser: Path, tmp_path: Path) -> None:
    images = noise(2, 3, 33, 21)
    report = apply(denoiser, images, tmp_path / "out.npy")
    assert (report.tiles, report.overlap, report.whole) == (1, (), None)
    np.testing.assert_array_equal(
        np.load(tmp_path / "out.npy"), whole(models.dncnn(0), tmp_path / "again.onnx", images)
    )


def test_a_model_of_a_newer_ir_version_and_opset_than_the_runtime_knows_is_applied(tmp_path: Path) -> None:
    model, image = models.dncnn(0), noise(1, 3, 33, 21)
    expected = whole(model, tmp_path / "old.onnx", image)
    model.ir_version, model.opset_import[0].version = 13, 25
    apply(save(model, tmp_path / "new.onnx"), image, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_model_of_text_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 13]> g (string[N] words) => (float[1, 2, 3, 3] y) {
            size = Shape (words)  x = ConstantOfShape (four)  y = Conv <pads = [1, 1, 1, 1]> (x, w) }""",
        {"four": np.array([1, 2, 3, 3]), "w": noise(2, 2, 3, 3)},
    )
    with pytest.raises(DataError, match=r"takes tensor\(string\) as 'words', which no image can be"):
        apply(save(model, tmp_path / "text.onnx"), noise(1, 2, 3, 3), tmp_path / "out.npy")


def test_the_result_has_the_axes_of_the_data(denoiser: Path, tmp_path: Path) -> None:
    picture = noise(41, 38, 3)
    apply(
        denoiser, picture, tmp_path / "out.npy", reading=DataOptions(layout="HWC"), options=ApplyOptions(tile=(24, 20))
    )
    expected = whole(models.dncnn(0), tmp_path / "again.onnx", picture.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_a_model_of_volumes_is_applied_by_blocks(tmp_path: Path) -> None:
    model = models.three_d(0)
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    volume = noise(1, channels, 20, 22, 18)
    expected = whole(model, tmp_path / "model.onnx", volume)
    report = apply(tmp_path / "model.onnx", volume, tmp_path / "out.npy", options=ApplyOptions(tile=(12, 12, 12)))
    assert report.tiles > 8
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_model_of_a_fixed_size_and_batch_gets_tiles_and_batches_of_it(tmp_path: Path) -> None:
    model = models.dncnn(0)
    images = noise(5, 3, 40, 30)
    expected = whole(model, tmp_path / "model.onnx", images)
    for place, size in ((0, 2), (2, 24), (3, 30)):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[place].dim_value = size
    save(model, tmp_path / "fixed.onnx")
    report = apply(tmp_path / "fixed.onnx", images, tmp_path / "out.npy")
    assert report.tiles == 3
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)
    with pytest.raises(DataError, match="takes 24 pixels along this axis; expected an image of 24 or more, got 20"):
        apply(tmp_path / "fixed.onnx", images[:, :, :20], tmp_path / "small.npy")
    assert not (tmp_path / "small.npy").exists()


def test_a_model_that_looks_at_the_whole_image_runs_on_it_and_says_so(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N, 2, H, W] x) => (float[N, 2, H, W] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w) [gate] s = GlobalAveragePool(a) y = Mul(a, s)
        }""",
        {"w": noise(2, 2, 3, 3)},
    )
    images = noise(2, 2, 50, 40)
    expected = whole(model, tmp_path / "model.onnx", images)
    report = apply(tmp_path / "model.onnx", images, tmp_path / "out.npy", options=ApplyOptions(tile=(16, 16)))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    assert report.tiles == 1
    assert report.whole == "node 'gate' is GlobalAveragePool, which may look at the whole image"
    assert f"the model ran on whole images, not on tiles: {report.whole}" in report.remarks


def test_intensities_are_scaled_and_brought_back(denoiser: Path, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 4000, (1, 3, 30, 30)).astype(np.uint16)
    apply(denoiser, counts, tmp_path / "out.npy", reading=DataOptions(scale=1000.0))
    expected = whole(models.dncnn(0), tmp_path / "again.onnx", (counts / 1000).astype(np.float32)) * 1000.0
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5, atol=1e-2)
    artifacts = make_artifacts(models.dncnn(0), tmp_path, LastLayers(1))
    trained = np.random.default_rng(1).integers(100, 600, (4, 3, 9, 8)).astype(np.uint16)
    options = TrainOptions(epochs=1, batch=4)
    train(artifacts, RunData({"x": trained, "target": trained}, reading=DataOptions(scale="minmax")), options)
    apply(denoiser, counts, tmp_path / "recorded.npy", artifacts=artifacts)
    low, span = float(trained.min()), float(trained.max() - trained.min())
    expected = whole(models.dncnn(0), tmp_path / "again.onnx", ((counts - low) / span).astype(np.float32)) * span + low
    np.testing.assert_allclose(np.load(tmp_path / "recorded.npy"), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_volume_gives_one_that_lies_in_the_same_place(suffix: str, denoiser: Path, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, -2.0, 0, 5], [3.0, 0, 0, -7], [0, 0, 4.0, 11], [0, 0, 0, 1]])
    stored = noise(30, 26, 4)  # x, y, z
    image = nibabel.Nifti1Image(stored, affine)
    image.header["descrip"] = b"a study"
    nibabel.save(image, tmp_path / f"full{suffix}")
    apply(denoiser, tmp_path / f"full{suffix}", tmp_path / f"out{suffix}", options=ApplyOptions(tile=(24, 24)))
    found = nibabel.load(tmp_path / f"out{suffix}")
    expected = whole(models.dncnn(0), tmp_path / "again.onnx", stacked(stored.T))[:, 1].T
    np.testing.assert_allclose(np.asarray(found.dataobj), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.affine, affine)
    assert found.header["descrip"] == b"a study"
    assert found.get_data_dtype() == np.float32
    if suffix.endswith(".gz"):
        gzip.decompress((tmp_path / f"out{suffix}").read_bytes())


def test_super_resolution_grows_the_result(tmp_path: Path) -> None:
    image = noise(1, 2, 60, 52)
    model = network("conv", "nearest")
    expected = whole(model, tmp_path / "model.onnx", image)
    apply(tmp_path / "model.onnx", image, tmp_path / "out.npy", options=ApplyOptions(tile=(32, 32)))
    assert expected.shape == (1, 3, 120, 104)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused_and_nothing_is_written(denoiser: Path, tmp_path: Path) -> None:
    out, images = tmp_path / "out.npy", noise(1, 3, 40, 40)
    refuse("float64.*`scale", DataError, tmp_path, denoiser, images.astype(np.float64), out)
    refuse("found float32 .1, 2, 40, 40.", DataError, tmp_path, denoiser, images[:, :2], out)
    refuse(
        "a tile of 10 pixels is too small",
        DataError,
        tmp_path,
        denoiser,
        images,
        out,
        options=ApplyOptions(tile=(10, 40)),
    )
    refuse("a tile of 2 sizes, got 12", DataError, tmp_path, denoiser, images, out, options=ApplyOptions(tile=(12,)))
    with pytest.raises(DataError, match="expected a tile of sizes of 1 or more, got 0x40"):
        ApplyOptions(tile=(0, 40))
    refuse(r"written as .npy, .* or into a directory", DataError, tmp_path, denoiser, images, tmp_path / "out.bmp")
    refuse("expected a .npy or NIfTI file", DataError, tmp_path, denoiser, tmp_path / "none.npy", out)
    refuse(
        "one of them", DataError, tmp_path, denoiser, images, out, reading=DataOptions(scale=2.0), artifacts=tmp_path
    )
    refuse(
        "has no run.json, so how the data of the run was scaled is not known; say it with `scale`",
        DataError,
        tmp_path,
        denoiser,
        images,
        out,
        artifacts=tmp_path,
    )
    images[0, 1, 2, 3] = np.nan
    refuse("is nan", DataError, tmp_path, denoiser, images, out)
    out.write_bytes(b"")
    refuse("exists", OutputError, tmp_path, denoiser, images, out)
    refuse("is one of the inputs", OutputError, tmp_path, denoiser, out, out, overwrite=True)


def test_the_result_of_a_volume_without_a_place_in_space_is_no_nifti(denoiser: Path, tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    refuse(
        "write it as .npy",
        DataError,
        tmp_path,
        denoiser,
        noise(4, 20, 20),
        tmp_path / "o.nii",
        reading=DataOptions(layout="DHW"),
    )


def test_the_command_applies_a_model_and_says_how(denoiser: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "full.npy", noise(4, 40, 40))
    said = run(
        "apply",
        denoiser,
        "--data",
        tmp_path / "full.npy",
        "-o",
        tmp_path / "a.npy",
        "--layout",
        "DHW",
        "--tile",
        "24x24",
    )
    assert said.exit_code == 0
    assert said.stdout.endswith("4x40x40 float32, 6 tiles each, overlapping by 10x8\n")
    assert "last slice is repeated" in said.stderr.replace("\n", " ")
    report = run_json("apply", denoiser, "--data", tmp_path / "full.npy", "-o", tmp_path / "b.npy", "--layout", "DHW")
    assert report["shape"] == [4, 40, 40]
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), rtol=0, atol=1e-5)
    refused = run("apply", denoiser, "--data", tmp_path / "full.npy", "-o", tmp_path / "c.npy", "--tile", "24by24")
    assert refused.exit_code == 2
    assert "expected a size such as 256x256" in refused.stderr


def test_a_model_with_several_outputs_or_inputs_is_asked_about(tmp_path: Path) -> None:
    model = models.gated(0)
    path = save(model, tmp_path / "gated.onnx")
    names = [value.name for value in model.graph.output]
    refuse(
        f"several outputs .{', '.join(names)}.; choose one with `outputs`, or write all of them as .npz",
        DataError,
        tmp_path,
        path,
        noise(1, 3, 6, 6),
        tmp_path / "o.npy",
    )
    refuse(
        "has no output 'z'",
        DataError,
        tmp_path,
        path,
        noise(1, 3, 6, 6),
        tmp_path / "o.npy",
        options=ApplyOptions(outputs=("z",)),
    )
    two = onnx.ModelProto()
    two.CopyFrom(models.dncnn(0))
    two.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["N"]))
    refuse(
        r"the model takes 2 inputs .x, more., and an array is one array; give an array for each by its name",
        DataError,
        tmp_path,
        save(two, tmp_path / "two.onnx"),
        noise(1, 3, 6, 6),
        tmp_path / "o.npy",
    )
