"""From raw files and a model to results as files: what people read with other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.cli.commands import run, run_json
from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import verify

Array = NDArray[Any]
RNG = np.random.default_rng(0)

DENOISER = """g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, v, c) r = Relu(a) s = Conv<pads = [1, 1, 1, 1]>(r, w, d) y = Add(x, s)
}"""
CLASSIFIER = """g (float[N, 3, H, W] x) => (float[N, 3] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, v, c) r = Relu(a) m = GlobalAveragePool(r) f = Flatten(m) y = Gemm(f, w, b)
}"""


def denoiser(path: Path) -> Path:
    return save(text_model(DENOISER, v=(4, 1, 3, 3), c=(4,), w=(1, 4, 3, 3), d=(1,)), path)


def classifier(path: Path) -> Path:
    return save(text_model(CLASSIFIER, v=(6, 3, 3, 3), c=(6,), w=(6, 3), b=(3,)), path)


def given(model: Path, image: Array) -> Array:
    session = open_session(str(model))
    (found,) = session.run(None, {session.get_inputs()[0].name: image.astype(np.float32)})
    result: Array = found
    return result


def pictures(directory: Path, count: int = 3, *, suffix: str = ".png", dtype: Any = np.uint8) -> dict[str, Array]:
    directory.mkdir(parents=True)
    made = {}
    for index in range(count):
        made[f"{index}{suffix}"] = RNG.integers(0, np.iinfo(dtype).max, (20 + index, 18), dtype)
        Image.fromarray(made[f"{index}{suffix}"]).save(directory / f"{index}{suffix}")
    return made


def applied(*arguments: object) -> Any:
    return run_json("apply", *arguments)


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8)])
def test_pictures_of_a_directory_become_pictures_of_their_type(suffix: str, dtype: Any, tmp_path: Path) -> None:
    path, most = denoiser(tmp_path / "model.onnx"), int(np.iinfo(dtype).max)
    made = pictures(tmp_path / "in", suffix=suffix, dtype=dtype)
    report = applied(path, "--data", tmp_path / "in", "--scale", most, "-o", tmp_path / "out")
    for result, (name, picture) in zip(report["results"], made.items(), strict=True):
        values = given(path, (picture / most)[None, None])[0, 0].astype(np.float64) * most
        found = np.asarray(Image.open(tmp_path / "out" / name))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, np.clip(values, 0, most), rtol=0, atol=0.5 + 1e-5 * most)
        outside = (np.rint(values) < 0) | (np.rint(values) > most)
        assert result["clipped"] == pytest.approx(outside.sum(), abs=1)
        assert (result["low"], result["high"]) == pytest.approx((values.min(), values.max()), abs=1e-5 * most)
    clipped = sum(result["clipped"] for result in report["results"])
    assert clipped > 0
    assert any(text.startswith(f"{clipped} values in 3 files were clipped") for text in report["remarks"])


def test_a_pattern_names_files_and_another_suffix_keeps_all_digits(tmp_path: Path) -> None:
    path, made = denoiser(tmp_path / "model.onnx"), pictures(tmp_path / "in" / "deep")
    pattern = str(tmp_path / "in" / "**" / "[01].png")
    applied(path, "--data", pattern, "--scale", 255, "-o", tmp_path / "out", "--suffix", ".npy")
    found = sorted((tmp_path / "out").rglob("*.*"))
    assert [str(file.relative_to(tmp_path / "out")) for file in found] == ["deep/0.npy", "deep/1.npy"]
    expected = given(path, (made["1.png"] / 255)[None, None])[0, 0] * 255
    np.testing.assert_allclose(np.load(found[1]), expected, rtol=0, atol=1e-3)


def test_labels_of_a_segmenter_are_pictures_and_its_probabilities_are_not(tmp_path: Path) -> None:
    text = "g (float[N, 1, H, W] x) => (float[N, 4, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, v, c) }"
    path = save(text_model(text, v=(4, 1, 3, 3), c=(4,)), tmp_path / "model.onnx")
    made = pictures(tmp_path / "in")
    applied(path, "--data", tmp_path / "in", "--scale", 255, "--argmax", "-o", tmp_path / "labels")
    for name, picture in made.items():
        expected = given(path, (picture / 255)[None, None])[0].argmax(0)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "labels" / name)), expected)
    report = applied(path, "--data", tmp_path / "in", "--scale", 255, "--as", "probabilities", "-o", tmp_path / "p")
    assert np.load(tmp_path / "p" / "0.npy").shape == (20, 18, 4)
    assert "results are written as .npy, not as .png: values are no pixels" in " ".join(report["remarks"])


def test_colours_of_a_picture_stay_behind(tmp_path: Path) -> None:
    text = "g (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, v, c) }"
    path = save(text_model(text, v=(3, 3, 3, 3), c=(3,)), tmp_path / "model.onnx")
    picture = RNG.integers(0, 256, (20, 18, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    applied(path, "--data", tmp_path / "in.png", "--scale", 255, "-o", tmp_path / "out.png")
    expected = given(path, (picture / 255).transpose(2, 0, 1)[None])[0].transpose(1, 2, 0) * 255
    found = np.asarray(Image.open(tmp_path / "out.png"))
    np.testing.assert_allclose(found, np.clip(expected, 0, 255), rtol=0, atol=0.51)


def test_float_results_go_into_tiff_as_they_are(tmp_path: Path) -> None:
    path, image = denoiser(tmp_path / "model.onnx"), RNG.standard_normal((20, 18)).astype(np.float32)
    Image.fromarray(image).save(tmp_path / "in.tif")
    applied(path, "--data", tmp_path / "in.tif", "-o", tmp_path / "out.tif")
    found = np.asarray(Image.open(tmp_path / "out.tif"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, given(path, image[None, None])[0, 0], rtol=0, atol=1e-5)


def test_channels_of_a_result_are_the_fourth_axis_of_a_nifti_volume(tmp_path: Path) -> None:
    text = "g (float[N, 1, D, H, W] x) => (float[N, 3, D, H, W] y) { y = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, v, c) }"
    path = save(text_model(text, v=(3, 1, 3, 3, 3), c=(3,)), tmp_path / "model.onnx")
    volume, affine = RNG.standard_normal((10, 12, 9)).astype(np.float32), np.diag([2.0, 3, 4, 1])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "in.nii.gz")
    expected = given(path, volume.T[None, None])[0]
    applied(path, "--data", tmp_path / "in.nii.gz", "-o", tmp_path / "out.nii.gz")
    found = nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(np.asarray(found.dataobj), np.moveaxis(expected, 0, -1).transpose(2, 1, 0, 3), atol=1e-5)
    np.testing.assert_array_equal(found.affine, affine)
    applied(path, "--data", tmp_path / "in.nii.gz", "-o", tmp_path / "labels.nii.gz", "--argmax")
    labels = nibabel.load(tmp_path / "labels.nii.gz")
    assert labels.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(labels.dataobj), expected.argmax(0).T)


def test_a_directory_of_volumes_gives_one_of_volumes(tmp_path: Path) -> None:
    path = denoiser(tmp_path / "model.onnx")
    (tmp_path / "in").mkdir()
    for index in range(2):
        volume = RNG.standard_normal((10 + index, 12, 3)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "in" / f"case{index}.nii.gz")
    applied(path, "--data", tmp_path / "in", "-o", tmp_path / "out")
    for index in range(2):
        volume = np.asarray(nibabel.load(tmp_path / "in" / f"case{index}.nii.gz").dataobj)
        found = np.asarray(nibabel.load(tmp_path / "out" / f"case{index}.nii.gz").dataobj)
        np.testing.assert_allclose(found, given(path, volume.T[:, None])[:, 0].T, rtol=0, atol=1e-5)


def coloured(root: Path) -> Path:
    """Pictures of three classes, of several sizes."""
    for place, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir(parents=True)
        for index in range(4):
            values = RNG.integers(0, 90, (16 + index, 22 - index, 3), np.uint8)
            values[..., 2 - place] += 120
            Image.fromarray(values).save(root / name / f"{index}.png")
    return root


PREPARED = ("--resize", 14, "--crop", 12, "--scale", "imagenet")


def rows(path: Path) -> list[list[str]]:
    header, *found = csv.reader(path.read_text().splitlines())
    assert header == ["file", "class", "probability"]
    return found


def test_a_tuned_classifier_prepares_pictures_as_it_was_tuned_without_its_run(tmp_path: Path) -> None:
    path, data, tuned = classifier(tmp_path / "model.onnx"), coloured(tmp_path / "data"), tmp_path / "tuned.onnx"
    made = run(
        *("finetune", path, "--data", data, "-o", tuned, "--loss", "ce", "--percentile", 50, "--epochs", 2, *PREPARED),
        *("--apply", data, "--applied", tmp_path / "at once.csv", "--artifacts", tmp_path / "run"),
    )
    assert made.exit_code == 0, made.stderr
    report = applied(tuned, "--data", data, "-o", tmp_path / "recorded.csv")
    assert any("prepared as for training, as the model records it" in text for text in report["remarks"])
    applied(tuned, "--data", data, "-o", tmp_path / "run.csv", "--artifacts", tmp_path / "run")
    applied(tuned, "--data", data, "-o", tmp_path / "said.csv", *PREPARED)
    found = {name: (tmp_path / f"{name}.csv").read_bytes() for name in ("at once", "recorded", "run", "said")}
    assert len(set(found.values())) == 1
    table = rows(tmp_path / "at once.csv")
    assert [row[0] for row in table] == [
        f"{name}/{index}.png" for name in ("blue", "green", "red") for index in range(4)
    ]
    # By hand, as torchvision's transforms do.
    for name, label, probability in table[::3]:
        with Image.open(data / name) as picture:
            short = 14 / min(picture.size)
            resized = picture.resize([int(short * n) for n in picture.size], Image.Resampling.BILINEAR)
        left, top = round((resized.width - 12) / 2), round((resized.height - 12) / 2)
        values = np.asarray(resized.crop((left, top, left + 12, top + 12))) / 255
        values = (values - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        logits = given(tuned, values.transpose(2, 0, 1)[None])[0].astype(np.float64)
        powers = np.exp(logits - logits.max())
        assert label == ("blue", "green", "red")[logits.argmax()]
        assert float(probability) == pytest.approx(powers.max() / powers.sum(), abs=1e-5)


def test_the_record_of_preparation_is_all_that_is_added_to_the_vendors_bytes(tmp_path: Path) -> None:
    path, data, tuned = classifier(tmp_path / "model.onnx"), coloured(tmp_path / "data"), tmp_path / "tuned.onnx"
    options = ("--loss", "ce", "--percentile", 50, "--epochs", 1, *PREPARED)
    assert run("finetune", path, "--data", data, "-o", tuned, *options).exit_code == 0
    model = onnx.load(tuned)
    (entry,) = model.metadata_props
    record = json.loads(entry.value)
    assert record["format"] == 4
    assert record["preparation"] == {
        "scaling": {
            "x": {
                "offset": 0.0,
                "divisor": 255.0,
                "how": "imagenet",
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
            }
        },
        "resize": [14],
        "crop": [12],
    }
    before = path.read_bytes()
    assert len(tuned.read_bytes()) - len(before) == len(tuned.read_bytes()[len(before) :])
    assert tuned.read_bytes()[len(before) :].count(entry.value.encode()) == 1
    proof = verify(path, tuned)
    assert proof.ok
    assert proof.proof == "recomputed"


def test_a_tuned_denoiser_scales_as_for_training_and_undoes_it(tmp_path: Path) -> None:
    path, tuned = denoiser(tmp_path / "model.onnx"), tmp_path / "tuned.onnx"
    (tmp_path / "data").mkdir()
    clean = RNG.uniform(100, 900, (6, 1, 16, 16))
    np.save(tmp_path / "data" / "x.npy", clean + RNG.normal(0, 30, clean.shape))
    np.save(tmp_path / "data" / "target.npy", clean)
    made = run(
        "finetune", path, "--data", tmp_path / "data", "-o", tuned, "--scale", "standard", "--all", "--epochs", 1
    )
    assert made.exit_code == 0, made.stderr
    (entry,) = onnx.load(tuned).metadata_props
    scaling = json.loads(entry.value)["preparation"]["scaling"]
    assert scaling["x"] == scaling["target"]
    image = RNG.uniform(100, 900, (1, 1, 30, 20)).astype(np.float32)
    np.save(tmp_path / "new.npy", image)
    applied(tuned, "--data", tmp_path / "new.npy", "-o", tmp_path / "out.npy")
    offset, divisor = scaling["x"]["offset"], scaling["x"]["divisor"]
    expected = given(tuned, (image.astype(np.float64) - offset) / divisor) * divisor + offset
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5, atol=1e-3)
    applied(tuned, "--data", tmp_path / "new.npy", "-o", tmp_path / "as it is.npy", "--scale", 1)
    np.testing.assert_allclose(np.load(tmp_path / "as it is.npy"), given(tuned, image), rtol=1e-4, atol=1e-3)


def test_what_goes_wrong_with_one_of_many_files_leaves_nothing_behind(tmp_path: Path) -> None:
    path = denoiser(tmp_path / "model.onnx")
    pictures(tmp_path / "in")
    (tmp_path / "in" / "3.png").write_bytes((tmp_path / "in" / "2.png").read_bytes()[:-40])
    before = sorted(tmp_path.rglob("*"))
    refused = run("apply", path, "--data", tmp_path / "in", "--scale", 255, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "3.png cannot be read" in refused.stderr
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "in" / "3.png").unlink()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.png").write_text("mine")
    refused = run("apply", path, "--data", tmp_path / "in", "--scale", 255, "-o", tmp_path / "out")
    assert refused.exit_code == 2
    assert "1.png exists" in refused.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["1.png"]
    wrong = {"in": "is one of the inputs", "in/deep": "which is read", "one.png": "name a directory for them"}
    for output, words in ((tmp_path / name, words) for name, words in wrong.items()):
        refused = run("apply", path, "--data", tmp_path / "in", "--scale", 255, "-o", output, "--overwrite")
        assert refused.exit_code == 2
        assert words in refused.stderr
