"""A vendor's model that is in memory: the file that it would be is written beside what is proved against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import onnx
import onnx_ir as ir
import pytest

import tgdonnx
from tests.oracles.independent import assert_only_changed, expected_masks
from tests.support import models
from tests.support.tuning import PHI, data_for, listing, options_for
from tgdonnx.errors import OutputError

WAYS: dict[str, Callable[[onnx.ModelProto], Any]] = {
    "bytes": lambda model: model.SerializeToString(),
    "onnx": lambda model: model,
    "onnx_ir": ir.from_proto,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_in_memory_is_tuned_and_proved_against_the_file_that_is_written(way: str, tmp_path: Path) -> None:
    model = models.chain(1)
    given, tuned = WAYS[way](model), tmp_path / "tuned.onnx"
    report = tgdonnx.finetune(given, data_for(model), tuned, tgdonnx.Phi(PHI), options_for())
    assert report.vendor == str(tmp_path / "tuned.vendor.onnx")
    vendor = Path(report.vendor).read_bytes()
    assert_only_changed(model, vendor, tuned.read_bytes(), expected_masks(model, PHI, "paper"))
    assert report.verify.ok
    assert report.verify.changed
    for base in (report.vendor, given):
        for after in (tuned, tuned.read_bytes()):
            found = tgdonnx.verify(base, after)
            assert (found.ok, found.changed) == (True, report.verify.changed)
    assert listing(tmp_path) == ["tuned.onnx", "tuned.run", "tuned.vendor.onnx"]


def test_of_a_file_none_is_written_and_its_bytes_are_proved_against_it(tmp_path: Path) -> None:
    model = models.chain(1)
    base = models.save(model, tmp_path / "model.onnx")
    report = tgdonnx.finetune(base, data_for(model), tmp_path / "tuned.onnx", tgdonnx.Phi(PHI), options_for())
    assert report.vendor is None
    assert tgdonnx.verify(base.read_bytes(), tmp_path / "tuned.onnx").ok


def test_another_file_in_its_place_is_not_overwritten_and_the_same_is_no_hindrance(tmp_path: Path) -> None:
    model = models.chain(1)
    (tmp_path / "tuned.vendor.onnx").write_bytes(b"somebody's")
    call = (model, data_for(model), tmp_path / "tuned.onnx", tgdonnx.Phi(PHI), options_for())
    with pytest.raises(OutputError, match=r"tuned\.vendor\.onnx exists"):
        tgdonnx.finetune(*call)
    assert listing(tmp_path) == ["tuned.vendor.onnx"]
    (tmp_path / "tuned.vendor.onnx").write_bytes(model.SerializeToString())
    assert tgdonnx.finetune(*call).verify.ok


def test_the_file_that_bytes_came_from_is_not_overwritten(tmp_path: Path) -> None:
    model = models.chain(1)
    base = models.save(model, tmp_path / "model.onnx")
    for write in (
        lambda: tgdonnx.finetune(
            model, data_for(model), base, tgdonnx.Phi(PHI), results=tgdonnx.Results(overwrite=True)
        ),
        lambda: tgdonnx.mask(base.read_bytes(), base, tgdonnx.Phi(PHI), overwrite=True),
    ):
        with pytest.raises(OutputError, match=r"is the vendor's model, which is never overwritten"):
            write()
    assert base.read_bytes() == model.SerializeToString()


def test_looking_at_a_model_in_memory_says_the_same_as_of_its_file(tmp_path: Path) -> None:
    model = models.chain(1)
    base = models.save(model, tmp_path / "model.onnx")
    data = data_for(model)
    for look in (
        lambda given: tgdonnx.check(given),
        lambda given: tgdonnx.score(given).layers[1].kse.tolist(),
        lambda given: tgdonnx.trace(given).layers,
        lambda given: repr(tgdonnx.inspect(given).layers),
        lambda given: tgdonnx.sweep(given, data, phis=(PHI,)).points,
        lambda given: tgdonnx.examine(given, data).problems,
    ):
        assert look(model) == look(base)
    assert tgdonnx.inspect(model).model == "the model in memory"
    assert tgdonnx.examine(model, data).call.startswith("tgdonnx.finetune('MODEL', data='DATA'")


def test_the_stages_take_it_one_by_one(tmp_path: Path) -> None:
    model = models.chain(1)
    masked, tuned = tmp_path / "masked.onnx", tmp_path / "tuned.onnx"
    tgdonnx.mask(model, masked, tgdonnx.Phi(PHI))
    tgdonnx.build(masked.read_bytes(), tmp_path / "run")
    tgdonnx.train(tmp_path / "run", data_for(model), options_for())
    tgdonnx.export(tmp_path / "run", tuned)
    assert tgdonnx.verify(model, tuned, masked.read_bytes()).ok
    tgdonnx.gate(model, tuned.read_bytes(), tmp_path / "both.onnx", input_name="g")
    assert tgdonnx.verify(model, tmp_path / "both.onnx").ok
