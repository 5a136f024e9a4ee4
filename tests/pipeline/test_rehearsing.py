"""What is said before of a call is what the call does, and nothing is on disk for it."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.support import models
from tests.support.tuning import PHI, data_for, in_objects, listing, options_for
from tgdonnx.errors import DataError, OutputError


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "model.onnx")


def arguments(vendor: Path, **more: Any) -> dict[str, Any]:
    data = data_for(models.dncnn(0))
    held_out = {name: array[:4] for name, array in data.items()}
    given = {
        "strategy": tgdonnx.Phi(PHI),
        "training": options_for(),
        "data": tgdonnx.RunData(data, held_out),
        "output": vendor.parent / "tuned.onnx",
        **more,
    }
    return in_objects(given)


def test_selection_counts_and_steps_are_those_of_the_call_and_nothing_is_written(vendor: Path, scratch: Path) -> None:
    said = tgdonnx.rehearse(vendor, **arguments(vendor))
    assert listing(vendor.parent) == ["model.onnx"]
    assert listing(scratch) == []
    done = tgdonnx.finetune(vendor, **arguments(vendor))
    assert said.mask == done.mask
    assert said.build.trained == done.build.trained
    assert (said.cost.steps, said.cost.loss) == (done.train.steps, pytest.approx(done.train.loss[0], rel=1e-6))
    count = len(data_for(models.dncnn(0))["x"])
    assert (said.cost.samples, said.cost.held_out, said.cost.retained) == (count, 4, 0)
    assert {found.name: found.cases for found in said.data} == {"x": 1, "target": 1}
    assert said.resumed is None


def test_the_time_before_the_first_step_is_told_with_the_drop_test_in_it(
    vendor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tgdonnx.pipeline.choosing.sweep

    def sweep(*arguments: Any, **options: Any) -> tgdonnx.SweepReport:
        time.sleep(0.2)
        return slow(*arguments, **options)

    monkeypatch.setattr(tgdonnx.pipeline.choosing, "sweep", sweep)
    begin = time.monotonic()
    said = tgdonnx.rehearse(vendor, **arguments(vendor, strategy=None))
    assert 0.2 <= said.before < time.monotonic() - begin


def test_every_file_of_the_call_is_named_before(vendor: Path) -> None:
    folder = vendor.parent
    more: dict[str, Any] = {"report": folder / "page.html", "apply": data_for(models.dncnn(0))["x"][:1]}
    said = tgdonnx.rehearse(vendor, **arguments(vendor, **more))
    assert not any(each.exists for each in said.files)
    tgdonnx.finetune(vendor, **arguments(vendor, **more))
    assert sorted(Path(each.path).name for each in said.files) == sorted({*listing(folder)} - {"model.onnx"})
    again = tgdonnx.rehearse(vendor, **arguments(vendor, overwrite=True, **more))
    assert all(each.exists for each in again.files)
    with pytest.raises(OutputError, match="would be deleted with no other run in their place"):
        tgdonnx.rehearse(vendor, **arguments(vendor, overwrite=True, keep=False, **more))
    shutil.rmtree(folder / "tuned.run")
    dropped = tgdonnx.rehearse(vendor, **arguments(vendor, overwrite=True, keep=False, **more))
    assert [each.what for each in dropped.files][-1].endswith("deleted at the end")


def test_what_the_call_refuses_is_refused_before(vendor: Path) -> None:
    (vendor.parent / "tuned.onnx").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        tgdonnx.rehearse(vendor, **arguments(vendor))
    with pytest.raises(DataError, match="target"):
        tgdonnx.rehearse(vendor, **arguments(vendor, overwrite=True, data={"x": data_for(models.dncnn(0))["x"]}))
    assert (vendor.parent / "tuned.onnx").read_bytes() == b"mine"
    assert listing(vendor.parent) == ["model.onnx", "tuned.onnx"]


def test_of_a_run_that_is_gone_on_with_the_steps_are_told_and_none_is_taken(vendor: Path) -> None:
    tgdonnx.finetune(vendor, **arguments(vendor))
    before = {path.name: path.read_bytes() for path in (vendor.parent / "tuned.run").iterdir()}
    said = tgdonnx.rehearse(vendor, **arguments(vendor, resume=True, overwrite=True))
    assert said.resumed == said.cost.steps
    assert {path.name: path.read_bytes() for path in (vendor.parent / "tuned.run").iterdir()} == before
