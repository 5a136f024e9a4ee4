"""Outputs before and after: the right pixels, in the window that is said, or the reason why there are none."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from PIL import Image

import tgdonnx
from tests.reporting.runs import pairs, trained
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.data import open_dataset
from tgdonnx.evaluating.running import NotShownError, Runners
from tgdonnx.files.model_file import load_model
from tgdonnx.reporting.pictures import Answer, Sample, show_samples
from tgdonnx.reporting.png import MOST_SIDE, Picture

Array = NDArray[Any]


def samples(folder: Path, data: dict[str, Array]) -> tuple[Sample, ...]:
    manifest = read_manifest(folder / "artifacts")
    dataset = open_dataset(data, manifest.inputs)
    base, tuned = load_model(folder / "vendor.onnx"), load_model(folder / "tuned.onnx")
    runners = Runners(manifest)
    shown, _ = show_samples(folder / "artifacts", manifest, [runners.of(base), runners.of(tuned)], dataset)
    assert all(isinstance(each, Sample) for each in shown)
    return shown


def pixels(picture: Picture) -> Array:
    prefix = "data:image/png;base64,"
    assert picture.url.startswith(prefix)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.url[len(prefix) :]))))


def grey(plane: Array, low: float, high: float) -> Array:
    return np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1) * 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    trained(path)
    return path


def outputs(folder: Path, data: dict[str, Array]) -> tuple[Array, Array]:
    found = [ReferenceEvaluator(str(folder / f"{n}.onnx")).run(None, {"x": data["x"]})[0] for n in ("vendor", "tuned")]
    return found[0], found[1]


def test_pictures_show_the_middle_channel_in_one_window(folder: Path) -> None:
    data = pairs(samples=6, shape=(3, 14, 11), seed=2)
    before, after = outputs(folder, data)
    shown = samples(folder, data)
    assert [s.number for s in shown] == [1, 2, 3, 4]
    for n, sample in enumerate(shown):
        assert sample.what == "channel 2 of 3, 11 × 14 pixels"
        by_title = {picture.title: picture for picture in sample.pictures}
        assert list(by_title) == ["input", "vendor's output", "tuned output", "tuned − vendor's", "target"]
        low, high = np.percentile(data["target"][n, 1], (0.5, 99.5))
        for title, array in (
            ("input", data["x"]),
            ("vendor's output", before),
            ("tuned output", after),
            ("target", data["target"]),
        ):
            picture = by_title[title]
            assert (picture.low, picture.high) == pytest.approx((low, high), rel=1e-6)
            difference = pixels(picture) - grey(array[n, 1], low, high)
            assert np.abs(difference).max() <= 0.51  # half a grey level, and float32 against float64
        assert sample.before == pytest.approx(np.sqrt(np.mean((before[n] - data["target"][n]) ** 2.0)), rel=1e-5)
        assert sample.after == pytest.approx(np.sqrt(np.mean((after[n] - data["target"][n]) ** 2.0)), rel=1e-5)


def test_the_difference_is_blue_where_the_tuned_output_is_less_and_red_where_it_is_more(folder: Path) -> None:
    data = pairs(samples=1, seed=3)
    before, after = outputs(folder, data)
    picture = next(p for p in samples(folder, data)[0].pictures if p.title.startswith("tuned −"))
    assert picture.low == -picture.high < 0
    image = Image.open(io.BytesIO(base64.b64decode(picture.url.partition(",")[2])))
    red, _, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), -1, 0)
    change = (after - before)[0, 1]
    clear = np.abs(change) > 0.05 * picture.high
    assert clear.sum() > 20
    np.testing.assert_array_equal((red > blue)[clear], (change > 0)[clear])


@pytest.mark.parametrize("size", [(600, 40), (301, 530)])
def test_large_pictures_are_reduced_by_means_and_that_is_said(size: tuple[int, int], folder: Path) -> None:
    data = pairs(samples=1, shape=(3, *size), seed=4)
    (sample,) = samples(folder, data)
    picture = sample.pictures[-1]
    shown = pixels(picture)
    factor = size[0] // shown.shape[0]
    assert factor > 1
    assert max(shown.shape) <= 1.1 * MOST_SIDE
    assert f"each pixel is the mean of {factor} × {factor}" in sample.what
    height, width = (side // factor for side in size)
    plane = data["target"][0, 1, : height * factor, : width * factor]
    means = np.array([[plane[factor * i : factor * i + factor, factor * j : factor * j + factor].mean()
                       for j in range(width)] for i in range(height)])  # fmt: skip
    assert np.abs(shown - grey(means, picture.low, picture.high)).max() <= 0.51


def test_of_a_volume_the_middle_slice_is_shown(tmp_path: Path) -> None:
    model = models.parse(
        """<ir_version: 8, opset_import: ["": 17]>
        volume (float[N, 2, 5, H, W] x) => (float[N, 2, 5, H, W] y) { [conv] y = Conv<pads = [1, 1, 1, 1, 1, 1]>(x, w) }""",
        {"w": np.random.default_rng(0).normal(0, 0.2, (2, 2, 3, 3, 3)).astype(np.float32)},
    )
    base = models.save(model, tmp_path / "vendor.onnx")
    data = pairs(samples=2, shape=(2, 5, 6, 8))
    options = tgdonnx.TrainOptions(epochs=1, batch=1)
    kept = tmp_path / "artifacts"
    tgdonnx.finetune(
        base, data, tmp_path / "tuned.onnx", tgdonnx.AllLayers(), options, results=tgdonnx.Results(artifacts=kept)
    )
    sample = samples(tmp_path, data)[0]
    assert sample.what == "channel 2 of 2, slice 3 of 5, 8 × 6 pixels"
    target = sample.pictures[-1]
    assert np.abs(pixels(target) - grey(data["target"][0, 1, 2], target.low, target.high)).max() <= 0.51


def test_a_model_of_fixed_batch_size_is_fed_whole_batches(tmp_path: Path) -> None:
    model = text_model(
        "g (float[3, 2, H, W] x) => (float[3, 2, H, W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }", w=(2, 2, 3, 3)
    )
    base = models.save(model, tmp_path / "vendor.onnx")
    data = pairs(samples=6, shape=(2, 6, 8))
    options = tgdonnx.TrainOptions(epochs=1, batch=3)
    kept = tmp_path / "artifacts"
    tgdonnx.finetune(
        base, data, tmp_path / "tuned.onnx", tgdonnx.AllLayers(), options, results=tgdonnx.Results(artifacts=kept)
    )
    shown = samples(tmp_path, data)
    assert [s.number for s in shown] == [1, 2, 3, 4]
    low, high = shown[3].pictures[-1].low, shown[3].pictures[-1].high
    assert np.abs(pixels(shown[3].pictures[-1]) - grey(data["target"][3, 1], low, high)).max() <= 0.51


def test_a_flat_picture_has_a_window_all_the_same(folder: Path) -> None:
    data = pairs(samples=1)
    data["target"][:] = 7
    target = samples(folder, data)[0].pictures[-1]
    assert (target.low, target.high) == (6.5, 7.5)


def test_labels_have_a_colour_per_class_and_the_share_that_is_right(tmp_path: Path) -> None:
    model = models.dncnn(0)
    rng = np.random.default_rng(8)
    data = {"x": pairs()["x"], "target": rng.integers(0, 3, (6, 12, 10))}
    base = models.save(model, tmp_path / "vendor.onnx")
    tgdonnx.finetune(
        base,
        data,
        tmp_path / "tuned.onnx",
        tgdonnx.Phi(0.3),
        tgdonnx.TrainOptions(epochs=1, batch=6),
        building=tgdonnx.BuildOptions(loss="ce"),
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    before, after = outputs(tmp_path, data)
    shown = samples(tmp_path, data)
    for n, sample in enumerate(shown):
        found = {picture.title: picture for picture in sample.pictures}
        assert list(found) == ["input", "vendor's output", "tuned output", "target"]
        assert pixels(found["target"]).tolist() == data["target"][n].tolist()
        assert pixels(found["vendor's output"]).tolist() == before[n].argmax(0).tolist()
        assert pixels(found["tuned output"]).tolist() == after[n].argmax(0).tolist()
        assert sample.before == np.mean(before[n].argmax(0) == data["target"][n])
        assert sample.after == np.mean(after[n].argmax(0) == data["target"][n])


def test_a_classifier_answers_with_class_and_probability_on_pictures_from_all_over_the_data(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 3, H, W] x) => (float[N, 4] y) { m = Conv(x, w, b) p = GlobalAveragePool(m) y = Flatten(p) }",
        w=(4, 3, 1, 1),
        b=(4,),
    )
    base = models.save(model, tmp_path / "vendor.onnx")
    data = {"x": pairs(30)["x"], "target": np.arange(30) // 8}
    tgdonnx.finetune(
        base,
        data,
        tmp_path / "tuned.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(epochs=1, batch=10, learning_rate=0.1),
        building=tgdonnx.BuildOptions(loss="ce"),
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    before, after = outputs(tmp_path, data)
    manifest = read_manifest(tmp_path / "artifacts")
    runners = Runners(manifest)
    runs = [runners.of(load_model(tmp_path / f"{name}.onnx")) for name in ("vendor", "tuned")]
    dataset = open_dataset(data, manifest.inputs, tgdonnx.data.DataOptions(classes=("a", "b", "c", "d")))
    answers, names = show_samples(tmp_path / "artifacts", manifest, runs, dataset)
    assert names == ("a", "b", "c", "d")
    places = np.linspace(0, 29, 12).round().astype(int)
    assert len(answers) == len(places)
    for place, answer in zip(places, answers):
        assert isinstance(answer, Answer)
        assert (answer.name, answer.wanted) == (f"sample {place + 1}", "abcd"[place // 8])
        for scores, found, probability in (
            (before[place], answer.before, answer.before_probability),
            (after[place], answer.after, answer.after_probability),
        ):
            powers = np.exp(scores.astype(np.float64))
            assert found == "abcd"[int(scores.argmax())]
            assert probability == pytest.approx(powers.max() / powers.sum(), rel=1e-6)
        assert answer.picture is not None
        assert pixels(answer.picture).shape == (12, 10, 3)
    assert all(each.before_probability != each.after_probability for each in answers if isinstance(each, Answer))


def test_rows_of_numbers_are_no_pictures(tmp_path: Path) -> None:
    model = text_model("g (float[N, 4, L] x) => (float[N, 2, L] y) { y = Conv<pads = [1, 1]>(x, w) }", w=(2, 4, 3))
    base = models.save(model, tmp_path / "vendor.onnx")
    rng = np.random.default_rng(0)
    data = {"x": rng.random((3, 4, 9), np.float32), "target": rng.random((3, 2, 9), np.float32)}
    kept = tmp_path / "artifacts"
    tgdonnx.finetune(
        base,
        data,
        tmp_path / "tuned.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(epochs=1),
        results=tgdonnx.Results(artifacts=kept),
    )
    with pytest.raises(NotShownError, match="3 axes"):
        samples(tmp_path, data)


def test_a_model_that_the_runtime_does_not_run_is_a_reason(folder: Path, tmp_path: Path) -> None:
    broken = onnx.load(folder / "vendor.onnx")
    broken.graph.node[0].domain = "no.such.domain"
    onnx.save(broken, tmp_path / "broken.onnx")
    manifest = read_manifest(folder / "artifacts")
    with pytest.raises(NotShownError, match="cannot load the model"):
        Runners(manifest).of(load_model(tmp_path / "broken.onnx"))
