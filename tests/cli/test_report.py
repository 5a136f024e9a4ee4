"""tgdonnx report, and finetune --report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

import tgdonnx
from tests.cli.commands import run, run_json
from tests.reporting.pages import section
from tests.reporting.parsing import parse_page


def finetune(vendor: Path, data: Path, *more: object) -> tuple[object, ...]:
    tuned = vendor.with_name("tuned.onnx")
    return ("finetune", vendor, "--data", data, "-o", tuned, "--phi", 0.3, "--epochs", 1, *more)


def test_finetune_leaves_a_report_and_its_run_and_nothing_else(vendor: Path, data: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    report = run_json(*finetune(vendor, data, "--report", page))
    assert report["report"]["verified"] is True
    assert report["report"]["size"] == page.stat().st_size
    root = parse_page(page)
    assert root.one("h1").text == "vendor.onnx"
    assert len(root.all("img")) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("data.npz", "page.html", "tuned.onnx", "tuned.run", "vendor.onnx")
    ]


def test_finetune_looks_at_the_place_of_the_report_before_it_trains(vendor: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    result = run(*finetune(vendor, data, "--report", tmp_path / "page.html"))
    assert result.exit_code == 2
    assert "page.html exists" in result.stderr
    assert not (tmp_path / "tuned.onnx").exists()
    assert (tmp_path / "page.html").read_text() == "mine"


def test_a_page_names_options_as_who_asked_for_it_does(vendor: Path, data: Path, tmp_path: Path) -> None:
    rows, kept, page = tmp_path / "rows.json", tmp_path / "artifacts", tmp_path / "page.html"
    rows.write_text('{"w2": [0, 5]}')
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--filters", rows)
    run_json("build", tmp_path / "masked.onnx", "-o", kept)
    run_json("report", kept, "-o", page, "--model", vendor)
    (told,) = (item for item in parse_page(page).all("li") if "a list of filters" in item.text)
    assert told.text.endswith("name it with --filters")
    tgdonnx.report(kept, page, model=vendor, overwrite=True)
    (told,) = (item for item in parse_page(page).all("li") if "a list of filters" in item.text)
    assert told.text.endswith("name it with `filters`")


def test_report_of_kept_artifacts(vendor: Path, data: Path, tmp_path: Path) -> None:
    kept, page = tmp_path / "artifacts", tmp_path / "page.html"
    run_json(*finetune(vendor, data, "--artifacts", kept))
    report = run_json("report", kept, "-o", page, "--model", vendor, "--tuned", tmp_path / "tuned.onnx", "--data", data)
    assert (report["verified"], report["output"]) == (True, str(page))
    assert any("own task" in reason for reason in report["left_out"])
    result = run("report", kept, "-o", page, "--overwrite")
    assert result.exit_code == 0
    assert "the tuned model is verified" in result.stdout
    assert "No data was handed in (--data), so neither model was run." in result.stderr


def test_a_tuned_model_that_fails_gives_a_page_and_exit_status_1(vendor: Path, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "artifacts"
    run_json(*finetune(vendor, data, "--artifacts", kept))
    other = onnx.load(tmp_path / "tuned.onnx")
    other.graph.node[0].name = "renamed"
    onnx.save(other, tmp_path / "other.onnx")
    result = run("report", kept, "-o", tmp_path / "page.html", "--tuned", tmp_path / "other.onnx")
    assert result.exit_code == 1
    assert "NOT verified" in result.stdout
    assert "Not verified" in parse_page(tmp_path / "page.html").text


def test_a_tuned_model_of_another_run_is_told_and_has_no_figures_of_this_run(
    vendor: Path, data: Path, tmp_path: Path
) -> None:
    kept, page, card = tmp_path / "artifacts", tmp_path / "page.html", tmp_path / "card.json"
    with np.load(data) as arrays:
        np.savez(tmp_path / "held_out.npz", x=arrays["x"] + 1, target=arrays["target"])
    run_json(*finetune(vendor, data, "--artifacts", kept, "--validation", tmp_path / "held_out.npz"))
    report = ("report", kept, "-o", page, "--overwrite", "--card", card)
    own = run(*report, "--tuned", tmp_path / "tuned.onnx")
    assert "NOT of this run" not in own.stdout
    assert "card.json: the record for machines" in own.stdout
    assert not parse_page(page).all("div", id="other-file")
    assert "validation loss" in section(parse_page(page), "result").text
    found = json.loads(card.read_text())
    assert found["of_run"] is True
    assert found["steps"] is not None
    assert found["trained"] > 0
    other = run(*report, "--tuned", vendor)
    assert "NOT of this run: " in other.stdout
    root = parse_page(page)
    assert root.one("div", id="other-file").text.startswith("Not the model of this run")
    assert "validation loss" not in section(root, "result").text
    assert "vendor's model → exported" not in root.one("header").text
    found = json.loads(card.read_text())
    assert (found["of_run"], found["steps"], found["trained"]) == (False, None, None)


def test_names_can_be_mapped_and_need_data(vendor: Path, data: Path, tmp_path: Path) -> None:
    kept = tmp_path / "artifacts"
    run_json(*finetune(vendor, data, "--artifacts", kept))
    with np.load(data) as arrays:
        np.savez(tmp_path / "other.npz", noisy=arrays["x"], target=arrays["target"])
    command = ("report", kept, "-o", tmp_path / "page.html", "--map", "noisy=x")
    assert run(*command).exit_code == 2
    assert run(*command, "--data", tmp_path / "other.npz").exit_code == 0
