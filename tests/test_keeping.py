"""What was trained is never thrown away: whatever fails afterwards leaves it, with the command that goes on."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest

import tgdonnx
from tests.cli.commands import as_from_a_terminal, run, save_pairs
from tests.finetuning.runs import log_of
from tests.support import models
from tests.support.fake_sessions import hooked
from tests.support.tuning import PHI, data_for, in_objects, listing, options_for
from tgdonnx.cli import main
from tgdonnx.cli.spelling import spelled
from tgdonnx.errors import DataError, DivergedError, KeptError, OutputError, StoppedError, TgdonnxError
from tgdonnx.exporting import ExportReport, Tuned
from tgdonnx.finetuning import disk_space
from tgdonnx.finetuning.state import RunState

ROOT = Path(__file__).parents[1]
rounds, ending = (importlib.import_module(f"tgdonnx.pipeline.{name}") for name in ("rounds", "ending"))


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "model.onnx")


def finetune(vendor: Path, **more: Any) -> tgdonnx.FinetuneReport:
    given = {"strategy": tgdonnx.Phi(PHI), "training": options_for(), "data": data_for(models.dncnn(0)), **more}
    return tgdonnx.finetune(vendor, output=vendor.parent / "tuned.onnx", **in_objects(given))


def command_in(message: str) -> list[str]:
    with click.Context(main, info_name="tgdonnx"):
        message = spelled(message)
    found = re.search(r"go on with `tgdonnx (.*?)`", message)
    assert found is not None, message
    return shlex.split(found[1])


@pytest.fixture
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("expected")
    finetune(models.save(models.dncnn(0), folder / "model.onnx"))
    return (folder / "tuned.onnx").read_bytes()


def full(*_: object, **__: object) -> None:
    raise OutputError("tuned.onnx cannot be written: No space left on device")


def bug(*_: object, **__: object) -> None:
    raise IndexError("list index out of range\nand more")


@pytest.mark.parametrize(
    ("stage", "fail", "error"),
    [
        ("export_artifacts", full, OutputError),
        ("export_artifacts", bug, KeptError),
        ("verify_files", full, OutputError),
        ("verify_files", bug, KeptError),
    ],
)
@pytest.mark.parametrize("artifacts", [False, True])
def test_a_failure_after_training_leaves_the_training_and_the_command_that_writes_the_same_model(
    artifacts: bool, stage: str, fail: Any, error: type[Exception], vendor: Path, expected: bytes, scratch: Path
) -> None:
    kept = vendor.parent / ("kept" if artifacts else "tuned.run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, stage, fail)
        with pytest.raises(error) as raised:
            finetune(vendor, artifacts=kept if artifacts else None)
    assert f"{kept} keeps what was trained: go on with `tgdonnx.export({str(kept)!r}, output=" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert listing(vendor.parent) == sorted(["model.onnx", kept.name])
    assert listing(scratch) == []
    assert run(*command_in(str(raised.value))).exit_code == 0
    assert (vendor.parent / "tuned.onnx").read_bytes() == expected


def test_a_file_that_is_not_what_was_written_is_found_and_written_again_by_the_command(
    vendor: Path, expected: bytes
) -> None:
    write = Tuned.write

    def damaged(tuned: Tuned, output: Path) -> ExportReport:
        report = write(tuned, output)
        if output.parent == vendor.parent:
            output.write_bytes(output.read_bytes()[:-1] + b"?")
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tuned, "write", damaged)
        with pytest.raises(OutputError, match="is not what was written there") as raised:
            finetune(vendor)
    assert run(*command_in(str(raised.value))).exit_code == 0
    assert (vendor.parent / "tuned.onnx").read_bytes() == expected


def test_a_failure_of_apply_or_report_leaves_the_model_too(vendor: Path, expected: bytes) -> None:
    image = vendor.parent / "full.npy"
    np.save(image, data_for(models.dncnn(0))["x"][:1])
    page = vendor.parent / "page.html"
    for stage, function, more, result in (
        ("apply", "apply", {"apply": image}, vendor.parent / "tuned.applied.npy"),
        ("report", "write_page", {"report": page}, page),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ending, function, full)
            with pytest.raises(OutputError) as raised:
                finetune(vendor, overwrite=True, **more)
        assert (vendor.parent / "tuned.onnx").read_bytes() == expected
        command = command_in(str(raised.value))
        assert command[0] == stage
        assert not result.exists()
        assert run(*command).exit_code == 0
        assert result.exists()


def test_a_full_disk_in_the_middle_of_training_keeps_the_last_checkpoint(
    vendor: Path,
) -> None:
    saved: list[int] = []

    def fills(name: str, state: RunState) -> None:
        if state.step >= 4:
            raise OutputError(f"{name} cannot be written: No space left on device")
        saved.append(state.step)

    with hooked(before_save=fills), pytest.raises(OutputError) as raised:
        finetune(vendor)
    kept = vendor.parent / "tuned.run"
    assert f"No space left on device; the checkpoint of step {max(saved)} is kept; make room" in str(raised.value)
    assert command_in(str(raised.value)) == ["train", str(kept), "--resume"]
    assert tgdonnx.train(kept, data_for(models.dncnn(0)), options_for(), resume=True).steps == 4


def test_a_run_that_diverged_after_a_checkpoint_is_kept_and_one_that_did_before_is_not(vendor: Path) -> None:
    with pytest.raises(DivergedError, match="there is no checkpoint of any step before"):
        finetune(vendor, training=tgdonnx.TrainOptions(30, 3, 1e25))
    assert listing(vendor.parent) == ["model.onnx"]
    late = tgdonnx.TrainOptions(steps=40, batch=3, learning_rate=1e25, warmup=10**6, checkpoint_every=0)
    with pytest.raises(DivergedError, match=r"tuned\.run keeps what was trained: go on with `tgdonnx\.train\("):
        finetune(vendor, training=late)
    assert listing(vendor.parent) == ["model.onnx", "tuned.run"]


def test_what_an_earlier_call_left_is_not_replaced_unless_asked_for(vendor: Path, expected: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "export_artifacts", full)
        with pytest.raises(OutputError):
            finetune(vendor)
    kept = vendor.parent / "tuned.run"
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    with pytest.raises(OutputError, match=r"tuned\.run holds 4 steps of an earlier call: `tgdonnx\.export\("):
        finetune(vendor)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    finetune(vendor, overwrite=True)
    assert listing(vendor.parent) == ["model.onnx", "tuned.onnx", "tuned.run"]
    assert (vendor.parent / "tuned.onnx").read_bytes() == expected


def test_the_run_stays_beside_the_model_and_writes_it_again_unless_it_is_not_to_be_kept(
    vendor: Path, expected: bytes
) -> None:
    tuned, kept = vendor.parent / "tuned.onnx", vendor.parent / "tuned.run"
    assert finetune(vendor).build.directory == str(kept)
    assert tuned.read_bytes() == expected
    tgdonnx.export(kept, vendor.parent / "again.onnx")
    assert (vendor.parent / "again.onnx").read_bytes() == expected
    tuned.unlink()
    with pytest.raises(OutputError, match=r"tuned\.run holds 4 steps of an earlier call"):
        finetune(vendor, keep=False)
    assert listing(vendor.parent) == ["again.onnx", "model.onnx", "tuned.run"]
    with pytest.raises(
        OutputError, match="holds 4 steps of an earlier call, which would be deleted with no other run in"
    ):
        finetune(vendor, keep=False, overwrite=True)
    assert listing(vendor.parent) == ["again.onnx", "model.onnx", "tuned.run"]
    shutil.rmtree(kept)
    assert finetune(vendor, keep=False, overwrite=True).build.directory is None
    assert listing(vendor.parent) == ["again.onnx", "model.onnx", "tuned.onnx"]


def test_what_a_call_left_that_was_killed_before_a_checkpoint_is_replaced(vendor: Path) -> None:
    tgdonnx.mask(vendor, vendor.parent / "masked.onnx", tgdonnx.Phi(PHI))
    tgdonnx.build(vendor.parent / "masked.onnx", vendor.parent / "tuned.run")
    (vendor.parent / "masked.onnx").unlink()
    finetune(vendor)
    assert listing(vendor.parent) == ["model.onnx", "tuned.onnx", "tuned.run"]


def test_a_directory_of_somebody_else_s_where_the_run_would_go_is_left_alone(vendor: Path) -> None:
    (vendor.parent / "tuned.run").mkdir()
    (vendor.parent / "tuned.run" / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"tuned\.run is no run of ours"):
        finetune(vendor, overwrite=True)
    assert (vendor.parent / "tuned.run" / "thesis.txt").read_text() == "precious"


def test_reports_name_nothing_that_was_deleted(vendor: Path) -> None:
    report = finetune(vendor, strategy=tgdonnx.Percentile(40), rounds=2, keep=False)
    assert (report.build.directory, report.earlier[0].build.directory, report.earlier[0].export.output) == (None,) * 3
    assert report.export.output == str(vendor.parent / "tuned.onnx")
    kept = finetune(vendor, strategy=tgdonnx.Percentile(40), rounds=2, artifacts=vendor.parent / "kept", overwrite=True)
    assert kept.build.directory is not None
    assert Path(kept.build.directory).is_dir()


BEFORE: dict[str, tuple[dict[str, Any], type[TgdonnxError], str]] = {
    "a report on data that does not fit": (
        {
            "report": "page.html",
            "data": tgdonnx.RunData(data_for(models.dncnn(0)), {"x": np.zeros((2, 3, 7, 8), np.float32)}),
        },
        DataError,
        "no array 'target'",
    ),
    "a place for artifacts that is taken": ({"artifacts": "taken", "rounds": 2}, OutputError, "round-2 holds other"),
    "a parent that is not there": ({"artifacts": "nowhere/kept"}, OutputError, "nowhere does not exist"),
    "event files where a file is": ({"tensorboard": "model.onnx/board"}, OutputError, "event files need a directory"),
}


@pytest.mark.parametrize("case", BEFORE)
def test_what_can_be_known_before_training_is_found_before_training(
    case: str, vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, error, message = BEFORE[case]
    monkeypatch.chdir(vendor.parent)
    (vendor.parent / "taken" / "round-2").mkdir(parents=True)
    (vendor.parent / "taken" / "round-2" / "mine.txt").write_text("mine")
    told: list[object] = []
    with pytest.raises(error, match=message):
        finetune(vendor, overwrite=True, on_progress=told.append, **changed)
    assert told == []
    assert listing(vendor.parent) == ["model.onnx", "taken"]


def test_a_model_that_could_not_be_written_back_is_refused_before_training(
    vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("tgdonnx.exporting.writing_back"), "overwrite_values", full)
    told: list[object] = []
    with pytest.raises(OutputError, match="No space left"):
        finetune(vendor, on_progress=told.append)
    assert told == []
    assert listing(vendor.parent) == ["model.onnx"]


def test_a_disk_without_room_is_refused_before_training_with_the_numbers(
    vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: usage(1000))
    told: list[object] = []
    message = (
        r"has 1,000 bytes free, and [\d,]+ will be written \(tuned model [\d,]+, checkpoints [\d,]+, log 150,000,000\)"
    )
    with pytest.raises(OutputError, match=message):
        finetune(vendor, training=tgdonnx.TrainOptions(steps=1_000_000, batch=3), on_progress=told.append)
    assert told == []
    assert listing(vendor.parent) == ["model.onnx"]


def test_ctrl_c_twice_keeps_the_last_checkpoint(vendor: Path) -> None:
    def twice(state: tgdonnx.Progress) -> None:
        if state.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(StoppedError, match=r"stopped by SIGINT; .*tuned\.run keeps what was trained") as raised:
        finetune(vendor, stop_on=[signal.SIGINT], on_progress=twice)
    assert raised.value.signal == signal.SIGINT
    kept = vendor.parent / "tuned.run"
    assert tgdonnx.train(kept, data_for(models.dncnn(0)), options_for(), resume=True).steps == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_is_stopped_leaves_its_run_beside_the_output(number: signal.Signals, vendor: Path) -> None:
    data = save_pairs(vendor.parent / "data.npz", (10, 3, 12, 13), (10, 3, 12, 13))
    words = ["finetune", vendor, "--data", data, "-o", vendor.parent / "tuned.onnx", "--last", 1, "--batch", 2]
    command = [sys.executable, "-m", "tgdonnx", *map(str, words), "--steps", "100000", "--checkpoint-every", "0"]
    kept = vendor.parent / "tuned.run"
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_from_a_terminal,
    ) as process:
        log, give_up = kept / "log.jsonl", time.monotonic() + 60
        while time.monotonic() < give_up and not (log.exists() and log.read_text().count('"step"') > 5):
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert f"go on with `tgdonnx train {kept} --resume`" in " ".join(err.split())
    steps = sum(line["event"] == "step" for line in log_of(kept)) if number != signal.SIGKILL else 5
    again = run("train", kept, "--data", data, "--batch", 2, "--steps", steps + 50, "--resume")
    assert again.exit_code == 0, again.stderr
    result = run("export", kept, "-o", vendor.parent / "tuned.onnx")
    assert result.exit_code == 0
    assert run("verify", vendor, vendor.parent / "tuned.onnx").exit_code == 0


@pytest.mark.training
@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX")
def test_the_runtime_s_error_on_a_full_disk_is_a_sentence_and_the_old_checkpoint_stays(vendor: Path) -> None:
    tgdonnx.mask(vendor, vendor.parent / "masked.onnx", tgdonnx.Phi(PHI))
    directory = vendor.parent / "artifacts"
    tgdonnx.build(vendor.parent / "masked.onnx", directory, tgdonnx.BuildOptions(engine="onnxruntime-training"))
    code = """
import resource, signal, sys
from pathlib import Path
from tgdonnx.errors import OutputError
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState
directory = Path(sys.argv[1])
session, before = Session(directory), (directory / "checkpoint").read_bytes()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 100, resource.RLIM_INFINITY))
try:
    session.save("checkpoint", RunState(0, 0, {}))
except OutputError as error:
    print(error)
assert (directory / "checkpoint").read_bytes() == before
assert not list(directory.glob(".checkpoint*"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"checkpoint cannot be written: ONNX Runtime gave up after [\d,]+ bytes", done.stdout)


def test_the_proof_of_a_model_with_external_data_is_rehearsed_too(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    base = tmp_path / "vendor" / "model.onnx"
    onnx.save(models.dncnn(0), base, save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "tuned").mkdir()
    report = tgdonnx.finetune(
        base,
        data_for(models.dncnn(0)),
        tmp_path / "tuned" / "tuned.onnx",
        tgdonnx.Phi(PHI),
        options_for(),
        results=tgdonnx.Results(keep=False),
    )
    assert report.verify.ok
    assert listing(tmp_path / "tuned") == ["tuned.onnx", "tuned.onnx.data"]


def test_what_is_not_of_the_artifacts_survives_a_call_that_replaces_them(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "model.onnx")
    kept, page = tmp_path / "kept", tmp_path / "kept" / "report.html"
    for overwrite in (False, True):
        tgdonnx.finetune(
            vendor,
            data_for(models.dncnn(0)),
            tmp_path / "tuned.onnx",
            tgdonnx.Phi(PHI),
            options_for(),
            results=tgdonnx.Results(artifacts=kept, overwrite=overwrite),
        )
        tgdonnx.report(kept, page, overwrite=overwrite)
        (kept / "notes" / str(overwrite)).mkdir(parents=True)
    assert sorted(path.name for path in (kept / "notes").iterdir()) == ["False", "True"]
    assert page.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "model.onnx", "tuned.onnx"]
