"""The pipeline from the shell: files, JSON documents, exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.commands import run, run_json, save_pairs
from tests.support import models


def test_each_stage_takes_what_the_one_before_wrote(vendor: Path, data: Path, tmp_path: Path) -> None:
    masked, artifacts, tuned = tmp_path / "masked.onnx", tmp_path / "artifacts", tmp_path / "tuned.onnx"
    scores = run_json("score", vendor)
    assert set(scores) >= {"model", "alpha", "k", "layers"}
    assert (scores["alpha"], scores["k"]) == (1.0, 5)
    for layer in scores["layers"]:
        assert len(layer["sparsity"]) == len(layer["entropy"]) == len(layer["kse"]) == layer["maps"]
    traces = run_json("trace", vendor)["layers"]
    assert [layer["node"] for layer in traces] == [layer["node"] for layer in scores["layers"]]
    assert all(bool(entry["producers"]) == (entry["reason"] is None) for layer in traces for entry in layer["maps"])
    assert run_json("check", vendor)["trainable"] is True
    selected = run_json("mask", vendor, "-o", masked, "--phi", 0.3)
    assert (selected["selection"]["strategy"], selected["selection"]["phi"]) == ("phi", 0.3)
    retrain = {entry["name"]: entry["retrain"] for entry in selected["params"] if entry["retrain"]}
    assert retrain
    assert 0 < selected["rho"] < 1
    run_json("build", masked, "-o", artifacts, "--l2", 0.01, "--clip-norm", 1)
    trained = run_json("train", artifacts, "--data", data, "--epochs", 2, "--batch", 3, "--lr", 0.01)
    assert trained["steps"] == len(trained["loss"]) == 4
    assert trained["best"]["epoch"] == 2
    exported = run_json("export", artifacts, "-o", tuned)
    assert {entry["name"]: entry["filters"] for entry in exported["changed"]} == retrain
    for evidence in ((), ("--masked", masked)):
        verified = run_json("verify", vendor, tuned, *evidence)
        assert verified["ok"] is True
        assert verified["violations"] == []
        assert {entry["name"]: entry["filters"] for entry in verified["changed"]} == retrain


def test_finetune_does_all_stages(vendor: Path, data: Path, tmp_path: Path) -> None:
    report = run_json(
        "finetune",
        vendor,
        "--data",
        data,
        "--validation",
        data,
        "-o",
        tmp_path / "tuned.onnx",
        "--last",
        1,
        "--epochs",
        2,
    )
    assert report["verify"]["ok"] is True
    assert report["train"]["epochs"][0]["validation"] is not None
    assert run("verify", vendor, tmp_path / "tuned.onnx").exit_code == 0


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_a_weighted_loss_and_the_pull_to_the_vendor_are_taken_and_recorded(
    form: str, vendor: Path, tmp_path: Path
) -> None:
    data, artifacts = save_pairs(tmp_path / "data.npz", (6, 3, 12, 13), (6, 3, 12, 13)), tmp_path / "artifacts"
    options = ("--loss", "0.8*l1 + 0.2*ssim", "--data-range", 4, "--l2-sp", 0.5, "--form", form)
    report = run_json(
        *("finetune", vendor, "--data", data, "-o", tmp_path / "tuned.onnx", "--last", 1, "--epochs", 8),
        *("--lr", 0.01, "--artifacts", artifacts, *options),
    )
    for recorded in (report["build"]["options"], json.loads((artifacts / "manifest.json").read_text())["options"]):
        assert (recorded["loss"], recorded["data_range"], recorded["l2_sp"]) == ("0.8*l1+0.2*ssim", 4.0, 0.5)
    assert report["train"]["loss"][-1] < report["train"]["loss"][0]
    assert report["verify"]["ok"] is True


def test_verify_answers_no_with_status_1(vendor: Path, data: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.onnx"
    run_json("finetune", vendor, "--data", data, "-o", tuned, "--last", 1, "--epochs", 1)
    model = onnx.load(tuned)
    model.graph.node[0].name = "other"
    onnx.save(model, tuned)
    assert run_json("verify", vendor, tuned, status=1)["ok"] is False
    result = run("verify", vendor, tuned)
    assert result.exit_code == 1
    assert "differs" in result.stdout


def test_verify_says_by_what_it_is_proved_and_takes_a_list_from_elsewhere(
    vendor: Path, data: Path, tmp_path: Path
) -> None:
    weight = next(t.name for t in onnx.load(vendor).graph.initializer if len(t.dims) == 4)
    listed, other, tuned = tmp_path / "filters.json", tmp_path / "other.json", tmp_path / "tuned.onnx"
    listed.write_text(json.dumps({weight: [1]}))
    other.write_text(json.dumps({weight: [0]}))
    run_json("finetune", vendor, "--data", data, "-o", tuned, "--filters", listed, "--epochs", 1)
    report = run_json("verify", vendor, tuned)
    assert (report["ok"], report["proof"]) == (True, "recorded")
    assert [each["form"] for each in report["rounds"]] == ["recorded"]
    shown = run("verify", vendor, tuned).stdout
    assert f"changed  {weight}: 1 filter, 1\n" in shown
    assert "the record's own word; name it with --filters" in shown
    assert run_json("verify", vendor, tuned, "--filters", listed)["proof"] == "listed"
    assert run_json("verify", vendor, tuned, "--filters", other, status=1)["ok"] is False
    assert run_json("verify", vendor, vendor)["proof"] == "identical"
    assert "the files are the same" in run("verify", vendor, vendor).stdout


def test_filters_come_from_a_json_file(vendor: Path, tmp_path: Path) -> None:
    weight = next(t.name for t in onnx.load(vendor).graph.initializer if len(t.dims) == 4)
    listed = tmp_path / "filters.json"
    listed.write_text(json.dumps({weight: [1]}))
    report = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--filters", listed)
    assert {entry["name"]: entry["retrain"] for entry in report["params"] if entry["retrain"]}[weight] == [1]


@pytest.mark.parametrize("suffix", ["json", "csv", "npz"])
def test_scores_are_saved_in_the_format_of_the_suffix(suffix: str, vendor: Path, tmp_path: Path) -> None:
    path = tmp_path / f"scores.{suffix}"
    layers = run_json("score", vendor, "-o", path)["layers"]
    expected = {(layer["node"], c): kse for layer in layers for c, kse in enumerate(layer["kse"])}
    if suffix == "json":
        found = {(e["node"], c): kse for e in json.loads(path.read_text())["layers"] for c, kse in enumerate(e["kse"])}
    elif suffix == "csv":
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        found = {(row[0], int(row[2])): float(row[-1]) for row in rows}
    else:
        with np.load(path) as arrays:
            found = {(e["node"], c): k for e in layers for c, k in enumerate(arrays[f"{e['node']}/kse"].tolist())}
    assert found == expected


def test_progress_and_remarks_stay_out_of_the_json_document(vendor: Path, data: Path, tmp_path: Path) -> None:
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    result = run("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts", "--gradient", "gate", "--json")
    assert json.loads(result.stdout)["options"]["gradient"] == "gate"
    assert "no descent direction" in result.stderr


def test_a_run_is_resumed(vendor: Path, data: Path, tmp_path: Path) -> None:
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts")
    run_json("train", tmp_path / "artifacts", "--data", data, "--epochs", 1)
    assert run("train", tmp_path / "artifacts", "--data", data, "--epochs", 1).exit_code == 2
    assert run_json("train", tmp_path / "artifacts", "--data", data, "--epochs", 3, "--resume")["steps"] == 3


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    vendor = models.save(models.gated(0), tmp_path / "vendor.onnx")
    asked = run_json("check", vendor)
    assert (asked["trainable"], asked["findings"][0]["code"]) == (True, "TGD002")
    assert run_json("check", vendor, "--output", "y")["trainable"] is True
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--all")
    assert run("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts").exit_code == 2
    assert (
        run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts", "--output", "y")["options"]["output"]
        == "y"
    )


def test_noise2noise_from_files_trains_applies_and_resumes_to_the_bit(vendor: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b", "full"):
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((12, 9, 8)).astype(np.float32))
    pair = ("--noise2noise", tmp_path / "a.npy", tmp_path / "b.npy", "--layout", "DHW", "--batch", 4, "--lr", 0.01)
    report = run_json(
        "finetune", vendor, *pair, "-o", tmp_path / "tuned.onnx", "--all", "--epochs", 2, "--rounds", 2,
        "--apply", tmp_path / "full.npy", "--applied", tmp_path / "clean.npy",
    )  # fmt: skip
    assert report["verify"]["ok"] is True
    assert len(report["earlier"]) == 1
    assert report["apply"]["shape"] == [12, 9, 8]
    assert np.load(tmp_path / "clean.npy").shape == (12, 9, 8)
    losses = {}
    for name, epochs in (("whole", (4,)), ("cut", (2, 4))):
        run_json("mask", vendor, "-o", tmp_path / f"{name}.onnx", "--all")
        run_json("build", tmp_path / f"{name}.onnx", "-o", tmp_path / name)
        for index, count in enumerate(epochs):
            resume = ["--resume"] if index else []
            losses[name] = run_json("train", tmp_path / name, *pair, "--epochs", count, *resume)["loss"]
    assert losses["cut"] == losses["whole"]
    neither = run("train", tmp_path / "whole", "--resume")
    assert (neither.exit_code, "expected either --data or --noise2noise" in neither.stderr) == (2, True)
    both = run("train", tmp_path / "whole", *pair, "--data", tmp_path, "--resume")
    assert both.exit_code == 2
    auto = run("finetune", vendor, *pair, "-o", tmp_path / "auto.onnx", "--phi", "auto")
    assert (auto.exit_code, "name them with --sweep-data" in auto.stderr) == (2, True)
