"""tgdonnx train and finetune: options from files, signals, rehearsals, and what is shown."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

import tgdonnx
from tests.cli.commands import as_from_a_terminal, run, run_json, save_pairs
from tests.finetuning.runs import log_of, same_state
from tests.support import models
from tests.support.checkpoints import BEST
from tests.support.trainer import make_artifacts
from tgdonnx.cli.progress import numbers_of, speed_of
from tgdonnx.cli.run_options import duration
from tgdonnx.finetuning import Progress

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_pairs(tmp_path / "data.npz", (10, 3, 12, 13), (10, 3, 12, 13))


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))


def record(artifacts: Path) -> dict[str, object]:
    options: dict[str, object] = json.loads((artifacts / "run.json").read_text())["options"]
    return options


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h2m3s", 3723), (300, 300)],
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5x", "m", "-5m", "1h 30m x", "30m5"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected seconds, or a duration such as 90s, 30m or 1h30m"):
        duration(text)


TOML = 'epochs = 2\nbatch = 5\nlr = 1e-3\nmax-time = "10m"\nmetric = ["rmse", "psnr"]\n'
YAML = "epochs: 2\nbatch: 5\nlr: 1e-3\nmax_time: 10m\nmetric: [rmse, psnr]\ndata: {data}\n"


@pytest.mark.parametrize("suffix", ["toml", "yaml", "yml"])
def test_options_come_from_a_file_and_the_command_line_wins(
    suffix: str, artifacts: Path, data: Path, tmp_path: Path
) -> None:
    if suffix != "toml":
        pytest.importorskip("yaml", reason="the extra yaml is not installed")
    config = tmp_path / f"options.{suffix}"
    config.write_text(TOML + f'data = "{data}"\n' if suffix == "toml" else YAML.format(data=data))
    report = run_json("train", artifacts, "--config", config, "--validation", data, "--batch", 4)
    assert report["steps"] == 6
    options = record(artifacts)
    assert (options["epochs"], options["batch"], options["learning_rate"]) == (2, 4, 1e-3)
    assert (options["max_time"], options["metrics"]) == (600.0, ["rmse", "psnr"])


def test_finetune_takes_such_a_file_too(data: Path, tmp_path: Path) -> None:
    models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    config = tmp_path / "options.toml"
    config.write_text(f'data = "{data}"\nlast = 1\nsteps = 3\naccumulate = 2\nloss = "l1"\n')
    report = run_json("finetune", tmp_path / "vendor.onnx", "-o", tmp_path / "tuned.onnx", "--config", config)
    assert (report["train"]["steps"], report["build"]["options"]["loss"]) == (3, "l1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.toml", "epohs = 3\n", "unknown key 'epohs'; did you mean 'epochs'?"),
        ("c.toml", "zzz = 3\n", "unknown key 'zzz'; expected options of"),
        ("c.toml", "config = 'x.toml'\n", "unknown key 'config'"),
        ("c.toml", "[train]\nepochs = 3\n", "unknown key 'train'"),
        ("c.toml", "epochs = [1, 2]\n", "expected 'epochs' to be a whole number, got a list"),
        ("c.toml", "epochs = true\n", "expected 'epochs' to be a whole number, got True"),
        ("c.toml", "resume = 3\n", "expected 'resume' to be true or false, got 3"),
        ("c.toml", "max-time = '1m'\nmax_time = '2m'\n", "'max-time' is given twice"),
        ("c.toml", "epochs = \n", "c.toml cannot be read"),
        ("c.toml", "epochs = 'many'\n", "'many' is not a valid integer"),
        ("c.json", "{}", "expected a file that ends in .toml, .yaml, .yml"),
        ("c.toml", None, "c.toml cannot be read: No such file"),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    name: str, content: str | None, message: str, artifacts: Path, data: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    result = run("train", artifacts, "--data", data, "--config", tmp_path / name)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert "fault of tgdonnx" not in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_yaml_file_that_is_no_mapping_is_refused(artifacts: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="the extra yaml is not installed")
    for content, message in (
        ("- epochs\n", "got list"),
        ("epochs: [1\n", "cannot be read"),
        ("a: b: c\n", "cannot be"),
    ):
        (tmp_path / "c.yaml").write_text(content)
        result = run("train", artifacts, "--data", data, "--config", tmp_path / "c.yaml")
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.split())


def test_without_pyyaml_the_remedy_is_told(
    artifacts: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "c.yaml").write_text("epochs: 2\n")
    result = run("train", artifacts, "--data", data, "--config", tmp_path / "c.yaml")
    assert result.exit_code == 2
    assert "pip install 'tgdonnx[yaml]', or write the options as TOML" in " ".join(result.stderr.split())


def test_a_dry_run_says_what_it_costs_and_writes_nothing(artifacts: Path, data: Path) -> None:
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    cost = run_json("train", artifacts, "--data", data, "--batch", 3, "--epochs", 5, "--dry-run")
    assert (cost["steps_per_epoch"], cost["steps"]) == (4, 20)
    result = run("train", artifacts, "--data", data, "--batch", 3, "--dry-run")
    assert result.exit_code == 0
    assert "an epoch has 4 steps" in result.stdout
    assert "nothing was written" in result.stdout
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before


def test_the_end_is_told_in_words(artifacts: Path, data: Path) -> None:
    options = (
        "--epochs",
        4,
        "--lr",
        1e-2,
        "--retain",
        data,
        "--retain-limit",
        0,
        "--metric",
        "rmse",
        "--metric",
        "psnr",
    )
    result = run("train", artifacts, "--data", data, "--validation", data, *options)
    assert result.exit_code == 0
    assert "of the time of the steps was waiting for data" in result.stdout
    report = json_of(artifacts)
    best = min((line for line in report if line["validation"] is not None), key=lambda line: line["validation"])
    where = f"(best, epoch {best['epoch']})"
    start = report[0]
    for line in (
        f"validation loss {start['validation']:.4g} -> {best['validation']:.4g} {where}",
        f"RMSE {start['metrics']['rmse']:.4g} -> {best['metrics']['rmse']:.4g} {where}",
        f"PSNR {start['metrics']['psnr']:.4g} -> {best['metrics']['psnr']:.4g} {where}",
        f"vendor's own task: PSNR {start['retain']['psnr']:.4g} -> {best['retain']['psnr']:.4g} {where}",
    ):
        assert line in result.stdout.splitlines()
    assert "data range of the metrics of validation: " in result.stdout


def json_of(artifacts: Path) -> list[dict[str, Any]]:
    """The epochs and validations of the log."""
    return [line for line in log_of(artifacts) if line["event"] in ("epoch", "validation")]


@pytest.mark.parametrize("command", ["train", "finetune", "compare"])
def test_every_validation_leaves_a_line_and_the_end_is_that_of_the_epoch_that_is_kept(
    command: str, artifacts: Path, data: Path, tmp_path: Path
) -> None:
    options = (
        "--data",
        data,
        "--validation",
        data,
        "--retain",
        data,
        "--epochs",
        1,
        "--validate-every",
        1,
        "--batch",
        5,
    )
    vendor, kept = tmp_path / "model.onnx", tmp_path / "kept"
    words = {
        "train": ("train", artifacts),
        "finetune": ("finetune", vendor, "-o", tmp_path / "tuned.onnx", "--last", 1, "--artifacts", kept),
        "compare": ("compare", vendor, "-o", kept, "--select", "last:1"),
    }[command]
    result = run(*words, *options, "--lr", 1e-3)
    assert result.exit_code == 0, result.stderr
    places = {"train": artifacts, "finetune": kept, "compare": kept / "last-1" / "artifacts"}
    found = json_of(places[command])
    assert [line["step"] for line in found] == [0, 1, 2]
    lines = result.stderr.splitlines()
    for line in found:
        numbers = f"validation {line['validation']:.4g}, PSNR {line['metrics']['psnr']:.4g}; vendor's own task: PSNR "
        begin = "start: " if not line["step"] else f"epoch 1, step {line['step']}: loss {line['loss']:.4g}, "
        expected = f"{begin}{numbers}{line['retain']['psnr']:.4g}"
        assert lines.count(expected) == 1, result.stderr
    if command != "compare":
        # A run of one epoch ends with that epoch, not with the vendor's start.
        end = f"PSNR {found[0]['metrics']['psnr']:.4g} -> {found[2]['metrics']['psnr']:.4g} (best, epoch 1)"
        assert end in result.stdout.splitlines()
        assert f"vendor's own task: {end}" in result.stdout.splitlines()


def test_without_validation_the_end_is_told_by_the_loss(artifacts: Path, data: Path) -> None:
    result = run("train", artifacts, "--data", data, "--epochs", 2, "--batch", 5)
    steps = [line["loss"] for line in log_of(artifacts) if line["event"] == "step"]
    assert f"loss {steps[0]:.4g} -> {steps[-1]:.4g} (first and last step)" in result.stdout.splitlines()


def test_what_the_bar_shows() -> None:
    state = Progress(2, 7, 20, 0.123456, 0.25, {"psnr": 31.234, "ssim": None}, 812.3, 0.034, 3725.2)
    assert numbers_of(state) == "loss 0.1235  validation 0.25  psnr 31.23"
    assert speed_of(state) == "812 images/s, 3% wait, 1:02:05 left"
    assert numbers_of(Progress(1, 1, None, 2.0, None)) == "loss 2"


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tgdonnx", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=as_from_a_terminal, **pipes)


def test_a_hangup_that_the_parent_ignores_stops_nothing(artifacts: Path, data: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        raised: list[int] = []

        def hang_up(state: Progress) -> None:
            signal.raise_signal(signal.SIGHUP)
            raised.append(state.step)

        options = tgdonnx.TrainOptions(steps=3, batch=5)
        report = tgdonnx.train(
            artifacts, data, options, watch=tgdonnx.Watch(stop_on=[signal.SIGHUP], on_progress=hang_up)
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (report.steps, report.stop.rule, raised) == (3, "length", [1, 2, 3])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_stops_and_says_how_to_go_on(
    number: signal.Signals, status: int, artifacts: Path, data: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(artifacts, tmp_path / "whole"))
    arguments = ("--data", data, "--validation", data, "--batch", 2, "--lr", 1e-3)
    # So many that it is not over before the signal comes, however long this process has to wait for its turn.
    process = start("train", artifacts, *arguments, "--steps", 10**6, "--json")
    log, give_up = artifacts / "log.jsonl", time.monotonic() + 300
    while time.monotonic() < give_up and not (log.exists() and log.read_text().count('"step"') > 20):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    report = json.loads(out)
    assert 0 < report["steps"] < 10**6
    assert (report["stop"]["rule"], report["stop"]["signal"]) == ("signal", int(number))
    assert f"stopped by {number.name} after step {report['steps']}" in " ".join(err.split())
    assert "go on with the same command and --resume" in " ".join(err.split())
    steps = report["steps"] + 25
    resumed = run_json("train", artifacts, *arguments, "--steps", steps, "--resume")
    expected = run_json("train", whole, *arguments, "--steps", steps)
    assert (resumed["steps"], resumed["loss"]) == (steps, expected["loss"])
    assert same_state(artifacts, whole)
    assert same_state(artifacts, whole, BEST)


def test_finetune_that_is_stopped_writes_no_model_and_says_where_the_run_is(data: Path, tmp_path: Path) -> None:
    models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    kept = tmp_path / "kept"
    arguments = ("--data", data, "--last", 1, "--batch", 2, "--steps", 100000, "--artifacts", kept)
    process = start("finetune", tmp_path / "vendor.onnx", "-o", tmp_path / "tuned.onnx", *arguments)
    log, give_up = kept / "log.jsonl", time.monotonic() + 60
    while time.monotonic() < give_up and not (log.exists() and log.read_text().count('"step"') > 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert not (tmp_path / "tuned.onnx").exists()
    assert f"go on with `tgdonnx train {kept} --resume`" in " ".join(err.split())
    steps = [line["step"] for line in log_of(kept) if line["event"] == "step"]
    more = run_json("train", kept, "--data", data, "--batch", 2, "--steps", len(steps) + 2, "--resume")
    assert more["steps"] == len(steps) + 2
