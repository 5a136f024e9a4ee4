"""`finetune --blend`: a number, or chosen on validation data; every round, and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest

import tgdonnx
from tests.blending.runs import data_of, record_in
from tests.cli.commands import run, run_json
from tests.support.forging import body_of, entry
from tests.support.models import dncnn, save
from tgdonnx.errors import DataError
from tgdonnx.reporting.proof import prove
from tgdonnx.selection import Filters

FILTERS = Filters({"w1": [1, 4], "w3": [2]})
OPTIONS = tgdonnx.TrainOptions(steps=12, batch=2, learning_rate=1e-2, metrics=("rmse",))


def finetuned(
    work: Path, blend: Union[float, str], *, options: tgdonnx.TrainOptions = OPTIONS, rounds: int = 1, **results: Any
) -> tgdonnx.FinetuneReport:
    model = dncnn(0)
    return tgdonnx.finetune(
        save(model, work / "model.onnx"),
        tgdonnx.RunData(data_of(model, 1), validation=data_of(model, 2), retain=data_of(model, 3)),
        work / "tuned.onnx",
        FILTERS,
        options,
        building=tgdonnx.BuildOptions(engine="onnxruntime"),
        rounds=rounds,
        results=tgdonnx.Results(artifacts=work / "run", blend=blend, **results),  # type: ignore[arg-type]
    )


def test_a_number_is_what_export_writes_at_it(tmp_path: Path) -> None:
    report = finetuned(tmp_path, 0.4)
    tgdonnx.export(tmp_path / "run", tmp_path / "again.onnx", blend=0.4)
    assert (tmp_path / "tuned.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert (report.export.blend, report.blend, report.verify.ok) == (0.4, None, True)
    assert record_in(tmp_path / "tuned.onnx")["blend"] == 0.4


def test_at_0_it_is_the_vendors_file_and_a_record(tmp_path: Path) -> None:
    report = finetuned(tmp_path, 0)
    assert (tmp_path / "tuned.onnx").read_bytes().startswith((tmp_path / "model.onnx").read_bytes())
    assert report.verify.changed == ()


def test_auto_takes_the_blend_that_the_command_blend_chooses(tmp_path: Path) -> None:
    report = finetuned(tmp_path, "auto")
    assert report.blend is not None
    assert report.blend == tgdonnx.blend(tmp_path / "run", data_of(dncnn(0), 2), data_of(dncnn(0), 3))
    assert 0 < report.blend.chosen == report.export.blend
    tgdonnx.export(tmp_path / "run", tmp_path / "again.onnx", blend=report.blend.chosen)
    assert (tmp_path / "tuned.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["blend"]["chosen"] == report.blend.chosen


def test_with_auto_a_limit_is_for_the_choice_and_stops_no_run(tmp_path: Path) -> None:
    free = tmp_path / "free"
    free.mkdir()
    without = finetuned(free, "auto")
    assert without.blend is not None
    values = [point.retain["rmse"] for point in without.blend.curve]
    assert values[0] is not None
    assert min(values[1:]) < values[0], "both tasks are alike here, so the old one gets better first"  # type: ignore[type-var]
    limited = tgdonnx.TrainOptions(steps=12, batch=2, learning_rate=1e-2, metrics=("rmse",), retain_limit=0.0)
    report = finetuned(tmp_path, "auto", options=limited)
    assert report.blend is not None
    assert report.train.stop.rule == "length"
    assert report.train.loss == without.train.loss
    assert report.blend.at_chosen.retain["rmse"] <= values[0]  # type: ignore[operator]
    assert "within 0 of blend 0" in report.blend.reason


def test_every_round_is_blended_with_what_it_started_from(tmp_path: Path) -> None:
    report = finetuned(tmp_path, 0.5, rounds=2)
    assert [record_in(tmp_path / "tuned.onnx", number)["blend"] for number in (1, 2)] == [0.5, 0.5]
    assert report.verify.ok
    assert [each.export.blend for each in report.earlier] == [0.5]
    assert (tmp_path / "run" / "round-2").is_dir()


@pytest.mark.parametrize("blend", [-0.5, 1.01, float("nan")])
def test_a_blend_out_of_range_is_refused(blend: float) -> None:
    with pytest.raises(DataError, match="expected a blend from 0"):
        tgdonnx.Results(blend=blend)


def test_auto_needs_validation_data_and_a_limit_what_it_is_about(tmp_path: Path) -> None:
    model = save(dncnn(0), tmp_path / "model.onnx")
    results = tgdonnx.Results(blend="auto")
    data = data_of(dncnn(0), 1)
    with pytest.raises(DataError, match="blend auto chooses on validation data, and there is none"):
        tgdonnx.finetune(model, data, tmp_path / "t.onnx", FILTERS, OPTIONS, results=results)
    limited = tgdonnx.TrainOptions(steps=2, retain_limit=0.1)
    with pytest.raises(DataError, match="a limit of retention needs data of the vendor's own task"):
        tgdonnx.finetune(
            model, tgdonnx.RunData(data, validation=data), tmp_path / "t.onnx", FILTERS, limited, results=results
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


# The page.


def test_the_page_shows_the_curve_and_what_was_verified_is_the_blended_file(tmp_path: Path) -> None:
    report = finetuned(tmp_path, "auto", report=tmp_path / "page.html")
    assert report.report is not None
    assert report.report.verified
    assert report.blend is not None
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'id="blend"' in page
    assert f"Chosen was {report.blend.chosen:g}: {report.blend.reason}." in page
    assert page.count("against the blend: at 0") == 3, "loss and RMSE of the new task, RMSE of the old"
    if report.blend.chosen != 1:
        assert f"gives at blend {report.blend.chosen:g}; figures that name the exported step" in page


def test_a_run_without_a_curve_has_a_page_without_one(tmp_path: Path) -> None:
    finetuned(tmp_path, 0.5, report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert 'id="blend"' not in page
    assert "gives at blend 0.5; figures" in page


def test_a_blend_that_was_changed_in_the_record_is_not_what_the_checkpoint_gives(tmp_path: Path) -> None:
    finetuned(tmp_path, 0.5)
    tuned = tmp_path / "tuned.onnx"
    record, data = record_in(tuned), tuned.read_bytes()
    for blend, expected in ((0.5, True), (0.7, False)):
        tuned.write_bytes(body_of(data, record) + entry(1, {**record, "blend": blend}))
        (tmp_path / f"work{blend}").mkdir()
        proof = prove(tmp_path / "run", tmp_path / f"work{blend}", model=tmp_path / "model.onnx", tuned=tuned)
        assert proof.verify.ok
        assert (proof.blend, proof.as_exported) == (blend, expected)


# The command line.


def command(work: Path, *more: str) -> list[str]:
    model = dncnn(0)
    save(model, work / "model.onnx")
    for name, seed in (("new", 1), ("held", 2), ("old", 3)):
        np.savez(work / f"{name}.npz", **data_of(model, seed))
    (work / "filters.json").write_text(json.dumps(FILTERS.filters))
    given = ["finetune", str(work / "model.onnx"), "--data", str(work / "new.npz"), "-o", str(work / "t.onnx")]
    return [*given, "--filters", str(work / "filters.json"), "--steps", "12", "--lr", "0.01", "--batch", "2", *more]


def test_the_command_chooses_prints_the_curve_and_reports(tmp_path: Path) -> None:
    more = ["--validation", tmp_path / "held.npz", "--retain", tmp_path / "old.npz", "--metric", "rmse"]
    told = run_json(*command(tmp_path, *map(str, more), "--blend", "auto"))
    assert told["export"]["blend"] == told["blend"]["chosen"]
    assert len(told["blend"]["curve"]) == 11
    shown = run(*command(tmp_path, *map(str, more), "--blend", "auto", "--overwrite")).stdout
    assert f"chosen: {told['blend']['chosen']:g} (the smallest whose validation loss" in shown
    assert run_json("verify", tmp_path / "model.onnx", tmp_path / "t.onnx")["ok"]


@pytest.mark.parametrize("text", ["2", "-0.1", "half", "nan", "AUTO"])
def test_the_command_refuses_other_words(text: str, tmp_path: Path) -> None:
    result = run(*command(tmp_path, "--blend", text))
    assert result.exit_code == 2
    assert "expected a number from 0 to 1, or auto; got" in result.stderr
    assert not (tmp_path / "t.onnx").exists()
