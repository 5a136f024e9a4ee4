"""tgdonnx compare, from the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tgdonnx
from tests.cli.commands import run, run_json, save_pairs
from tests.finetuning.runs import log_of

SHAPE = (6, 3, 12, 13)
SELECT = "none,phi:0.3,last:2,all+l2sp"


@pytest.fixture
def arguments(vendor: Path, tmp_path: Path) -> list[object]:
    new = save_pairs(tmp_path / "new.npz", SHAPE, SHAPE)
    old = save_pairs(tmp_path / "old.npz", (3, *SHAPE[1:]), (3, *SHAPE[1:]))
    options = ["--select", SELECT, "--steps", 4, "--batch", 3, "--validate-every", 2, "--lr", 1e-3, "--l2-sp", 0.1]
    return ["compare", vendor, "--data", new, "--validation", new, "--retain", old, *options]


def test_the_document_is_the_report_of_the_library(arguments: list[object], vendor: Path, tmp_path: Path) -> None:
    found = run_json(*arguments, "-o", tmp_path / "c", "--retain-limit", 1.0)
    options = tgdonnx.TrainOptions(steps=4, batch=3, validate_every=2, learning_rate=1e-3, retain_limit=1.0)
    expected = tgdonnx.compare(
        vendor,
        tgdonnx.RunData(tmp_path / "new.npz", validation=tmp_path / "new.npz", retain=tmp_path / "old.npz"),
        tmp_path / "library",
        SELECT.split(","),
        options,
        building=tgdonnx.BuildOptions(l2_sp=0.1),
    )
    assert [entry["name"] for entry in found["entries"]] == SELECT.split(",")
    for entry, other in zip(found["entries"], expected.entries):
        assert [(p["step"], p["loss"], p["new"], p["old"], p["fall"]) for p in entry["curve"]] == [
            (p.step, p.loss, p.new, p.old, p.fall) for p in other.curve
        ]
        assert entry["changed"] == other.changed
    assert (found["recommended"], found["new"], found["old"], found["labelled"]) == (
        expected.recommended,
        "psnr",
        "psnr",
        True,
    )
    assert found["retain_limit"] == 1.0
    assert found["steps"] == 4
    assert (tmp_path / "c" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((tmp_path / "c" / "comparison.json").read_text())["report"]
    best = f"{tmp_path}/c/{found['recommended'].replace(':', '-')}/artifacts"
    assert kept["call"] == f"tgdonnx.export({best!r}, output='tuned.onnx')"
    assert {**kept, "call": f"tgdonnx export {best} -o tuned.onnx"} == found


def test_the_table_has_a_row_for_each_and_says_how_to_write_the_model(arguments: list[object], tmp_path: Path) -> None:
    result = run(*arguments, "-o", tmp_path / "c")
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    rows = {line[0]: line for line in lines}
    assert set(SELECT.split(",")) <= set(rows)
    assert rows["none"][1:3] == ["0", "0"]
    assert rows["last:2"][2] == "4"
    assert max(len(line) for line in result.stdout.splitlines() if "write its model" not in line) <= 80
    report = run_json(*arguments, "-o", tmp_path / "c")
    assert f"recommended on this data: {report['recommended']}" in " ".join(result.stdout.split())
    assert f"write its model: `{report['call']}`" in result.stdout
    assert run(*report["call"].split()[1:-1], tmp_path / "tuned.onnx").exit_code == 0
    assert run("verify", arguments[1], tmp_path / "tuned.onnx").exit_code == 0


def test_without_the_old_task_there_is_no_plot(arguments: list[object], tmp_path: Path) -> None:
    place = arguments.index("--retain")
    report = run_json(*arguments[:place], *arguments[place + 2 :], "-o", tmp_path / "c")
    assert report["old"] is None
    assert {entry["best"]["old"] for entry in report["entries"]} == {None}
    assert not (tmp_path / "c" / "pareto.png").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--select", "tdg"), "unknown selection 'tdg'"),
        (("--select", "tgd+agree", "--l2-sp", "0"), "needs --agree"),
        (("--patience", "3"), "compared at equal steps"),
        (("--tensorboard", "events"), "for single runs"),
        (("--agree-share", "1.5"), "above 0 and below 1"),
        (("--epochs", "3"), "epochs or steps, got both"),
    ],
)
def test_what_is_refused(more: tuple[str, ...], message: str, arguments: list[object], tmp_path: Path) -> None:
    result = run(*arguments, *more, "-o", tmp_path / "c")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "c").exists()


def test_without_data_nothing_is_compared(vendor: Path, tmp_path: Path) -> None:
    result = run("compare", vendor, "-o", tmp_path / "c")
    assert result.exit_code == 2
    assert "expected --data" in result.stderr


def test_data_may_be_split_cut_and_turned_and_images_to_agree_on_are_treated_alike(
    arguments: list[object], tmp_path: Path
) -> None:
    for number in range(4):
        (tmp_path / "many").mkdir(exist_ok=True)
        save_pairs(tmp_path / "many" / f"{number}.npz", SHAPE, SHAPE)
    images = save_pairs(tmp_path / "images.npz", (3, *SHAPE[1:]), (3, *SHAPE[1:]))
    more = ("--validation-split", 0.25, "--patch", "8x8", "--augment", "flips,rotations", "--agree", images)
    command = ("compare", arguments[1], "--data", tmp_path / "many", "--select", "phi:0.3,phi:0.3+agree", "--steps", 2)
    report = run_json(*command, *more, "-o", tmp_path / "c")
    plain, agreeing = report["entries"]
    assert plain["curve"][0] == agreeing["curve"][0], "validation is the same, and without the images"
    assert plain["last"]["loss"] != agreeing["last"]["loss"]
    logs = [
        [line["loss"] for line in log_of(tmp_path / "c" / folder / "artifacts") if line["event"] == "step"]
        for folder in ("phi-0.3", "phi-0.3+agree")
    ]
    assert [len(losses) for losses in logs] == [2, 2]
    assert run_json(*command, *more, "-o", tmp_path / "c")["entries"] == report["entries"]


def test_finetune_and_train_agree_on_images(vendor: Path, tmp_path: Path) -> None:
    new = save_pairs(tmp_path / "new.npz", SHAPE, SHAPE)
    images = save_pairs(tmp_path / "images.npz", (3, *SHAPE[1:]), (3, *SHAPE[1:]))
    artifacts = tmp_path / "artifacts"
    command = ("finetune", vendor, "--data", new, "--phi", 0.3, "--epochs", 1, "--batch", 3, "--artifacts", artifacts)
    report = run_json(*command, "--agree", images, "--agree-share", 0.4, "-o", tmp_path / "tuned.onnx")
    assert report["train"]["steps"] == 3  # 6 samples in 9, of which 3 are images
    record = json.loads((artifacts / "run.json").read_text())
    assert (record["agree"]["share"], record["agree"]["source"]) == (0.4, str(images))
    again = ("train", artifacts, "--data", new, "--epochs", 2, "--batch", 3, "--resume")
    assert "with the same data and options" in run(*again).stderr
    assert run_json(*again, "--agree", images, "--agree-share", 0.4)["steps"] == 6
