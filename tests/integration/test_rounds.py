"""Rounds (TGD^n): a tuned model is masked and trained again; its records add up, prove it, and protect earlier rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import Mask, expected_masks
from tests.support import models
from tests.support.tuning import data_for, options_for
from tgdonnx.errors import MaskedModelError, SelectionError
from tgdonnx.selection import Mode


def tune(base: Path, output: Path, strategy: tgdonnx.Strategy, *, mode: Mode = "paper", protect: bool = False) -> Path:
    """One round."""
    work = output.with_suffix("")
    work.mkdir()
    tgdonnx.mask(base, work / "masked.onnx", strategy, tgdonnx.MaskOptions(mode=mode, protect=protect))
    tgdonnx.build(work / "masked.onnx", work / "artifacts", tgdonnx.BuildOptions(l2=0.01))
    tgdonnx.train(work / "artifacts", data_for(models.dncnn(0)), options_for())
    tgdonnx.export(work / "artifacts", output)
    return output


def changed(before: Path, after: Path) -> dict[str, Mask]:
    """The elements of stored tensors that differ, by name."""
    old, new = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer} for path in (before, after)
    )
    return {name: old[name] != new[name] for name in old if (old[name] != new[name]).any()}


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")


FIRST, SECOND = tgdonnx.Filters({"w1": [1, 4], "w3": [2]}), tgdonnx.Filters({"w1": [4, 5], "w2": [0, 3]})


def test_two_rounds_are_proved_against_the_vendors_file_by_the_records_of_both(vendor: Path, tmp_path: Path) -> None:
    first = tune(vendor, tmp_path / "first.onnx", FIRST)
    second = tune(first, tmp_path / "second.onnx", SECOND)
    keys = [entry.key for entry in onnx.load(second).metadata_props]
    assert keys == ["tgdonnx.provenance.1", "tgdonnx.provenance.2"]
    report = tgdonnx.verify(vendor, second)
    assert report.ok
    assert report.evidence == "the records of 2 rounds in the tuned file"
    rows = {entry.name: entry.filters for entry in report.changed}
    assert (rows["w1"], rows["w2"], rows["w3"]) == ((1, 4, 5), (0, 3), (2,))
    elements = {
        name: set(np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)))
        for name, mask in changed(vendor, second).items()
    }
    assert {name: set(filters) for name, filters in rows.items()} == elements
    assert tgdonnx.verify(first, second).ok
    assert tgdonnx.verify(vendor, first).ok


def test_a_change_that_neither_round_allows_is_found(vendor: Path, tmp_path: Path) -> None:
    second = tune(tune(vendor, tmp_path / "first.onnx", FIRST), tmp_path / "second.onnx", SECOND)
    model = onnx.load(second)
    tensor = next(t for t in model.graph.initializer if t.name == "w1")
    values = numpy_helper.to_array(tensor).copy()
    values[2, 0, 0, 0] += 1
    tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    data = second.read_bytes()
    assert len(model.SerializeToString()) == len(data)
    second.write_bytes(model.SerializeToString())
    report = tgdonnx.verify(vendor, second)
    assert not report.ok
    assert report.violations == ("frozen values of filter 2 of 'w1' changed",)


def test_a_second_record_does_not_excuse_a_missing_or_foreign_first_one(vendor: Path, tmp_path: Path) -> None:
    second = tune(tune(vendor, tmp_path / "first.onnx", FIRST), tmp_path / "second.onnx", SECOND)
    model = onnx.load(second)
    records = {entry.key: entry.value for entry in model.metadata_props}
    for kept in (["tgdonnx.provenance.2"], ["tgdonnx.provenance.1"]):
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: records[key] for key in kept})
        second.write_bytes(model.SerializeToString())
        assert not tgdonnx.verify(vendor, second).ok
    del model.metadata_props[:]
    swapped = {
        "tgdonnx.provenance.1": records["tgdonnx.provenance.2"],
        "tgdonnx.provenance.2": records["tgdonnx.provenance.1"],
    }
    onnx.helper.set_model_props(model, swapped)
    second.write_bytes(model.SerializeToString())
    assert not tgdonnx.verify(vendor, second).ok


@pytest.mark.parametrize("mode", ["paper", "readers"])
def test_protect_leaves_what_the_first_round_trained_to_the_bit(mode: Mode, vendor: Path, tmp_path: Path) -> None:
    first = tune(vendor, tmp_path / "first.onnx", tgdonnx.Phi(0.3), mode=mode)
    trained = expected_masks(models.dncnn(0), 0.3, mode)
    second = tune(first, tmp_path / "second.onnx", tgdonnx.AllLayers(), mode=mode, protect=True)
    moved = changed(first, second)
    assert moved
    for name, mask in moved.items():
        earlier = np.broadcast_to(trained.get(name, np.zeros(mask.shape, bool)), mask.shape)
        assert not (mask & earlier).any()
    # All the rest trains: nothing is kept that need not be.
    for name in ("w1", "w2", "w3", "w4"):
        assert (moved[name] | trained.get(name, np.zeros((1, 1, 1, 1), bool)))[..., 0, 0].all()
    report = tgdonnx.verify(vendor, second)
    assert report.ok


def test_without_protect_the_second_round_trains_the_first_ones_filters_again(vendor: Path, tmp_path: Path) -> None:
    first = tune(vendor, tmp_path / "first.onnx", FIRST)
    second = tune(first, tmp_path / "second.onnx", tgdonnx.AllLayers())
    assert changed(first, second)["w1"][[1, 4]].any()


def test_the_report_says_what_is_protected_and_the_selection_that_it_is(vendor: Path, tmp_path: Path) -> None:
    first = tune(vendor, tmp_path / "first.onnx", FIRST)
    report = tgdonnx.mask(
        first, tmp_path / "masked.onnx", tgdonnx.AllLayers(), tgdonnx.MaskOptions(mode="readers", protect=True)
    )
    assert (report.selection["round"], report.selection["protect"]) == (2, True)
    w1 = next(entry for entry in report.params if entry.name == "w1")
    assert w1.retrain == (0, 2, 3, 5, 6, 7)
    assert w1.maps == ()
    assert w1.note == "2 filters keep what an earlier round trained"
    w2 = next(entry for entry in report.params if entry.name == "w2")
    assert w2.maps == tuple(range(8))


def test_protecting_everything_that_is_selected_is_refused(vendor: Path, tmp_path: Path) -> None:
    first = tune(vendor, tmp_path / "first.onnx", FIRST)
    with pytest.raises(SelectionError, match="trained by an earlier round; select more"):
        tgdonnx.mask(first, tmp_path / "masked.onnx", tgdonnx.Filters({"w1": [1]}), tgdonnx.MaskOptions(protect=True))
    assert not (tmp_path / "masked.onnx").exists()


def test_a_damaged_record_cannot_be_protected_and_is_refused(vendor: Path, tmp_path: Path) -> None:
    model = onnx.load(vendor)
    model.metadata_props.add(key="tgdonnx.provenance.1", value="{}")
    models.save(model, vendor)
    with pytest.raises(MaskedModelError, match=r"tgdonnx\.provenance\.1.*cannot be protected"):
        tgdonnx.mask(vendor, tmp_path / "masked.onnx", FIRST, tgdonnx.MaskOptions(protect=True))
