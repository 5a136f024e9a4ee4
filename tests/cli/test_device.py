"""--device of every command that runs a model: what is missing is said before anything is written, and nothing falls back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.cli.commands import run, run_json, save_pairs
from tests.support import fake_cuda, models
from tests.support.trainer import make_artifacts
from tgdonnx.cli import main

TUNING = ("--steps", "2", "--batch", "2")
OURS = ("--engine", "onnxruntime")
COMMANDS = {
    "train": ("train", "artifacts", "--data", "data.npz", *TUNING),
    "dry run": ("train", "artifacts", "--data", "data.npz", *TUNING, "--dry-run"),
    "agreement": (
        "train",
        "artifacts",
        "--data",
        "data.npz",
        *TUNING,
        "--agree",
        "images.npz",
        "--retain",
        "images.npz",
    ),
    "finetune": ("finetune", "model.onnx", "--data", "data.npz", "--phi", "0.3", *TUNING, *OURS, "-o", "out.onnx"),
    "compare": (
        *("compare", "model.onnx", "--data", "data.npz", "--validation", "data.npz", "--select", "last:1"),
        *(*TUNING, *OURS, "-o", "compared"),
    ),
    "sweep": ("sweep", "model.onnx", "--data", "images.npz", "--phi", "0.3", "--tolerance", "100"),
    "mask by the drop test": (
        *("mask", "model.onnx", "--phi", "auto", "--tolerance", "100", "--data", "images.npz", "-o", "masked.onnx"),
    ),
    "regrow": (
        *("mask", "model.onnx", "--phi", "0.3", "--mode", "regrow", "--calibrate", "images.npz"),
        *("--tolerance", "100", "-o", "masked.onnx"),
    ),
    "apply": ("apply", "model.onnx", "--data", "image.npy", "-o", "applied.npy"),
    "report": ("report", "trained", "--data", "data.npz", "-o", "report.html"),
    "blend": ("blend", "trained", "--validation", "data.npz"),
    "data": ("data", "model.onnx", "--data", "data.npz", *TUNING, *OURS),
    "batch": ("batch", "jobs.csv", "--model", "model.onnx", "--data", "data.npz", *TUNING, *OURS, "-o", "studies"),
    "gate": ("gate", "model.onnx", "tuned.onnx", "--data", "many.npz", "-o", "both.onnx"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("devices")
    model = models.dncnn(0)
    data = save_pairs(room / "data.npz", (4, 3, 12, 13), (4, 3, 12, 13))
    with np.load(data) as arrays:
        np.savez(room / "images.npz", x=arrays["x"])
        np.save(room / "image.npy", arrays["x"][:1])
    for name in ("artifacts", "trained"):
        (room / f"for-{name}").mkdir()
        built = make_artifacts(model, room / f"for-{name}", tgdonnx.Phi(0.3), engine="onnxruntime")
        shutil.move(built, room / name)
        shutil.rmtree(room / f"for-{name}")
    tgdonnx.train(room / "trained", data, tgdonnx.TrainOptions(steps=2, batch=2))
    models.save(model, room / "model.onnx")
    tgdonnx.export(room / "trained", room / "tuned.onnx")
    (room / "jobs.csv").write_text("name,last\nfirst,1\n")
    np.savez(room / "many.npz", x=np.random.default_rng(0).normal(size=(12, 3, 12, 13)).astype(np.float32))
    return room


@pytest.fixture
def room(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "room")
    monkeypatch.chdir(tmp_path / "room")
    return tmp_path / "room"


def contents(room: Path) -> dict[str, bytes]:
    return {str(path.relative_to(room)): path.read_bytes() for path in sorted(room.rglob("*")) if path.is_file()}


def test_every_command_with_a_device_is_tried_here() -> None:
    having = {
        name
        for name in main.list_commands(None)
        for parameter in main.get_command(None, name).params
        if parameter.name == "device"
    }
    assert having == {words[0] for words in COMMANDS.values()} | {"check"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_is_not_there_is_said_in_one_line_before_anything_is_written(name: str, room: Path) -> None:
    before = contents(room)
    done = run(*COMMANDS[name], "--device", "cuda")
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "cannot use cuda:0: it has " in line
    assert "install onnxruntime-gpu" in line
    assert "or use the device cpu" in line
    assert contents(room) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_number_that_no_device_has_is_said_and_the_processor_does_not_take_its_place(
    name: str, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_cuda.install(monkeypatch, devices=1)
    before = contents(room)
    done = run(*COMMANDS[name], "--device", "cuda:1")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "cannot use cuda:1: it would run models by CPUExecutionProvider; see that there is such a device" in line
    assert contents(room) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_every_model_of_a_command_runs_on_the_device(name: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda.install(monkeypatch, devices=2)
    done = run(*COMMANDS[name], "--device", "cuda:1")
    assert done.exit_code == 0, done.stderr
    asked = [given[fake_cuda.CUDA]["device_id"] for given in fake.sessions]
    assert asked[0] == 1, "the device is tried"
    assert len(asked) > 1
    assert set(asked) == {1}
    assert fake.on_processor == 0
    assert set(fake.values) <= {("cuda", 1)}
    assert bool(fake.values) == (COMMANDS[name][0] in ("train", "finetune", "compare", "blend", "data", "batch"))


def test_a_run_on_a_device_has_the_losses_of_one_on_the_processor_and_its_record_says_where(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("artifacts", "again")
    expected = run_json("train", "again", "--data", "data.npz", *TUNING)
    fake_cuda.install(monkeypatch, devices=1)
    found = run_json("train", "artifacts", "--data", "data.npz", *TUNING, "--device", "cuda")
    assert found["loss"] == expected["loss"]
    assert '"device": "cuda"' in (room / "artifacts" / "run.json").read_text()
    resumed = ("train", "artifacts", "--data", "data.npz", "--steps", "3", "--batch", "2", "--resume")
    assert run(*resumed, "--device", "cpu").exit_code == 0, "a run may go on on another device"


def test_check_finds_that_a_device_is_not_there(room: Path) -> None:
    report = run_json("check", "model.onnx", *OURS, "--device", "cuda:3", status=1)
    (finding,) = [each for each in report["findings"] if each["severity"] == "error"]
    assert finding["code"] == "TGD106"
    assert "cannot use cuda:3" in finding["message"]
    assert "onnxruntime-gpu" in finding["remedy"]


def test_check_opens_the_session_on_the_device(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda.install(monkeypatch, devices=1)
    assert run_json("check", "model.onnx", *OURS, "--device", "cuda")["trainable"]
    assert {given[fake_cuda.CUDA]["device_id"] for given in fake.sessions} == {0}


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1"])
def test_what_is_no_device_is_refused_with_those_that_are(name: str, room: Path) -> None:
    done = run(*COMMANDS["train"], "--device", name)
    assert done.exit_code == 2
    assert f"expected a device such as cpu, cuda or cuda:1; got '{name}'" in done.stderr


def test_the_engine_of_the_processor_names_the_other_one(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda.install(monkeypatch, devices=1)
    before = contents(room)
    chosen = ("--phi", "0.3", *TUNING, "--engine", "onnxruntime-training", "-o", "out.onnx", "--device", "cuda")
    done = run("finetune", "model.onnx", "--data", "data.npz", *chosen)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "the engine onnxruntime-training trains on the device cpu, not on cuda:0" in line
    assert "build for the engine onnxruntime, or use another device" in line
    assert contents(room) == before
