"""A call that was stopped goes on with the same call, to the model that it would have come to; nothing else is gone on with."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for, in_objects, listing, options_for
from tgdonnx.errors import ArtifactsError, KeptError, OutputError, TgdonnxError


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "model.onnx")


def finetune(vendor: Path, output: Path, **more: Any) -> tgdonnx.FinetuneReport:
    given = {"strategy": tgdonnx.Phi(PHI), "training": options_for(), "data": data_for(models.dncnn(0)), **more}
    return tgdonnx.finetune(vendor, output=output, **in_objects(given))


class StopsAt:
    """Fails at a step, counted over all rounds."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, _: tgdonnx.Progress) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("the power is gone")


@pytest.mark.parametrize("artifacts", [False, True], ids=["beside", "named"])
@pytest.mark.parametrize(("rounds", "step"), [(1, 3), (2, 3), (2, 7)])
def test_a_call_that_was_cut_off_goes_on_to_the_same_bytes(
    rounds: int, step: int, artifacts: bool, vendor: Path, tmp_path: Path
) -> None:
    often = replace(options_for(), checkpoint_every=0)
    asked: dict[str, Any] = {"strategy": tgdonnx.Percentile(40), "rounds": rounds, "training": often}
    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    expected = finetune(vendor, whole, **asked)
    where = tmp_path / "kept" if artifacts else tmp_path / "cut.run"
    asked["artifacts"] = where if artifacts else None
    with pytest.raises(KeptError, match="or with the same call and `resume=True`"):
        finetune(vendor, cut, on_progress=StopsAt(step), **asked)
    told: list[tgdonnx.Progress] = []
    report = finetune(vendor, cut, resume=True, on_progress=told.append, **asked)
    assert cut.read_bytes() == whole.read_bytes()
    assert report.train.loss == expected.train.loss
    assert [each.train.loss for each in report.earlier] == [each.train.loss for each in expected.earlier]
    assert len(told) == sum(each.train.steps for each in (*expected.earlier, expected)) - (step - 1)
    assert report.build.directory == str(where / f"round-{rounds}" if rounds > 1 else where)


def test_what_is_asked_for_besides_is_named_with_the_call_that_writes_it(vendor: Path, tmp_path: Path) -> None:
    asked = {"card": tmp_path / "card.json", "report": tmp_path / "page.html", "apply": tmp_path / "full.npy"}
    np.save(tmp_path / "full.npy", data_for(models.dncnn(0))["x"][:1])
    written = [tmp_path / "tuned.applied.npy", asked["report"], asked["card"]]
    often = replace(options_for(), checkpoint_every=0)
    told = f"or with the same call and `resume=True`, which also writes {', '.join(map(str, written))}"
    with pytest.raises(KeptError) as raised:
        finetune(vendor, tmp_path / "tuned.onnx", on_progress=StopsAt(3), training=often, **asked)
    assert str(raised.value).endswith(told)
    finetune(vendor, tmp_path / "tuned.onnx", training=often, resume=True, **asked)
    assert all(path.exists() for path in (tmp_path / "tuned.onnx", *written))


def broken(*_: object, **__: object) -> None:
    raise IndexError("list index out of range")


@pytest.mark.parametrize(
    ("module", "stage", "more", "left"),
    [
        ("rounds", "verify_files", "", ("tuned.applied.npy", "page.html")),
        ("ending", "require_same_model", ", overwrite=True", ("tuned.applied.npy", "page.html")),
        ("ending", "apply", ", overwrite=True", ("page.html",)),
    ],
)
def test_after_training_the_call_that_writes_everything_is_named_too(
    module: str, stage: str, more: str, left: tuple[str, ...], vendor: Path, tmp_path: Path
) -> None:
    asked = {"report": tmp_path / "page.html", "apply": tmp_path / "full.npy"}
    np.save(tmp_path / "full.npy", data_for(models.dncnn(0))["x"][:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module(f"tgdonnx.pipeline.{module}"), stage, broken)
        with pytest.raises(KeptError) as raised:
            finetune(vendor, tmp_path / "tuned.onnx", **asked)
    written = ", ".join(str(tmp_path / name) for name in left)
    assert str(raised.value).endswith(f"or with the same call and `resume=True{more}`, which also writes {written}")
    finetune(vendor, tmp_path / "tuned.onnx", resume=True, overwrite=bool(more), **asked)
    assert all((tmp_path / name).exists() for name in ("tuned.onnx", "tuned.applied.npy", "page.html"))


def test_a_finished_run_is_gone_on_with_and_what_is_reported_of_its_build_is_as_before(
    vendor: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tuned.onnx"
    first = finetune(vendor, output, mode="readers")
    again = finetune(vendor, output, mode="readers", resume=True, overwrite=True)
    assert again.build == first.build
    assert again.train.loss == first.train.loss
    longer = replace(options_for(), epochs=3)
    more = finetune(vendor, output, mode="readers", training=longer, resume=True, overwrite=True)
    assert more.train.loss[: len(first.train.loss)] == first.train.loss
    assert more.train.steps > first.train.steps


def test_of_a_finished_run_it_is_said_that_it_is_where_its_model_is_and_how_to_go_on(
    vendor: Path, tmp_path: Path
) -> None:
    output = tmp_path / "tuned.onnx"
    finetune(vendor, output)
    before = output.read_bytes()
    with pytest.raises(OutputError) as raised:
        finetune(vendor, output, resume=True)
    said = str(raised.value)
    assert said == (
        f"the run in {tmp_path / 'tuned.run'} is finished (all 4 steps are done), and its model is there: {output}; to go on, "
        "ask for more `epochs` or `steps` than that and pass `overwrite=True`, which replaces the model; to start anew, choose "
        "another output"
    )
    assert output.read_bytes() == before
    os.utime(output, (1, 1))  # of an earlier run, then
    with pytest.raises(OutputError, match="exists"):
        finetune(vendor, output, resume=True)
    scheduled = replace(options_for(), schedule="cosine")
    finetune(vendor, tmp_path / "other.onnx", training=scheduled)
    with pytest.raises(OutputError, match=r"its learning rate ends with it \(schedule cosine\)"):
        finetune(vendor, tmp_path / "other.onnx", training=scheduled, resume=True)


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "selection": ({"strategy": tgdonnx.LastLayers(1)}, "is of another selection: .*'phi'.*, now .*'last'"),
    "loss": ({"building": tgdonnx.BuildOptions(loss="l1")}, "was built with loss mse, not l1"),
    "form": ({"building": tgdonnx.BuildOptions(form="masked")}, "was built with form thin, not masked"),
    "learning rate": ({"training": tgdonnx.TrainOptions(2, 3, 0.5)}, "was started with learning_rate"),
    "data": (
        {"data": {name: 2 * array for name, array in data_for(models.dncnn(0)).items()}},
        "was started with other data",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_run_of_another_call_is_not_gone_on_with_and_stays(case: str, vendor: Path, tmp_path: Path) -> None:
    finetune(vendor, tmp_path / "tuned.onnx")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "tuned.run").iterdir() if path.name != "run.json"}
    changed, problem = OTHERS[case]
    with pytest.raises(TgdonnxError, match=problem):
        finetune(vendor, tmp_path / "tuned.onnx", resume=True, overwrite=True, keep=False, **changed)
    now = {path.name: path.read_bytes() for path in (tmp_path / "tuned.run").iterdir() if path.name != "run.json"}
    assert {name: now[name] for name in kept} == kept
    assert "tuned.onnx" in listing(tmp_path)


def test_a_run_of_another_model_is_not_gone_on_with(vendor: Path, tmp_path: Path) -> None:
    finetune(vendor, tmp_path / "tuned.onnx")
    other = models.save(models.dncnn(1), tmp_path / "other.onnx")
    with pytest.raises(ArtifactsError, match="is of another model"):
        finetune(other, tmp_path / "tuned.onnx", resume=True, overwrite=True)


def test_without_a_run_there_is_nothing_to_resume(vendor: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactsError, match=r"there is no run to resume in .*tuned\.run"):
        finetune(vendor, tmp_path / "tuned.onnx", resume=True)
    assert listing(tmp_path) == ["model.onnx"]
