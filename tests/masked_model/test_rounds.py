"""Further rounds on a regrown model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tgdonnx
from tests.masked_model.regrown import (
    RECORD,
    ByHand,
    compared,
    invent,
    regrow_by_hand,
    stored_tensors,
    tampered,
    variant,
)
from tests.masked_model.tuned import STATISTICS, bits_differ, element, tune
from tests.support.models import dncnn
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import open_network
from tgdonnx.masked_model import read_masked, write_masked
from tgdonnx.verifying.allowed_changes import recorded_evidence


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
