"""What a run leaves besides checkpoints: log.jsonl, log.csv, run.json, event files."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import struct
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.finetuning.runs import HELD_OUT, OPTIONS, data, log_of
from tests.support import models
from tests.support.checkpoints import BEST, CHECKPOINT
from tests.support.trainer import make_artifacts
from tests.support.tuning import in_objects
from tgdonnx.engines import DEFAULT_ENGINE, ENGINES
from tgdonnx.errors import OutputError, RuntimeMissingError
from tgdonnx.finetuning import RunData, TrainReport, train

RETAINED = {"x": HELD_OUT["x"]}


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return make_artifacts(models.dncnn(0), tmp_path, tgdonnx.Phi(0.3))


def run(directory: Path, epochs: int = 2, resume: bool = False, **more: Any) -> TrainReport:
    options = replace(OPTIONS, epochs=epochs, validate_every=2, metrics=("rmse", "psnr"))
    fed = RunData(data(), validation=HELD_OUT, retain=RETAINED)
    return train(directory, fed, options, resume=resume, **in_objects(more))


def test_the_log_tells_of_steps_epochs_validations_and_the_end(artifacts: Path) -> None:
    report = run(artifacts)
    lines = log_of(artifacts)
    told = [(line["event"], line.get("epoch"), line["step"]) for line in lines]
    assert told == [
        ("epoch", 0, 0),
        ("step", 1, 1),
        ("step", 1, 2),
        ("validation", 1, 2),
        ("step", 1, 3),
        ("epoch", 1, 3),
        ("step", 2, 4),
        ("validation", 2, 4),
        ("step", 2, 5),
        ("step", 2, 6),
        ("epoch", 2, 6),
        ("stop", None, 6),
    ]
    for line in (line for line in lines if line["event"] == "step"):
        assert set(line) == {"event", "epoch", "step", "loss", "learning_rate", "seconds", "wait"}
        assert 0 <= line["wait"] <= line["seconds"]
    epochs = [line for line in lines if line["event"] in ("epoch", "validation")]
    assert [{k: v for k, v in line.items() if k != "event"} for line in epochs] == [asdict(e) for e in report.epochs]
    assert set(epochs[1]["metrics"]) == set(epochs[1]["retain"]) == {"rmse", "psnr"}
    assert (epochs[2]["validation"], epochs[2]["metrics"], epochs[2]["retain"]) == (None, {}, {})
    assert {key: lines[-1][key] for key in ("rule", "reason")} == {"rule": "length", "reason": "all 6 steps are done"}


def test_the_table_has_a_row_per_record_and_a_column_per_metric(artifacts: Path) -> None:
    report = run(artifacts)
    with (artifacts / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [epoch.step for epoch in report.epochs]
    for row, epoch in zip(rows, report.epochs):
        expected: dict[str, Any] = {"loss": epoch.loss, "validation": epoch.validation}
        expected.update({f"validation {name}": epoch.metrics.get(name) for name in ("rmse", "psnr")})
        expected.update({f"retain {name}": epoch.retain.get(name) for name in ("rmse", "psnr")})
        for name, value in expected.items():
            assert row[name] == ("" if value is None else str(value)), name


def test_images_per_second_and_waiting_are_of_the_time_of_the_steps(artifacts: Path) -> None:
    report = run(artifacts)
    steps = [line for line in log_of(artifacts) if line["event"] == "step"]
    images = {1: 4, 2: 4, 3: 2, 4: 4, 5: 4, 6: 2}
    for before, epoch in zip(report.epochs, report.epochs[1:]):
        inside = [line for line in steps if before.step < line["step"] <= epoch.step]
        seconds = sum(line["seconds"] for line in inside)
        assert epoch.images_per_second == pytest.approx(sum(images[line["step"]] for line in inside) / seconds)
        assert epoch.wait == pytest.approx(sum(line["wait"] for line in inside) / seconds)
        assert epoch.seconds >= seconds


def test_the_record_says_what_the_run_is_before_its_first_step(artifacts: Path) -> None:
    class AtFirstStep(Exception):  # noqa: N818
        pass

    def stop(_: Any) -> None:
        raise AtFirstStep

    with pytest.raises(AtFirstStep):
        run(artifacts, on_progress=stop)
    record = json.loads((artifacts / "run.json").read_text())
    options = replace(OPTIONS, epochs=2, validate_every=2, metrics=("rmse", "psnr"))
    assert record["options"] == json.loads(json.dumps(asdict(options)))
    assert record["metrics"] == ["rmse", "psnr"]
    assert record["data_range"] == pytest.approx(float(HELD_OUT["target"].max() - HELD_OUT["target"].min()))
    assert record["data"]["samples"] == 10
    assert record["validation"]["samples"] == record["retain"]["samples"] == 5
    assert record["data"]["source"] is None
    assert (record["retention"]["guarded"], record["retention"]["labelled"]) == ("rmse", False)
    vendor = (artifacts.parent / "model.onnx").read_bytes()
    assert record["artifacts"]["base_sha256"] == hashlib.sha256(vendor).hexdigest()
    for name in (*ENGINES[DEFAULT_ENGINE].models, "masked.onnx"):
        assert record["artifacts"]["sha256"][name] == hashlib.sha256((artifacts / name).read_bytes()).hexdigest()
    assert record["versions"]["tgdonnx"]
    assert record["resumed"] == []


def test_the_record_of_a_resumed_run_keeps_its_start_and_says_where_it_went_on(artifacts: Path) -> None:
    run(artifacts, 1)
    path = artifacts / "run.json"
    started = {**json.loads(path.read_text()), "started": "2001-02-03T04:05:06+00:00"}
    path.write_text(json.dumps(started))
    run(artifacts, 2, resume=True)
    record = json.loads(path.read_text())
    assert record["started"] == "2001-02-03T04:05:06+00:00"
    assert [entry["step"] for entry in record["resumed"]] == [3]
    assert record["options"]["epochs"] == 2


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads the event files of a directory: records of a length, a checksum, an Event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_gets_what_the_log_gets(artifacts: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    run(artifacts, 1, tensorboard=tmp_path / "board")
    report = run(artifacts, 2, tensorboard=tmp_path / "board", resume=True)
    found = scalars(tmp_path / "board")
    assert found["train/loss"] == [(i + 1, pytest.approx(loss)) for i, loss in enumerate(report.loss)]
    for tag, values in {
        "validation/loss": [(e.step, e.validation) for e in report.epochs if e.validation is not None],
        "validation/psnr": [(e.step, e.metrics["psnr"]) for e in report.epochs if e.metrics],
        "retain/rmse": [(e.step, e.retain["rmse"]) for e in report.epochs if e.retain],
    }.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in values], tag
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in values], rel=1e-6), tag
    assert {step for step, _ in found["train/learning_rate"]} == set(range(1, 7))


def test_without_the_library_tensorboard_is_refused_before_anything_is_written(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    before = {path.name: path.read_bytes() for path in artifacts.iterdir()}
    with pytest.raises(RuntimeMissingError, match=r"pip install 'tgdonnx\[tensorboard\]'"):
        run(artifacts, tensorboard=tmp_path / "board")
    assert {path.name: path.read_bytes() for path in artifacts.iterdir()} == before


def test_what_a_killed_process_left_is_deleted_and_nothing_else(artifacts: Path) -> None:
    for name in (f".{CHECKPOINT}.0123abcd.tmp", f".{BEST}.0123abcd.tmp", ".run.json.0123abcd.tmp"):
        (artifacts / name).write_bytes(b"half")
    (artifacts / "notes.tmp").write_bytes(b"mine")
    run(artifacts)
    assert [path.name for path in artifacts.glob("*.tmp")] == ["notes.tmp"]
    assert not list(artifacts.glob(".*.tmp"))


def test_a_copied_log_of_another_run_is_not_continued(artifacts: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(artifacts, tmp_path / "other"))
    run(artifacts)
    shutil.copy(artifacts / "log.jsonl", other / "log.jsonl")
    assert len(run(other, 1).loss) == 3
    assert [line["step"] for line in log_of(other) if line["event"] == "step"] == [1, 2, 3]


def test_a_log_that_cannot_be_written_is_told(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def fails(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if (self.name, mode) == ("log.jsonl", "ab"):
            raise OSError(28, "No space left on device")
        return opened(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", fails)
    with pytest.raises(OutputError, match=r"log\.jsonl cannot be written: No space left on device"):
        run(artifacts)


def test_bytes_that_are_no_text_in_the_log_are_dropped(artifacts: Path) -> None:
    report = run(artifacts, 1)
    with (artifacts / "log.jsonl").open("ab") as file:
        file.write(b"\xff\x00\xfe{\n")
    assert run(artifacts, 2, resume=True).loss[:3] == report.loss
    assert [line["step"] for line in log_of(artifacts) if line["event"] == "step"] == [1, 2, 3, 4, 5, 6]
