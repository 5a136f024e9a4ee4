"""Criteria of acceptance: recorded before the first step, judged at the end, told by the page and the exit status."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.cli.commands import run, run_json
from tests.reporting.pages import section
from tests.reporting.parsing import parse_page
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.errors import ArtifactsError, DataError

NETWORK = "g (float[N, 2, 3, 4] x) => (float[N, 2] y) { m = Conv(x, w, b) p = GlobalAveragePool(m) y = Flatten(p) }"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier, and tables of samples whose first channel tells the class; those of site south are mislabelled."""
    models.save(text_model(NETWORK, w=(2, 2, 1, 1), b=(2,)), tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for name, sites in (("train", ["north"]), ("held_out", ["north", "south"])):
        rows = ["x,target,site"]
        for number in range(16):
            label, site = number % 2, sites[number // 2 % len(sites)]
            sample = rng.normal(0, 0.1, (2, 3, 4)).astype(np.float32)
            sample[0] += 2 * label - 1
            np.save(tmp_path / f"{name}{number}.npy", sample)
            rows.append(f"{name}{number}.npy,{1 - label if site == 'south' else label},{site}")
        (tmp_path / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def criteria(folder: Path, limit: float, *more: str) -> Path:
    path = folder / "criteria.toml"
    lines = ["format = 1", "[[criteria]]", 'metric = "accuracy"', 'direction = "at-least"', f"limit = {limit}", *more]
    path.write_text("\n".join(lines) + "\n")
    return path


def finetune(folder: Path, *more: object) -> tuple[object, ...]:
    return (
        *("finetune", folder / "model.onnx", "--data", folder / "train.csv", "--validation", folder / "held_out.csv"),
        *("--all", "--loss", "ce", "--lr", "0.1", "--epochs", "8", "-o", folder / "tuned.onnx", *more),
    )


def test_a_model_that_meets_its_criteria_is_accepted(folder: Path) -> None:
    page = folder / "page.html"
    result = run(*finetune(folder, "--acceptance", criteria(folder, 0.5), "--report", page))
    assert result.exit_code == 0
    assert "accepted  by the criterion of criteria.toml" in result.stdout
    assert parse_page(page).one("div", id="acceptance-verdict").text.startswith("Accepted: all criteria are met.")


def test_a_model_that_does_not_is_written_all_the_same_and_the_exit_status_says_so(folder: Path) -> None:
    path, page, kept = criteria(folder, 0.5, 'column = "site"'), folder / "page.html", folder / "run"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    options = ("--acceptance", path, "--report", page, "--artifacts", kept)
    report = run_json(*finetune(folder, *options), status=1)
    assert tgdonnx.verify(folder / "model.onnx", folder / "tuned.onnx").ok
    assert report["acceptance"]["passed"] is False
    assert report["acceptance"]["sha256"] == sha256
    found = {
        each["subgroup"]: (each["cases"], each["after"], each["passed"]) for each in report["acceptance"]["criteria"]
    }
    assert found == {"north": (8, 1.0, True), "south": (8, 0.0, False)}
    root = parse_page(page)
    assert root.one("div", id="acceptance-verdict").text.startswith("Not accepted: the criterion is not met.")
    rows = section(root, "acceptance").rows()
    assert [(row[2], row[5], row[1]) for row in rows[1:]] == [("north", "1", "met"), ("south", "0", "not met")]
    assert sha256 in section(root, "acceptance").text
    recorded = json.loads((kept / "run.json").read_text())["acceptance"]
    assert (recorded["sha256"], recorded["content"]["criteria"][0]["column"]) == (sha256, "site")


def test_a_criterion_in_several_subgroups_is_told_as_one(folder: Path) -> None:
    path = criteria(folder, 0.0, 'column = "site"')
    result = run(*finetune(folder, "--acceptance", path, "--no-keep"))
    assert result.exit_code == 0
    assert "accepted  by the criterion of criteria.toml" in result.stdout


def test_what_was_recorded_before_the_first_step_is_judged_whatever_the_file_says_now(folder: Path) -> None:
    trained_with_criteria(folder, 0.99)
    criteria(folder, 0.0)
    data = tgdonnx.RunData(folder / "train.csv", validation=folder / "held_out.csv")
    options = tgdonnx.TrainOptions(epochs=1, learning_rate=0.1)
    longer = tgdonnx.TrainOptions(epochs=2, learning_rate=0.1)
    with pytest.raises(ArtifactsError, match="criteria are fixed before the first step"):
        tgdonnx.train(folder / "run", data, longer, resume=True, acceptance=folder / "criteria.toml")
    tgdonnx.train(folder / "run", data, options, resume=True)
    result = run("report", folder / "run", "--data", folder / "held_out.csv", "-o", folder / "page.html")
    assert result.exit_code == 1
    assert "not met: accuracy at least 0.99: 0.5" in result.stdout
    assert run("report", folder / "run", "-o", folder / "unjudged.html").exit_code == 0
    assert "They were not judged here" in (folder / "unjudged.html").read_text()


def trained_with_criteria(folder: Path, limit: float) -> Path:
    tgdonnx.mask(folder / "model.onnx", folder / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(folder / "masked.onnx", folder / "run", tgdonnx.BuildOptions(loss="ce"))
    data = tgdonnx.RunData(folder / "train.csv", validation=folder / "held_out.csv")
    options = tgdonnx.TrainOptions(epochs=1, learning_rate=0.1)
    tgdonnx.train(folder / "run", data, options, acceptance=criteria(folder, limit))
    return folder / "run"


def test_criteria_that_were_changed_in_the_record_are_refused(folder: Path) -> None:
    record = trained_with_criteria(folder, 0.99) / "run.json"
    untouched = record.read_text()
    report = ("report", folder / "run", "--data", folder / "held_out.csv", "-o", folder / "page.html")
    for place, message in (
        ("content", "its criteria are not those that the text of criteria.toml says"),
        ("text", "the text of the criteria of criteria.toml has the SHA-256"),
    ):
        changed = json.loads(untouched)
        if place == "content":
            changed["acceptance"]["content"]["criteria"][0]["limit"] = 0.1
        else:
            changed["acceptance"]["text"] = changed["acceptance"]["text"].replace("0.99", "0.1")
        record.write_text(json.dumps(changed))
        result = run(*report)
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "'dice' is not measured here; expected one of accuracy, f1"),
        (('column = "scanner"',), "no other column 'scanner'; it has folder, site"),
        (("limits = 3",), "unknown field `limits`"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_the_first_step(
    more: tuple[str, ...], message: str, folder: Path
) -> None:
    path = criteria(folder, 0.5, *more)
    if not more:
        path.write_text(path.read_text().replace("accuracy", "dice"))
    before = sorted(entry.name for entry in folder.iterdir())
    result = run(*finetune(folder, "--acceptance", path))
    assert result.exit_code == 2
    assert message in result.stderr
    assert sorted(entry.name for entry in folder.iterdir()) == before


def test_validation_data_that_is_trained_on_is_refused_with_criteria_and_else_told(folder: Path) -> None:
    rows = (folder / "train.csv").read_text().splitlines()
    np.save(folder / "copy.npy", np.load(folder / "train0.npy"))
    held_out = (folder / "held_out.csv").read_text().splitlines()
    (folder / "held_out.csv").write_text("\n".join([*held_out, *rows[2:4], "copy.npy,1,south"]) + "\n")
    told = "3 of 19 samples of the validation data"
    before = sorted(entry.name for entry in folder.iterdir())
    path = criteria(folder, 0.0)
    result = run(*finetune(folder, "--acceptance", path))
    assert result.exit_code == 2
    assert told in result.stderr
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([*before, path.name])
    result = run(*finetune(folder))
    assert result.exit_code == 0
    assert told in result.stderr
    record = json.loads((folder / "tuned.run" / "run.json").read_text())
    assert told in record["validation"]["remarks"][0]
    assert not any(told in remark for remark in record["data"]["remarks"])


def test_cases_that_were_trained_on_are_not_judged_on(folder: Path) -> None:
    trained_with_criteria(folder, 0.5)
    page = folder / "page.html"
    result = run("report", folder / "run", "--data", folder / "train.csv", "-o", page)
    assert result.exit_code == 1
    assert "not judged: The run trained on the files of all 16 cases" in result.stdout
    assert "could not be judged" in parse_page(page).one("div", id="acceptance-verdict").text
    rows = (folder / "train.csv").read_text().splitlines()
    (folder / "mixed.csv").write_text(
        "\n".join([*rows, *(folder / "held_out.csv").read_text().splitlines()[1:5]]) + "\n"
    )
    report = run_json("report", folder / "run", "--data", folder / "mixed.csv", "-o", page, "--overwrite")
    assert [each["cases"] for each in report["acceptance"]["criteria"]] == [4]
    assert any("16 of 20 cases" in reason for reason in report["left_out"])
    assert "without 16 of 20 cases that were trained on, 4 cases" in section(parse_page(page), "result").text


def test_it_is_said_that_training_did_not_improve_on_the_vendors_model(folder: Path) -> None:
    (folder / "held_out.csv").write_text("x,target,site\nheld_out0.npy,0,north\nheld_out1.npy,1,north\n")
    told = "training did not improve on the vendor's model"
    assert told not in run(*finetune(folder)).stderr
    rows = [row.split(",") for row in (folder / "train.csv").read_text().splitlines()[1:]]
    wrong = [f"{name},{1 - int(label)},{site}" for name, label, site in rows]
    (folder / "train.csv").write_text("\n".join(["x,target,site", *wrong]) + "\n")
    tgdonnx.finetune(
        folder / "tuned.onnx",
        tgdonnx.RunData(folder / "held_out.csv"),
        folder / "good.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.TrainOptions(epochs=40, learning_rate=0.1),
        building=tgdonnx.BuildOptions(loss="ce"),
    )
    result = run(*finetune(folder, "--overwrite")[:1], folder / "good.onnx", *finetune(folder, "--overwrite")[2:])
    assert result.exit_code == 0
    assert "0 rows of 0 tensors changed" in result.stdout
    assert told in result.stderr


def test_criteria_need_validation_data(folder: Path) -> None:
    results = tgdonnx.Results(acceptance=criteria(folder, 0.5))
    with pytest.raises(DataError, match="criteria are judged on validation data, and there is none"):
        tgdonnx.finetune(
            folder / "model.onnx",
            folder / "train.csv",
            folder / "tuned.onnx",
            tgdonnx.AllLayers(),
            building=tgdonnx.BuildOptions(loss="ce"),
            results=results,
        )
    assert not (folder / "tuned.onnx").exists()


def class_folders(folder: Path) -> tuple[Path, Path]:
    """The same samples as files in folders of their class, and in them of their site."""
    for name in ("train", "held_out"):
        for row in (folder / f"{name}.csv").read_text().splitlines()[1:]:
            file, label, site = row.split(",")
            (folder / name / label / site).mkdir(parents=True, exist_ok=True)
            (folder / file).rename(folder / name / label / site / file)
    return folder / "train", folder / "held_out"


def archives(folder: Path) -> tuple[Path, Path]:
    """The same samples in one file, with an array of sites."""
    for name in ("train", "held_out"):
        rows = [row.split(",") for row in (folder / f"{name}.csv").read_text().splitlines()[1:]]
        x = np.stack([np.load(folder / file) for file, _, _ in rows])
        target, sites = np.array([int(label) for _, label, _ in rows]), np.array([site for _, _, site in rows])
        np.savez(folder / f"{name}.npz", x=x, target=target, site=sites)
    return folder / "train.npz", folder / "held_out.npz"


def judged_on(folder: Path, data: tuple[Path, Path], path: Path, *more: object, status: int) -> dict[str, Any]:
    given = ("finetune", folder / "model.onnx", "--data", data[0], "--validation", data[1])
    how = ("--all", "--loss", "ce", "--lr", "0.1", "--epochs", "8", "-o", folder / "tuned.onnx")
    return run_json(*given, *how, "--acceptance", path, *more, status=status)


FOUND = {"north": (8, 1.0, True), "south": (8, 0.0, False)}


def by_subgroup(report: dict[str, Any]) -> dict[str, tuple[int, float, bool]]:
    criteria = report["acceptance"]["criteria"]
    return {each["subgroup"]: (each["cases"], each["after"], each["passed"]) for each in criteria}


def test_subgroups_are_the_folders_of_files(folder: Path) -> None:
    data = class_folders(folder)
    report = judged_on(folder, data, criteria(folder, 0.5, 'column = "folder"'), status=1)
    assert by_subgroup(report) == FOUND
    report = judged_on(folder, data, criteria(folder, 0.0, 'column = "folder"'), "--overwrite", status=0)
    assert report["acceptance"]["passed"] is True


def test_subgroups_are_an_array_of_the_data(folder: Path) -> None:
    report = judged_on(folder, archives(folder), criteria(folder, 0.5, 'column = "site"'), status=1)
    assert by_subgroup(report) == FOUND


def with_groups(folder: Path, limit: float) -> Path:
    path = criteria(folder, limit, 'column = "scanner"')
    path.write_text('subgroups = "groups.csv"\n' + path.read_text())
    return path


def test_subgroups_are_those_of_a_table_beside_the_criteria_as_it_was_recorded(folder: Path) -> None:
    data = class_folders(folder)
    files = sorted(path for path in data[1].rglob("*.npy"))
    table = folder / "groups.csv"
    rows = ["file,scanner", *(f"{path.name},{'A' if path.parent.name == 'north' else 'B'}" for path in files)]
    path, page = with_groups(folder, 0.5), folder / "page.html"
    before = sorted(entry.name for entry in folder.iterdir())
    for lines, message in (
        (rows[:-2], "groups.csv has no row for 2 of 16 cases: 1/south/held_out"),
        ([*rows, "other.npy,A"], "groups.csv, row 17: 'other.npy' is no file of the validation data"),
        ([*rows[:-1], rows[-1].replace(",B", ",")], "'scanner' is empty of 1 of 16 cases"),
    ):
        table.write_text("\n".join(lines) + "\n")
        refused = judged_refusal(folder, data, path)
        assert message in refused
        assert sorted(entry.name for entry in folder.iterdir()) == sorted([*before, "groups.csv"])
    table.write_text("\n".join([*rows, "train3.npy,A"]) + "\n")
    report = judged_on(folder, data, path, "--report", page, "--artifacts", folder / "run", status=1)
    assert by_subgroup(report) == {"A": FOUND["north"], "B": FOUND["south"]}
    rows_of_page = section(parse_page(page), "acceptance").rows()
    assert [(row[2], row[5], row[1]) for row in rows_of_page[1:]] == [("A", "1", "met"), ("B", "0", "not met")]
    groups = json.loads((folder / "run" / "run.json").read_text())["acceptance"]["groups"]
    assert groups["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert groups["text"] == table.read_text()
    table.write_text("file,scanner\n")
    again = run_json("report", folder / "run", "--data", data[1], "-o", page, "--overwrite", status=1)
    assert again["acceptance"]["criteria"] == report["acceptance"]["criteria"]


def test_a_cyclonedx_document_says_what_every_criterion_came_to(folder: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="the extra bom is not installed")
    schema = importlib.import_module("cyclonedx.schema").SchemaVersion.V1_6
    path = with_groups(folder, 0.5)
    rows = (folder / "held_out.csv").read_text().splitlines()[1:]
    table = folder / "groups.csv"
    table.write_text("\n".join(["file,scanner", *(row.replace(",0,", ",").replace(",1,", ",") for row in rows)]) + "\n")
    assert run(*finetune(folder, "--acceptance", path, "--card", folder / "card.cdx.json")).exit_code == 1
    text = (folder / "card.cdx.json").read_text("utf-8")
    assert validation.JsonStrictValidator(schema).validate_str(text) is None
    properties = {each["name"]: each["value"] for each in json.loads(text)["metadata"]["component"]["properties"]}
    start = "tgdonnx:acceptance:"
    assert {name[len(start) :]: value for name, value in properties.items() if name.startswith(start)} == {
        "passed": "false",
        "file": "criteria.toml",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "subgroups:file": "groups.csv",
        "subgroups:sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "criterion 1": "accuracy at least 0.5, for every scanner (north, 8 cases): 1, met",
        "criterion 2": "accuracy at least 0.5, for every scanner (south, 8 cases): 0, not met",
    }


def judged_refusal(folder: Path, data: tuple[Path, Path], path: Path) -> str:
    given = ("finetune", folder / "model.onnx", "--data", data[0], "--validation", data[1], "--acceptance", path)
    result = run(*given, "--all", "--loss", "ce", "-o", folder / "tuned.onnx")
    assert result.exit_code == 2
    return result.stderr
