"""The page of a run: self-contained, complete, true to the logs, and safe whatever names the files bring."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.reporting.pages import made, section, sha256
from tests.reporting.parsing import parse_page
from tests.reporting.runs import edit_record, epoch, full_log, pairs, step, trained, write_log
from tests.support import models
from tests.support.checkpoints import BEST
from tgdonnx.errors import ArtifactsError, DataError, ModelFileError, OutputError
from tgdonnx.finetuning.run_record import FileRecord, Resumption, RunRecord
from tgdonnx.reporting.filters import strip
from tgdonnx.scoring import LayerScores, ScoreReport

SECTIONS = [
    *("result", "pictures", "cases", "training", "retention"),
    *("proof", "filters", "scores", "asked", "files", "versions"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    trained(path)
    return path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A trained run that a test may change."""
    copy = tmp_path / "run"
    shutil.copytree(original, copy)
    return copy


def test_a_page_needs_nothing_from_outside_and_runs_nothing(folder: Path) -> None:
    write_log(folder / "artifacts", full_log())
    page = made(folder, model=folder / "vendor.onnx", tuned=folder / "tuned.onnx", data=pairs())
    text = re.sub(r"data:image/png;base64,[\w+/=]+", "", (folder / "page.html").read_text("utf-8"))
    assert not re.search(r"https?:|//[a-z]|@import|@font-face|javascript:", text)
    assert not page.all("script")
    for element in page.all():
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "xlink:href"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:")), f"{element.tag} {name} {value[:50]}"
    ids = {element.attributes["id"] for element in page.all() if "id" in element.attributes}
    assert {a.attributes["href"][1:] for a in page.all("a")} <= ids
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_every_section_is_there_with_its_heading_and_every_picture_has_words(folder: Path) -> None:
    write_log(folder / "artifacts", full_log())
    page = made(folder, data=pairs())
    assert [s.attributes["id"] for s in page.all("section")] == SECTIONS
    assert all(s.all("h2") for s in page.all("section"))
    assert page.one("html").attributes["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert all(cell.attributes.get("scope") in ("row", "col") for cell in page.all("th"))
    for svg in page.all("svg"):
        assert svg.attributes.get("aria-hidden") == "true" or svg.attributes.get("aria-label")
    assert all(box.attributes["aria-label"] for box in page.all(role="img"))
    assert not page.all("p", class_="none")


def test_files_are_named_with_their_true_sizes_and_hashes(folder: Path) -> None:
    page = made(folder, model=folder / "vendor.onnx", tuned=folder / "tuned.onnx")
    rows = section(page, "files").rows()[1:]
    for row, path in zip(rows, (folder / "vendor.onnx", folder / "artifacts" / "masked.onnx", folder / "tuned.onnx")):
        assert row[1] == f"{path.name}{sha256(path)}"
        assert row[2] == f"{path.stat().st_size:,} bytes"
    assert f"is, byte by byte, what {BEST} gives" in section(page, "files").text


def test_without_their_files_the_hashes_are_the_same(folder: Path) -> None:
    rows = section(made(folder), "files").rows()[1:]
    assert rows[0][1] == f"the copy in the masked model{sha256(folder / 'vendor.onnx')}"
    assert rows[2][1] == f"exported for this report{sha256(folder / 'tuned.onnx')}"


def test_data_files_are_those_of_the_record(folder: Path) -> None:
    files = tuple(FileRecord(f"/data/case{i}.npy", 1000 + i, 1.0, f"{i:064x}") for i in range(25))

    def change(record: RunRecord) -> RunRecord:
        data = replace(record.data, files=files, samples=7000, cases=25, remarks=("x: v / 255",))
        assert record.validation is not None
        return replace(record, data=data, validation=replace(record.validation, source="/data/held_out.npz"))

    edit_record(folder / "artifacts", change)
    page = made(folder)
    rows = [row for row in section(page, "files").rows() if row[0] == "training data"]
    assert rows[:20] == [["training data", f"case{i}.npy{i:064x}", f"{1000 + i:,} bytes"] for i in range(20)]
    assert rows[20:] == [["training data", "and 5 more, in run.json", "—"]]
    assert ["validation data", "held_out.npz", "—"] in section(page, "files").rows()
    asked = section(page, "asked").rows()
    assert ["training data", "7,000 samples; 25 cases"] in asked
    assert ["", "x: v / 255"] in asked


def test_numbers_are_those_of_the_log(folder: Path) -> None:
    log = full_log()
    write_log(folder / "artifacts", log)
    training = section(made(folder), "training")
    head, *rows = training.one("table", id="evaluations").rows()
    names = ["psnr", "ssim", "vendor's task: psnr"]
    assert head == ["epoch", "step", "training loss", "validation loss", *names]
    logged = [entry for entry in log if entry["event"] == "epoch"]
    assert len(rows) == len(logged) == 3
    for row, entry in zip(rows, logged):
        numbers = [entry["loss"], entry["validation"], *entry["metrics"].values(), entry["retain"]["psnr"]]
        assert row[:2] == [str(entry["epoch"]), str(entry["step"])]
        for cell, number in zip(row[2:], numbers):
            assert cell == "—" if number is None else float(cell) == float(f"{number:.6g}")
    assert "4 steps in 2 s, of which 2.0 % waiting for data" in training.text


def test_figures_from_start_to_export_are_those_of_the_exported_step(folder: Path) -> None:
    # Validation data in `trained` gives a best checkpoint; its step is in the checkpoint, not in the log that a test writes.
    best = best_step(folder)
    log = [
        epoch(n, n * 2, 0.5, v, metrics={"psnr": 10 * v}, retain={"rmse": v / 7})
        for n, v in ((0, 3.25), (1, 2.5), (2, 2.75))
    ]
    write_log(folder / "artifacts", log)
    page = made(folder)
    exported = {0: 3.25, 2: 2.5, 4: 2.75}[best]
    tiles = {tile.one("dt").text: tile.one("dd").text for tile in page.one("dl").all("div")}
    assert tiles["Validation loss"].startswith(f"3.25 → {exported:g}")
    assert tiles["PSNR, new data"].startswith(f"32.5 → {10 * exported:g}")
    assert tiles["RMSE, vendor's own task"].startswith(f"0.4643 → {exported / 7:.4g}")
    assert tiles["Steps of training"].endswith(f"exported: after step {best}")
    (bold,) = page.all("tr", class_="exported")
    assert bold.all("td")[0].text == str(best)


def best_step(folder: Path) -> int:
    """The step of the run's best validation loss, from the log that training itself wrote."""
    entries = [json.loads(line) for line in (folder / "artifacts" / "log.jsonl").read_text().splitlines()]
    evaluated = [entry for entry in entries if entry.get("validation") is not None]
    return int(min(evaluated, key=lambda entry: entry["validation"])["step"])


def test_the_log_that_training_writes_is_understood(folder: Path) -> None:
    entries = [json.loads(line) for line in (folder / "artifacts" / "log.jsonl").read_text().splitlines()]
    evaluated = [entry for entry in entries if "validation" in entry]
    training = section(made(folder), "training")
    rows = training.one("table", id="evaluations").rows()[1:]
    assert [float(row[3]) for row in rows] == [float(f"{entry['validation']:.6g}") for entry in evaluated]
    assert "4 steps" in training.text
    assert "could not be read" not in training.text


def test_a_run_with_metrics_and_retention_is_told_as_its_own_log_tells_it(tmp_path: Path) -> None:
    trained(tmp_path, data={"retain": pairs(seed=2)}, report=tmp_path / "page.html")
    page = parse_page(tmp_path / "page.html")
    entries = [json.loads(line) for line in (tmp_path / "artifacts" / "log.jsonl").read_text().splitlines()]
    evaluated = [entry for entry in entries if entry["event"] in ("epoch", "validation")]
    names = [*evaluated[0]["metrics"], *(f"vendor's task: {name}" for name in evaluated[0]["retain"])]
    assert {"psnr", "vendor's task: psnr"} <= set(names)
    head, *rows = section(page, "training").one("table", id="evaluations").rows()
    assert head[4:] == names
    for row, entry in zip(rows, evaluated):
        values = [*entry["metrics"].values(), *entry["retain"].values()]
        assert [float(cell) for cell in row[4:]] == [float(f"{value:.6g}") for value in values]
    assert len(rows) == len(evaluated) == 3
    assert "with targets, evaluated before, during and after" in section(page, "retention").text
    stop = next(entry for entry in entries if entry["event"] == "stop")
    assert stop["reason"] in section(page, "asked").text
    record = json.loads((tmp_path / "artifacts" / "run.json").read_text())
    assert ["batch", str(record["options"]["batch"])] in section(page, "asked").rows()
    assert ["numpy (training)", record["versions"]["numpy"]] in section(page, "versions").rows()


def test_what_trained_is_what_the_masks_say(folder: Path) -> None:
    page = made(folder)
    masked = onnx.load(folder / "artifacts" / "masked.onnx").graph
    masks = {t.name: onnx.numpy_helper.to_array(t) for t in masked.initializer if t.name.endswith(".retrain_mask")}
    strips = section(page, "filters").all("li")[3:]
    found = {strip.one("bdi").text: strip.all("span", class_="count")[0].text for strip in strips}
    assert found == {
        f"conv{n}": f"{int(mask.sum())} of {len(mask)}"
        if (mask := masks.get(f"w{n}.retrain_mask")) is not None
        else "0 of 3"
        for n in (1, 2, 3, 4)
    }
    scores = {layer.node: layer.kse for layer in tgdonnx.score(folder / "vendor.onnx").layers}
    for figure in section(page, "scores").all("figure"):
        kse = scores[figure.one("bdi").text]
        assert f"{int((kse < 0.3).sum())} of {len(kse)} maps below phi" in figure.text


def test_a_selection_without_scores_says_so(tmp_path: Path) -> None:
    base = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    options = tgdonnx.TrainOptions(epochs=1, batch=6)
    tgdonnx.finetune(
        base,
        pairs(),
        tmp_path / "t.onnx",
        tgdonnx.LastLayers(1),
        options,
        results=tgdonnx.Results(artifacts=tmp_path / "artifacts"),
    )
    page = made(tmp_path)
    assert section(page, "scores").one("p", class_="none").text.startswith("Filters were not chosen by their scores")
    assert "last: all filters of the last 1 layers" in section(page, "asked").text


def test_what_was_not_done_is_said(folder: Path) -> None:
    (folder / "artifacts" / "log.jsonl").unlink()
    report = tgdonnx.report(folder / "artifacts", folder / "page.html")
    page = parse_page(folder / "page.html")
    for name, words in (
        ("training", "have not been trained, or their log is gone"),
        ("retention", "was not evaluated"),
        ("pictures", "No data was handed in (`data`), so neither model was run."),
    ):
        assert words in section(page, name).one("p", class_="none").text
        assert any(words in reason for reason in report.left_out)


def test_damaged_lines_of_the_log_are_counted_on_the_page(folder: Path) -> None:
    write_log(folder / "artifacts", [*full_log(), "{", "nonsense"])
    assert "2 lines of the log could not be read and are left out" in section(made(folder), "training").text


def test_a_tuned_file_that_differs_elsewhere_is_not_verified(folder: Path) -> None:
    spoilt = onnx.load(folder / "tuned.onnx")
    (bias,) = (t for t in spoilt.graph.initializer if t.name == "w4")
    values = bytearray(bias.raw_data)
    values[3] ^= 1
    bias.raw_data = bytes(values)
    onnx.save(spoilt, folder / "spoilt.onnx")
    report = tgdonnx.report(folder / "artifacts", folder / "page.html", tuned=folder / "spoilt.onnx")
    assert not report.verified
    page = parse_page(folder / "page.html")
    assert "verdict no" in page.one("div", id="verdict").attributes["class"]
    assert page.one("div", id="verdict").text.startswith("Not verified")
    assert "w4" in section(page, "proof").one("ul").text
    assert f"is not what {BEST} gives now" in section(page, "files").text


def test_the_proof_lists_what_verify_lists(folder: Path) -> None:
    proof = section(made(folder, tuned=folder / "tuned.onnx"), "proof")
    changed = tgdonnx.verify(folder / "vendor.onnx", folder / "tuned.onnx").changed
    rows = dict(proof.rows()[1:])
    assert set(rows) == {entry.name for entry in changed}
    assert all(rows[entry.name].startswith(f"{len(entry.filters)}:") for entry in changed)


HOSTILE = "</style></svg><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}{% raw %}$x^2$ \u202e&amp;"


def test_the_proof_says_by_what_in_the_words_of_verify(folder: Path) -> None:
    page = made(folder, model=folder / "vendor.onnx", tuned=folder / "tuned.onnx")
    report = tgdonnx.verify(folder / "vendor.onnx", folder / "tuned.onnx", folder / "artifacts" / "masked.onnx")
    (proof,) = report.rounds
    assert proof.form == "recomputed"
    assert f"round 1: {proof.sentence}" in section(page, "proof").text


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    model = models.dncnn(0)
    for node in model.graph.node:
        node.name = HOSTILE + node.name if node.name else ""
        node.input[:] = [name + HOSTILE if name.startswith("w") else name for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name += HOSTILE if tensor.name.startswith("w") else ""
    name = HOSTILE.replace("/", "∕")
    folder = tmp_path / name
    folder.mkdir()
    base = models.save(model, folder / f"{name}.onnx")
    options = tgdonnx.TrainOptions(epochs=1, batch=6)
    tgdonnx.finetune(
        base,
        pairs(),
        folder / "t.onnx",
        tgdonnx.Phi(0.3),
        options,
        results=tgdonnx.Results(artifacts=folder / "artifacts"),
    )
    files = (FileRecord(HOSTILE, 1, 1.0, None),)

    def change(record: RunRecord) -> RunRecord:
        data = replace(record.data, files=files, remarks=(HOSTILE,), where=HOSTILE, source=HOSTILE)
        resumed = (Resumption(HOSTILE, 1),)
        versions = {HOSTILE: HOSTILE}
        return replace(
            record, data=data, validation=data, retain=data, versions=versions, started=HOSTILE, resumed=resumed
        )

    edit_record(folder / "artifacts", change)
    write_log(
        folder / "artifacts",
        [
            step(1, 1.0),
            *(epoch(n, n, 1.0, 1.0 + n, metrics={HOSTILE: float(n)}, retain={HOSTILE: float(n)}) for n in (0, 1)),
            {"event": "stop", "step": 1, "rule": "length", "reason": HOSTILE},
        ],
    )
    page = made(folder, model=base)
    assert not page.all("script")
    assert not page.all("img")
    assert "49" not in page.one("h1").text
    shown = " ".join(HOSTILE.split()).replace("\u202e", r"\u202e")
    assert page.one("h1").text == f"{name}.onnx".replace("\u202e", r"\u202e")
    assert "\u202e" not in (folder / "page.html").read_text("utf-8")
    for part in ("asked", "proof", "filters", "scores", "training", "versions"):
        assert shown in section(page, part).text, part
    assert not [element for element in page.all() if any(key.startswith("on") for key in element.attributes)]


def test_a_damaged_record_is_refused_with_the_remedy_and_a_missing_one_is_left_out(folder: Path) -> None:
    path = folder / "artifacts" / "run.json"
    path.write_text(path.read_text().replace('"batch": 3', '"batch": "three"'))
    with pytest.raises(
        ArtifactsError,
        match=r"run\.json is damaged \(.*`\$\.options\.batch`\); delete it, and what it says is left out",
    ):
        made(folder)
    path.unlink()
    assert len(made(folder).all("section")) == len(SECTIONS)


def test_names_of_100_000_characters_are_shortened_in_the_middle(folder: Path) -> None:
    before = len(made(folder).text)
    content = json.loads((folder / "artifacts" / "run.json").read_text("utf-8"))
    content["versions"]["n" * 100_000] = "begin" + "v" * 100_000 + "end"
    (folder / "artifacts" / "run.json").write_text(json.dumps(content))
    page = made(folder)
    assert len(page.text) - before < 1_000
    assert re.search("beginv+…v+end", section(page, "versions").text)


def test_a_long_run_stays_small_and_says_that_it_is_thinned(folder: Path) -> None:
    rng = np.random.default_rng(0)
    steps = [step(i + 1, float(loss)) for i, loss in enumerate(rng.random(20_000))]
    epochs = [epoch(n, 10 * n, 0.5, float(rng.random()), metrics={"psnr": float(rng.random())}) for n in range(2001)]
    write_log(folder / "artifacts", [*steps, *epochs])
    report = tgdonnx.report(folder / "artifacts", folder / "page.html")
    assert report.size == (folder / "page.html").stat().st_size < 400_000
    training = section(parse_page(folder / "page.html"), "training")
    assert "a point is the mean of 50 steps" in training.text
    assert "a point is the mean of 6 evaluations" in training.text
    rows = training.one("table", id="evaluations").rows()[1:]
    assert 20 < len(rows) <= 41
    assert (rows[0][0], rows[-1][0]) == ("0", "2000")
    assert f"{len(rows)} of 2001 are listed" in training.text


def test_a_large_net_gives_a_page_of_less_than_2_mb(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, filters = 200, 2000
    rng = np.random.default_rng(0)
    strips = tuple(
        strip(
            f"/backbone/stage.{i}/conv", "Conv", f"w{i}", (filters, filters, 3, 3), rng.random(filters) ** 3 * (i % 2)
        )
        for i in range(layers)
    )
    kse = rng.random((layers, filters))
    scores = [
        LayerScores(f"/backbone/stage.{i}/conv", "Conv", f"w{i}", 1, filters, filters, row, row, row, ("One note.",))
        for i, row in enumerate(kse)
    ]
    monkeypatch.setattr("tgdonnx.reporting.page.filter_strips", lambda _: strips)
    monkeypatch.setattr("tgdonnx.reporting.page.score_layers", lambda *_, **__: ScoreReport("", 1, 5, tuple(scores)))
    write_log(folder / "artifacts", full_log(5000))
    noisy = pairs(samples=4, shape=(1, 256, 256))
    random = np.stack([noisy["x"], noisy["target"]])
    pictures = pairs(samples=4, shape=(3, 256, 256))
    pictures["x"][:, 1], pictures["target"][:, 1] = random[0, :, 0], random[1, :, 0]
    report = tgdonnx.report(folder / "artifacts", folder / "page.html", data=pictures)
    assert report.size < 2_000_000
    page = parse_page(folder / "page.html")
    assert len(section(page, "filters").all("svg")) == len(section(page, "scores").all("svg")) == layers
    assert "a cell is 8 filters" in section(page, "filters").text


def test_reporting_changes_nothing_in_the_artifacts_and_leaves_nothing_behind(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = {path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()}
    made(folder, data=pairs())
    assert {path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()} == before
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"model": "tuned.onnx"}, ArtifactsError, "is not the file that the artifacts were built from"),
        ({"tuned": "nothing.onnx"}, ModelFileError, "nothing.onnx"),
        ({"data": "nothing.npz"}, DataError, "nothing.npz"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    options: dict[str, str], error: type[Exception], words: str, folder: Path
) -> None:
    with pytest.raises(error, match=words):
        made(folder, **{name: folder / value for name, value in options.items()})
    assert not (folder / "page.html").exists()


def test_a_page_that_exists_is_kept(folder: Path) -> None:
    (folder / "page.html").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        tgdonnx.report(folder / "artifacts", folder / "page.html")
    assert (folder / "page.html").read_text() == "mine"


def test_no_artifacts_no_page(tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError, match="no artifacts directory"):
        tgdonnx.report(tmp_path, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
