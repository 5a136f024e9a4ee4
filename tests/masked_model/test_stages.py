"""The stages behind a regrown masked model: build, train, export, verify, further rounds, and what the vendor's function is."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.external_models import externalise
from tests.independent import tensors_of
from tests.masked_model.regrown import (
    RECORD,
    VARIANTS,
    ByHand,
    compared,
    invent,
    regrow_by_hand,
    started,
    stored_tensors,
    tampered,
    variant,
)
from tests.models import Array, dncnn, gated, random_feeds, save
from tests.numpy_net import NumpyNet
from tests.sessions import open_session
from tests.trainer import Trainer, relative_error, true_gradients
from tgdonnx.artifacts import read_manifest, vendor_outputs, vendor_targets
from tgdonnx.checking import check
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked, write_masked
from tgdonnx.reporting.proof import prove
from tgdonnx.verifying.allowed_changes import recorded_evidence

STATISTICS = ("bn2_mean", "bn3_var")


def data_for(model: onnx.ModelProto, output: str = "y") -> dict[str, Array]:
    feeds = random_feeds(model)
    session = open_session(model)
    shape = session.run([output], feeds)[0].shape
    return {**feeds, "target": np.random.default_rng(1).normal(size=shape).astype(np.float32)}


def tune(model: onnx.ModelProto, masked: Path, tuned: Path, *, rate: float = 1e-2, **options: Any) -> Path:
    """Builds, trains three steps and exports; returns the artifacts."""
    artifacts = tuned.parent / f"{tuned.stem}-artifacts"
    tgdonnx.build(masked, artifacts, tgdonnx.BuildOptions(**options))
    run = tgdonnx.TrainOptions(steps=3, batch=2, learning_rate=rate)
    data = data_for(model, options.get("output", "y"))
    inputs = {spec.name for spec in read_manifest(artifacts).inputs}
    tgdonnx.train(artifacts, {name: array for name, array in data.items() if name in inputs}, run)
    tgdonnx.export(artifacts, tuned)
    return artifacts


def bits_differ(first: Array, second: Array) -> Array:
    a, b = (np.frombuffer(array.tobytes(), np.uint8).reshape(array.size, -1) for array in (first, second))
    return (a != b).any(axis=1).reshape(first.shape)


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


# From the masked model to the proof.


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
    trainer = Trainer(tmp_path / "artifacts")
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
    plain, pulled = (Trainer(tmp_path / name) for name in ("plain", "pulled"))
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
    assert proof.base.read_bytes() == hand.vendor.read_bytes()
    assert proof.as_exported


# Tuned files that were touched.


def element(tensor: str, place: int, change: Callable[[Any], Any]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        found = tensors_of(model)[tensor]
        values = numpy_helper.to_array(found).copy()
        values.ravel()[place] = change(values.ravel()[place])
        found.raw_data = values.tobytes()

    return apply


@pytest.fixture(scope="module")
def tuned_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[ByHand, Path]:
    directory = tmp_path_factory.mktemp("tuned")
    model, hand = variant("dncnn", directory)
    tune(model, hand.masked, directory / "tuned.onnx")
    return hand, directory / "tuned.onnx"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tensor", ["bn2_mean", "w4"])
def test_what_was_set_may_not_change_afterwards(
    tensor: str, masked: bool, tuned_once: tuple[ByHand, Path], tmp_path: Path
) -> None:
    hand, tuned = tuned_once
    copy = tmp_path / "tuned.onnx"
    place = int(np.flatnonzero(hand.is_set(tensor))[-1])
    row = place // int(np.prod(hand.is_set(tensor).shape[1:]))
    vendor = stored_tensors(hand.vendor)[tensor].ravel()[place]
    for change in (lambda value: np.nextafter(value, np.float32(9)), lambda _: vendor):
        copy.write_bytes(tuned.read_bytes())
        tampered(copy, element(tensor, place, change))
        report = compared(hand.vendor, copy, masked=hand.masked if masked else None)
        assert not report.ok
        told = f"values of filter {row} of '{tensor}' that were set once, and do not train, are not what was set"
        assert report.violations == (told,)


@pytest.mark.parametrize("masked", [False, True])
def test_a_frozen_value_beside_what_was_set_may_not_change_either(
    masked: bool, tuned_once: tuple[ByHand, Path], tmp_path: Path
) -> None:
    hand, tuned = tuned_once
    copy = tmp_path / "tuned.onnx"
    for tensor in ("bn2_mean", "w4", "bn2_var"):
        place = int(np.flatnonzero(~(hand.is_set(tensor) | hand.trains(tensor)))[-1])
        copy.write_bytes(tuned.read_bytes())
        tampered(copy, element(tensor, place, lambda value: value + 1))
        report = compared(hand.vendor, copy, masked=hand.masked if masked else None)
        assert not report.ok
        assert len(report.violations) == 1
        assert f"'{tensor}'" in report.violations[0]
        assert "set once" not in report.violations[0]


def test_the_vendors_own_file_is_not_what_a_regrown_model_becomes(tuned_once: tuple[ByHand, Path]) -> None:
    hand, _ = tuned_once
    report = compared(hand.vendor, hand.vendor, masked=hand.masked)
    assert not report.ok
    assert all("that were set once" in violation for violation in report.violations)


def test_a_masked_model_in_which_other_values_were_set_is_no_witness(
    tuned_once: tuple[ByHand, Path], tmp_path: Path
) -> None:
    hand, tuned = tuned_once
    evidence = tmp_path / "masked.onnx"
    evidence.write_bytes(hand.masked.read_bytes())
    tampered(evidence, element("bn2_mean", 8, lambda value: value + 1))
    report = compared(hand.vendor, tuned, masked=evidence)
    assert report.violations == (
        "values of filter 8 of 'bn2_mean' that were set once, and do not train, are not what was set",
    )
    assert compared(hand.vendor, tuned).ok


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("set"),
        lambda record: record["set"].pop("bn2_mean"),
        lambda record: record["set"]["bn2_mean"].pop("values"),
        lambda record: record["set"]["bn2_mean"].update(values="AAAA"),
        lambda record: record["set"]["bn2_mean"].update(values=base64.b64encode(zlib.compress(b"1234" * 3)).decode()),
        lambda record: record["set"]["bn2_mean"].update(values=base64.b64encode(zlib.compress(b"1234" * 2)).decode()),
        lambda record: record["set"]["bn2_mean"].update(mask="9:AAAA"),
        lambda record: record["set"].update(nothing=record["set"]["bn2_mean"]),
        lambda record: record.update(set=[]),
        lambda record: record.update(reborn=[1]),
        lambda record: record["trained"].pop("w2"),
    ],
)
def test_a_record_that_does_not_say_what_was_set_proves_nothing(
    change: Callable[[dict[str, Any]], Any], tuned_once: tuple[ByHand, Path], tmp_path: Path
) -> None:
    hand, tuned = tuned_once
    model = onnx.load(tuned)
    record = json.loads(model.metadata_props[0].value)
    change(record)
    model.metadata_props[0].value = json.dumps(record)
    save(model, tmp_path / "tuned.onnx")
    assert not compared(hand.vendor, tmp_path / "tuned.onnx").ok
    assert compared(hand.vendor, tmp_path / "tuned.onnx", masked=hand.masked).ok


def test_a_checkpoint_of_another_start_is_not_exported(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    artifacts = tune(model, hand.masked, tmp_path / "tuned.onnx")
    place = int(np.flatnonzero(hand.is_set("w4"))[0])
    tampered(artifacts / "masked.onnx", element("w4", place, lambda value: value + 1))
    with pytest.raises(ArtifactsError, match="has moved frozen values of 'w4'"):
        tgdonnx.export(artifacts, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


# Rounds.


def next_round(base: Path, directory: Path, seed: int, *, protect: bool = False) -> ByHand:
    """A second masked model by hand; with ``protect``, only of what no earlier round trained or set."""
    directory.mkdir()
    network = open_network(base)
    masks, values, set_masks = invent(network, np.random.default_rng(seed), tgdonnx.AllLayers(), STATISTICS)
    if protect:
        tgdonnx.mask(
            base, directory / "plain.onnx", tgdonnx.AllLayers(), tgdonnx.MaskOptions(mode="readers", protect=True)
        )
        left = read_masked(directory / "plain.onnx").masks
        stored = network.stored_parameters
        values = {
            name: np.where(np.broadcast_to(mask == 1, stored[name].shape), values[name], stored[name].numpy())
            for name, mask in left.items()
        }
        masks = tuple(type(m)(m.parameter, m.node, m.filters, m.maps, left[m.parameter.name], None) for m in masks)
        set_masks = {}
    write_masked(network, masks, {**RECORD, "round": 2}, directory / "masked.onnx", values=values, set_masks=set_masks)
    return ByHand(base, directory / "masked.onnx", masks, values, set_masks)


def test_two_rounds_are_proved_by_their_records(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    tune(model, hand.masked, tmp_path / "first.onnx")
    again = next_round(tmp_path / "first.onnx", tmp_path / "second", 5)
    tune(model, again.masked, tmp_path / "second.onnx")
    report = compared(hand.vendor, tmp_path / "second.onnx")
    assert report.ok, report.violations
    claims = recorded_evidence(open_network(hand.vendor), load_model(tmp_path / "second.onnx")).claims
    assert [claim.number for claim in claims] == [1, 2]
    assert compared(tmp_path / "first.onnx", tmp_path / "second.onnx", masked=again.masked).ok
    # Set by the first round and trained by the second: free. Set by the second: as the second set it.
    freed = hand.is_set("w4") & again.trains("w4")
    assert freed.any()
    first, second = (stored_tensors(tmp_path / f"{name}.onnx") for name in ("first", "second"))
    assert bits_differ(first["w4"], second["w4"])[freed].any()
    assert bits_differ(first["bn2_mean"], second["bn2_mean"])[again.is_set("bn2_mean")].all()
    copy = tmp_path / "copy.onnx"
    copy.write_bytes((tmp_path / "second.onnx").read_bytes())
    old = first["bn2_mean"][0]
    tampered(copy, element("bn2_mean", 0, lambda _: old))
    told = "values of filter 0 of 'bn2_mean' that were set once, and do not train, are not what was set"
    assert compared(hand.vendor, copy).violations == (told,)


def test_a_later_round_without_reinitialization_keeps_what_was_set(tmp_path: Path) -> None:
    model, hand = variant("dncnn", tmp_path)
    tune(model, hand.masked, tmp_path / "first.onnx")
    tgdonnx.mask(tmp_path / "first.onnx", tmp_path / "masked2.onnx", tgdonnx.Filters({"w1": [0]}))
    tune(model, tmp_path / "masked2.onnx", tmp_path / "second.onnx")
    assert compared(hand.vendor, tmp_path / "second.onnx").ok
    tampered(tmp_path / "second.onnx", element("bn3_var", 5, lambda value: value + 1))
    report = compared(hand.vendor, tmp_path / "second.onnx")
    told = "values of filter 5 of 'bn3_var' that were set once, and do not train, are not what was set"
    assert report.violations == (told,)


def test_protect_keeps_what_an_earlier_round_trained_was_reinitialized_or_set(tmp_path: Path) -> None:
    model = dncnn()
    hand = regrow_by_hand(model, tmp_path, statistics=STATISTICS)
    tune(model, hand.masked, tmp_path / "first.onnx")
    again = next_round(tmp_path / "first.onnx", tmp_path / "second", 5, protect=True)
    for name in ("w1", "w2", "w3", "w4", "b1", "bn2_scale"):
        changed = hand.trains(name) | hand.is_set(name)
        assert changed.any(), name
        trains = np.broadcast_to(read_masked(again.masked).masks[name] == 1, changed.shape)
        np.testing.assert_array_equal(trains, ~changed, err_msg=name)
    tune(model, again.masked, tmp_path / "second.onnx")
    first, second = (stored_tensors(tmp_path / f"{name}.onnx") for name in ("first", "second"))
    for name, values in first.items():
        kept = hand.trains(name) | hand.is_set(name)
        assert values[kept].tobytes() == second[name][kept].tobytes(), name
    assert bits_differ(first["w1"], second["w1"]).any()
    assert compared(hand.vendor, tmp_path / "second.onnx").ok


# The vendor's function.


@pytest.mark.parametrize("name", ["dncnn", "constant nodes", "float16"])
def test_the_vendors_outputs_are_those_of_the_vendors_values(name: str, tmp_path: Path) -> None:
    model, hand = variant(name, tmp_path)
    tgdonnx.build(hand.masked, tmp_path / "artifacts")
    x = random_feeds(model)["x"]
    expected = open_session(hand.vendor).run(None, {"x": x})[0]
    for given in (vendor_outputs, vendor_targets):
        assert relative_error(given(tmp_path / "artifacts")([x]), expected) < 2e-6
    _, start = Trainer(tmp_path / "artifacts").evaluate(x, expected)
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


# External data.


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
    assert relative_error(vendor_outputs(artifacts)([x]), expected) < 2e-6
    (tmp_path / "work").mkdir()
    proof = prove(artifacts, tmp_path / "work", tuned=tuned)
    assert proof.as_exported
    assert (proof.base.parent / "weights.bin").read_bytes() == before[external.vendor.parent / "weights.bin"]


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
