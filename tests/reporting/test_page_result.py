"""What the page begins with: the result, from both files run on the data, case by case and class by class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from sklearn.metrics import confusion_matrix, f1_score, recall_score

import tgdonnx
from tests.reporting.pages import made, section
from tests.reporting.parsing import Element, parse_page
from tests.reporting.runs import edit_record, epoch, pairs, step, trained, write_log
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.finetuning.run_record import RunRecord


def outputs(folder: Path, x: np.ndarray) -> list[np.ndarray]:
    return [ReferenceEvaluator(str(folder / f"{n}.onnx")).run(None, {"x": x})[0] for n in ("vendor", "tuned")]


def numbers(page: Element) -> dict[str, list[str]]:
    rows = section(page, "result").one("table", id="changes").rows()
    return {row[0]: row[1:] for row in rows[1:]}


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("denoiser")
    trained(path, report=path / "first.html")
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 3 classes, and ``page.html`` of its run on 24 samples that were held out."""
    path = tmp_path_factory.mktemp("classifier")
    text = "g (float[N, 2, 3, 4] x) => (float[N, 3] y) { m = Conv(x, w, b) p = GlobalAveragePool(m) y = Flatten(p) }"
    models.save(text_model(text, w=(3, 2, 1, 1), b=(3,)), path / "vendor.onnx")
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    x = rng.normal(0, 1.5, (24, 2, 3, 4)).astype(np.float32)
    x[:, 0] += (labels == 1)[:, None, None] * 2
    x[:, 1] += (labels == 2)[:, None, None] * 2
    data = {"x": x, "target": labels}
    np.savez(path / "held_out.npz", **data)
    tgdonnx.finetune(
        path / "vendor.onnx",
        tgdonnx.RunData(
            data, validation=path / "held_out.npz", reading=tgdonnx.data.DataOptions(classes=("a", "b", "c"))
        ),
        path / "tuned.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(epochs=4, batch=8, learning_rate=0.05),
        building=tgdonnx.BuildOptions(loss="ce"),
        results=tgdonnx.Results(report=path / "page.html", artifacts=path / "artifacts"),
    )
    return path


def test_the_result_comes_first_and_then_the_pictures(denoiser: Path) -> None:
    page = parse_page(denoiser / "first.html")
    assert [s.attributes["id"] for s in page.all("section")][:2] == ["result", "pictures"]


def test_tiles_and_table_say_the_same_of_whole_cases(denoiser: Path) -> None:
    page = parse_page(denoiser / "first.html")
    tiles = {tile.one("dt").text: tile.one("dd").text for tile in page.one("dl").all("div")}
    found = numbers(page)
    for name, row in (("PSNR", "PSNR (dB)"), ("RMSE", "RMSE (unit of the data)")):
        assert tiles[name].startswith(f"{found[row][0]} → {found[row][1]}")
        assert "validation data" in tiles[name]
    assert "by patches" not in page.text


def test_of_a_run_that_validates_by_patches_it_is_said_which_numbers_are_of_patches(tmp_path: Path) -> None:
    reading = tgdonnx.DataOptions(patch=(8, 8))
    trained(tmp_path, data={"reading": reading}, report=tmp_path / "page.html")
    page = parse_page(tmp_path / "page.html")
    assert "validation loss (of the run, by patches)" in numbers(page)
    assert "is by patches; Result and Cases and classes are of whole cases" in section(page, "training").text


def test_of_a_blended_model_numbers_are_its_own_not_those_of_the_checkpoint(tmp_path: Path) -> None:
    held_out = pairs(seed=1)
    trained(tmp_path, blend=0.5, report=tmp_path / "first.html")
    page = parse_page(tmp_path / "first.html")
    assert "validation loss (of the run)" not in numbers(page)  # of the checkpoint alone it is known
    caption = section(page, "training").all("figcaption")[0].text
    assert "exported —" in caption
    assert "exported: after step 4, blend 0.5" in page.text
    tgdonnx.blend(tmp_path / "artifacts", pairs(seed=9), at=[0.5])
    page = made(tmp_path, tuned=tmp_path / "tuned.onnx", data=held_out)
    assert "validation loss (of the run)" not in numbers(page)  # other data says nothing of that of the run

    tgdonnx.blend(tmp_path / "artifacts", held_out, at=[0.5])
    page = made(tmp_path, tuned=tmp_path / "tuned.onnx", data=held_out)
    before, after = (np.mean((y - held_out["target"]) ** 2, dtype=np.float64) for y in outputs(tmp_path, held_out["x"]))
    row = numbers(page)["validation loss (of the run)"]
    assert [float(value) for value in row[:2]] == pytest.approx([before, after], rel=1e-3)
    figure = next(f for f in section(page, "training").all("figure") if f.one("h3").text == "PSNR (dB)")
    psnr = numbers(page)["PSNR (dB)"]
    assert f"Vendor's model {float(psnr[0]):.1f}" in figure.one("figcaption").text
    assert f"exported model {float(psnr[1]):.1f}" in figure.one("figcaption").text


def test_measures_of_the_result_are_those_of_both_files_on_the_validation_data(denoiser: Path) -> None:
    data = pairs(seed=1)
    found = numbers(parse_page(denoiser / "first.html"))
    for place, output in enumerate(outputs(denoiser, data["x"])):
        errors = np.sqrt(np.mean((output.astype(np.float64) - data["target"]) ** 2, axis=(1, 2, 3)))
        psnr = 20 * np.log10((data["target"].max() - data["target"].min()) / errors)
        assert float(found["RMSE (unit of the data)"][place]) == pytest.approx(errors.mean(), rel=1e-3)
        assert float(found["PSNR (dB)"][place]) == pytest.approx(psnr.mean(), rel=1e-3)
    before, after, _, verdict = found["PSNR (dB)"]
    assert verdict == ("better" if float(after) > float(before) else "worse")


def test_boxplots_are_over_cases_and_told_in_words(denoiser: Path) -> None:
    data = pairs(seed=1)
    medians = [
        np.median(np.sqrt(np.mean((output.astype(np.float64) - data["target"]) ** 2, axis=(1, 2, 3))))
        for output in outputs(denoiser, data["x"])
    ]
    captions = [f.one("figcaption").text for f in section(parse_page(denoiser / "first.html"), "cases").all("figure")]
    assert f"Over cases, median {medians[0]:.4g} → {medians[1]:.4g}." in captions


def test_classes_have_accuracy_and_f1_of_both_files(classifier: Path) -> None:
    with np.load(classifier / "held_out.npz") as data:
        wanted = data["target"]
        found = [output.argmax(1) for output in outputs(classifier, data["x"])]
    page = parse_page(classifier / "page.html")
    (table,) = section(page, "cases").all("table", class_="numbers classes")
    recall = [recall_score(wanted, each, average=None, labels=[0, 1, 2]) for each in found]
    f1 = [f1_score(wanted, each, average=None, labels=[0, 1, 2]) for each in found]
    for number, row in enumerate(table.rows()[1:]):
        assert row[:2] == [f"{number} {'abc'[number]}", "8"]
        expected = [recall[0][number], recall[1][number], f1[0][number], f1[1][number]]
        assert [float(cell) for cell in row[2:]] == pytest.approx(expected, abs=1e-4)
    matrices = section(page, "cases").all("table", class_="numbers matrix")
    for matrix, each in zip(matrices, found):
        assert [[int(c) for c in row[1:]] for row in matrix.rows()[1:]] == confusion_matrix(wanted, each).tolist()
    assert len(matrices) == 2


def test_the_page_of_a_classifier_shows_pictures_with_both_answers(classifier: Path) -> None:
    with np.load(classifier / "held_out.npz") as data:
        wanted, x = data["target"], data["x"]
    found = [output.argmax(1) for output in outputs(classifier, x)]
    figures = section(parse_page(classifier / "page.html"), "pictures").all("figure")
    places = np.linspace(0, 23, 12).round().astype(int)
    assert len(figures) == 12
    for place, figure in zip(places, figures):
        said = [answer.text.split()[0] for answer in figure.all("dd")]
        assert said == ["abc"[wanted[place]], "abc"[found[0][place]], "abc"[found[1][place]]]


def test_data_that_was_trained_on_is_shown_but_says_nothing(tmp_path: Path) -> None:
    trained(tmp_path, data={"validation": None}, report=tmp_path / "page.html")
    page = parse_page(tmp_path / "page.html")
    assert "no data that was not trained on" in section(page, "cases").one("p", class_="none").text
    assert len(section(page, "pictures").all("img")) == 20


def test_what_never_changed_is_a_sentence_and_no_curve(denoiser: Path) -> None:
    steps = [step(n, 1 / n, learning_rate=0.25) for n in (1, 2, 3, 4)]
    log = [epoch(n, 2 * n, 0.5, 3.0 - n, metrics={"psnr": 30.5, "ssim": n / 10}) for n in (0, 1, 2)]
    kept = (denoiser / "artifacts" / "log.jsonl").read_bytes()
    write_log(denoiser / "artifacts", [*steps, *log])
    training = section(made(denoiser), "training")
    (denoiser / "artifacts" / "log.jsonl").write_bytes(kept)
    assert "The learning rate was 0.25 at every step." in training.text
    assert "3 evaluations, and the value was the same at all of them." in training.text
    titles = [f.one("h3").text for f in training.all("figure") if f.all("svg")]
    assert [title.split()[0] for title in titles] == ["Loss", "SSIM"]


def test_a_remark_that_holds_for_all_data_is_there_once(denoiser: Path) -> None:
    def remarked(record: RunRecord) -> RunRecord:
        assert record.validation is not None
        data = replace(record.data, remarks=("x: v / 255", "one more"))
        return replace(record, data=data, validation=replace(record.validation, remarks=("x: v / 255", "another")))

    kept = (denoiser / "artifacts" / "run.json").read_bytes()
    edit_record(denoiser / "artifacts", remarked)
    rows = section(made(denoiser), "asked").rows()
    (denoiser / "artifacts" / "run.json").write_bytes(kept)
    said = [row[1] for row in rows if row[0] == ""]
    assert said == ["x: v / 255", "one more", "another"]


def test_a_gated_file_is_said_to_be_one_and_the_tuned_network_in_it_is_compared(denoiser: Path) -> None:
    tgdonnx.gate(denoiser / "vendor.onnx", denoiser / "tuned.onnx", denoiser / "both.onnx", input_name="g")
    page = made(denoiser, model=denoiser / "vendor.onnx", tuned=denoiser / "both.onnx", data=pairs(seed=1))
    assert page.one("div", id="verdict").text.startswith("Verified")
    assert "This file is gated: it holds" in page.one("p", id="gate").text
    assert "the input 'g'" in page.one("p", id="gate").text
    assert "is, byte by byte, what" in section(page, "files").text
    assert (
        numbers(page)["RMSE (unit of the data)"]
        == numbers(parse_page(denoiser / "first.html"))["RMSE (unit of the data)"]
    )
    assert not made(denoiser).all("p", id="gate")
