"""The stages behind a regrown masked model: build, train, export, verify, and what the vendor's function is."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.masked_model.regrown import (
    VARIANTS,
    ByHand,
    compared,
    regrow_by_hand,
    started,
    stored_tensors,
    variant,
)
from tests.masked_model.tuned import STATISTICS, bits_differ, data_for, tune
from tests.oracles.independent import tensors_of
from tests.oracles.numpy_net import NumpyNet
from tests.support.external_models import externalise
from tests.support.models import Array, dncnn, gated, random_feeds, save
from tests.support.sessions import open_session
from tests.support.trainer import open_trainer, relative_error, true_gradients
from tgdonnx.artifacts import open_artifacts, read_manifest, vendor_outputs, vendor_targets
from tgdonnx.checking import check
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked
from tgdonnx.reporting.proof import prove


def assert_changed_within_the_masks(hand: ByHand, tuned: Path) -> dict[str, Array]:
    """Bit by bit, without anything of ours; returns where the tuned file differs from the vendor's."""
    vendor, start, new = (stored_tensors(path) for path in (hand.vendor, hand.masked, tuned))
    changed = {name: bits_differ(values, new[name]) for name, values in vendor.items()}
    for name, where in changed.items():
        may, given = hand.trains(name), hand.is_set(name)
        assert not (where & ~(may | given)).any(), name
        assert new[name][given].tobytes() == start[name][given].tobytes(), name
    back, old = (onnx.load(path, load_external_data=False) for path in (tuned, hand.vendor))
    for name, tensor in tensors_of(back).items():
        tensor.CopyFrom(tensors_of(old)[name])
    assert [entry.key for entry in back.metadata_props] == ["tgdonnx.provenance.1"]
    del back.metadata_props[:]
    assert back == old
    return {name: where for name, where in changed.items() if where.any()}


def record_of(tuned: Path) -> dict[str, Any]:
    (entry,) = onnx.load(tuned, load_external_data=False).metadata_props
    return dict(json.loads(entry.value))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("form", ["masked", "thin"])
def test_the_tuned_file_differs_within_the_masks_and_what_was_set_stays(name: str, form: str, tmp_path: Path) -> None:
    model, hand = variant(name, tmp_path)
    artifacts = tune(model, hand.masked, tmp_path / "tuned.onnx", form=form, l2=0.01, rate=0.05)
    changed = assert_changed_within_the_masks(hand, tmp_path / "tuned.onnx")
    assert changed.keys() == hand.values.keys()
    start, new = stored_tensors(hand.masked), stored_tensors(tmp_path / "tuned.onnx")
    assert any(bits_differ(start[key], new[key]).any() for key in changed), "training moved something"
    rows = {key: open_network(hand.vendor).filter_index(key) for key in changed}
    expected = {key: set(np.broadcast_to(rows[key], where.shape)[where]) for key, where in changed.items()}
    for masked in (None, hand.masked):
        report = compared(hand.vendor, tmp_path / "tuned.onnx", masked=masked)
        assert report.ok, report.violations
        assert {entry.name: set(entry.filters) for entry in report.changed} == expected
    exported = tgdonnx.export(artifacts, tmp_path / "again.onnx")
    assert {entry.name: set(entry.filters) for entry in exported.changed} == expected
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "tuned.onnx").read_bytes()


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_training_starts_from_the_start(form: str, tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    tgdonnx.build(hand.masked, tmp_path / "artifacts", tgdonnx.BuildOptions(form=form))
    data = data_for(model)
    trainer = open_trainer(tmp_path / "artifacts")
    _, found = trainer.evaluate(data["x"], data["target"])
    start = started(model, hand.values)
    assert relative_error(found, NumpyNet(start).run({"x": data["x"]})["y"]) < 2e-6
    assert relative_error(found, NumpyNet(model).run({"x": data["x"]})["y"]) > 0.1
    loss, gradients = trainer.gradients(data["x"], data["target"])
    expected_loss, expected = true_gradients(start, {"x": data["x"]}, data["target"])
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for entry in read_manifest(tmp_path / "artifacts").trained:
        if entry.name == entry.vendor_name:
            wanted = np.where(hand.trains(entry.vendor_name), expected[entry.vendor_name], 0)
            assert relative_error(gradients[entry.name], wanted) < 1e-4, entry.name


def test_the_manifest_is_that_of_the_vendors_file(tmp_path: Path) -> None:
    _, hand = variant("chain", tmp_path)
    tgdonnx.build(hand.masked, tmp_path / "artifacts")
    manifest = read_manifest(tmp_path / "artifacts")
    found = read_masked(hand.masked)
    assert manifest.base_sha256 == found.base.sha256 != found.start.sha256
    assert manifest.selection == found.selection
    assert (tmp_path / "artifacts" / "masked.onnx").read_bytes() == hand.masked.read_bytes()


def test_the_pull_of_l2_sp_is_to_the_start(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    data = data_for(model)
    for name, options in (("plain", {}), ("pulled", {"l2_sp": 7.0})):
        tgdonnx.build(hand.masked, tmp_path / name, tgdonnx.BuildOptions(**options))  # type: ignore[arg-type]
    plain, pulled = (open_trainer(tmp_path / name) for name in ("plain", "pulled"))
    expected, found = (t.gradients(data["x"], data["target"])[1] for t in (plain, pulled))
    assert any(gradient.any() for gradient in expected.values())
    for name, gradient in expected.items():  # of nothing moved, the pull is exactly zero
        assert np.array_equal(found[name], gradient), name


def test_the_record_says_what_was_reinitialized_and_set_besides_what_trained(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    artifacts = tune(model, hand.masked, tmp_path / "tuned.onnx")
    record = record_of(tmp_path / "tuned.onnx")
    assert record["selection"]["mode"] == "regrow"
    assert record["trained"].keys() == {entry.vendor_name for entry in read_manifest(artifacts).trained}
    assert "reborn" not in record, "all of it trains"
    assert record["set"].keys() == hand.set_masks.keys()
    dims, _, bits = record["set"]["bn2_mean"]["mask"].partition(":")
    assert dims == "10"
    packed = np.frombuffer(zlib.decompress(base64.b64decode(bits)), np.uint8)
    np.testing.assert_array_equal(np.unpackbits(packed, count=10), [1, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    content = zlib.decompress(base64.b64decode(record["set"]["bn2_mean"]["values"]))
    assert content == hand.values["bn2_mean"][[0, 8]].tobytes()


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_what_was_reinitialized_but_does_not_reach_the_output_is_in_the_tuned_file_all_the_same(
    form: str, tmp_path: Path
) -> None:
    # To the output `side` the last two layers give nothing, so they do not train; the other output needs their start.
    model = gated()
    hand = regrow_by_hand(model, tmp_path, strategy=tgdonnx.AllLayers())
    assert {"w5", "b5", "w6"} <= hand.values.keys()
    report = tgdonnx.build(hand.masked, tmp_path / "look", tgdonnx.BuildOptions(output="side", form=form))
    assert {"w5", "b5", "w6"} <= set(report.frozen)
    tune(model, hand.masked, tmp_path / "tuned.onnx", output="side", form=form)
    changed = assert_changed_within_the_masks(hand, tmp_path / "tuned.onnx")
    start, new = stored_tensors(hand.masked), stored_tensors(tmp_path / "tuned.onnx")
    for name in report.frozen:
        assert new[name].tobytes() == start[name].tobytes()
    assert {"w5", "b5", "w6"} <= changed.keys()
    assert set(record_of(tmp_path / "tuned.onnx")["reborn"]) == set(report.frozen)
    for masked in (None, hand.masked):
        found = compared(hand.vendor, tmp_path / "tuned.onnx", masked=masked)
        assert found.ok, found.violations
        assert {entry.name for entry in found.changed} == changed.keys()


def test_a_regrown_model_is_checked_as_it_will_train(tmp_path: Path) -> None:
    _, hand = variant("constant nodes", tmp_path)
    assert check(hand.masked).trainable


def test_the_report_finds_the_vendors_file_again(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    artifacts = tune(model, hand.masked, tmp_path / "tuned.onnx")
    (tmp_path / "work").mkdir()
    proof = prove(artifacts, tmp_path / "work", tuned=tmp_path / "tuned.onnx")
    assert proof.base.data == hand.vendor.read_bytes()
    assert proof.as_exported


@pytest.mark.parametrize("name", ["dncnn", "constant nodes", "float16"])
def test_the_vendors_outputs_are_those_of_the_vendors_values(name: str, tmp_path: Path) -> None:
    model, hand = variant(name, tmp_path)
    tgdonnx.build(hand.masked, tmp_path / "artifacts")
    x = random_feeds(model)["x"]
    expected = open_session(hand.vendor).run(None, {"x": x})[0]
    for given in (vendor_outputs, vendor_targets):
        assert relative_error(given(open_artifacts(tmp_path / "artifacts"))([x])[0], expected) < 2e-6
    _, start = open_trainer(tmp_path / "artifacts").evaluate(x, expected)
    assert relative_error(start, expected) > 0.1


def test_agreement_and_retention_are_with_the_vendor_and_not_with_the_start(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    x = random_feeds(model)["x"]
    expected = open_session(hand.vendor).run(None, {"x": x})[0]
    start = open_session(started(model, hand.values).SerializeToString()).run(None, {"x": x})[0]
    tgdonnx.build(hand.masked, tmp_path / "artifacts")
    options = tgdonnx.TrainOptions(steps=1, batch=3, learning_rate=1e-9, agree_share=0.5, metrics=("rmse",))
    data = {"x": x, "target": np.zeros_like(expected)}
    report = tgdonnx.train(tmp_path / "artifacts", tgdonnx.RunData(data, agree={"x": x[:1]}, retain={"x": x}), options)
    # Two samples with their target, one with the vendor's output, which the start does not meet.
    errors = [*start, start[0] - expected[0]]
    assert report.loss[0] == pytest.approx(np.mean([np.square(e, dtype=np.float64).mean() for e in errors]), rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "artifacts" / "log.jsonl").read_text().splitlines()]
    found = [value for line in lines for key, value in flat(line) if re.search(r"retain.*rmse|rmse.*retain", key)]
    rmse = np.sqrt(np.mean(np.square(start - expected, dtype=np.float64), axis=(1, 2, 3))).mean()
    assert found
    assert found[0] == pytest.approx(float(rmse), rel=1e-4)


def flat(entry: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(entry, dict):
        return [pair for key, value in entry.items() for pair in flat(value, f"{prefix}.{key}")]
    return [(prefix, entry)]


@pytest.fixture
def external(tmp_path: Path) -> ByHand:
    for name in ("vendor", "masked", "tuned"):
        (tmp_path / name).mkdir()
    vendor = save(externalise(dncnn(), tmp_path / "vendor"), tmp_path / "vendor" / "model.onnx")
    return regrow_by_hand(
        dncnn(), tmp_path, vendor=vendor, output=tmp_path / "masked" / "masked.onnx", statistics=STATISTICS
    )


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_with_external_data_it_is_the_same(form: str, external: ByHand, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in external.vendor.parent.iterdir()}
    tuned = tmp_path / "tuned" / "model.onnx"
    artifacts = tune(dncnn(), external.masked, tuned, form=form)
    changed = assert_changed_within_the_masks(external, tuned)
    assert changed.keys() == external.values.keys()
    assert {path: path.read_bytes() for path in external.vendor.parent.iterdir()} == before
    for masked in (None, external.masked):
        report = compared(external.vendor, tuned, masked=masked)
        assert report.ok, report.violations
        assert {entry.name for entry in report.changed} == changed.keys()
    x = random_feeds(dncnn())["x"]
    expected = open_session(dncnn()).run(None, {"x": x})[0]
    assert relative_error(vendor_outputs(open_artifacts(artifacts))([x])[0], expected) < 2e-6
    (tmp_path / "work").mkdir()
    proof = prove(artifacts, tmp_path / "work", tuned=tuned)
    assert proof.as_exported
    assert (proof.base.path.parent / "weights.bin").read_bytes() == before[external.vendor.parent / "weights.bin"]


def test_in_external_data_what_was_set_may_not_change(external: ByHand, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned" / "model.onnx"
    tune(dncnn(), external.masked, tuned)
    data = (tuned.parent / "model.onnx.data").read_bytes()
    entries = {e.key: e.value for e in tensors_of(onnx.load(tuned, load_external_data=False))["bn2_mean"].external_data}
    for row, told in ((8, "that were set once"), (3, "frozen values of filter 3 of 'bn2_mean' changed")):
        changed = bytearray(data)
        changed[int(entries["offset"]) + 4 * row] ^= 1
        (tuned.parent / "model.onnx.data").write_bytes(changed)
        for masked in (None, external.masked):
            report = compared(external.vendor, tuned, masked=masked)
            assert len(report.violations) == 1
            assert told in report.violations[0]


def test_a_masked_model_of_other_external_data_is_of_another_file(external: ByHand, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned" / "model.onnx"
    tune(dncnn(), external.masked, tuned)
    data = bytearray((external.vendor.parent / "weights.bin").read_bytes())
    entries = {e.key: e.value for e in tensors_of(onnx.load(tuned, load_external_data=False))["w2"].external_data}
    place = int(np.flatnonzero(external.trains("w2"))[0])
    data[int(entries["offset"]) + 4 * place] ^= 1
    (external.vendor.parent / "weights.bin").write_bytes(data)
    report = compared(external.vendor, tuned, masked=external.masked)
    assert report.violations == (f"{external.masked} is the masked model of another file than {external.vendor}",)
