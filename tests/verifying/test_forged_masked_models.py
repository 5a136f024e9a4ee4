"""Masked models that vouch for more than the vendor's file allows are no evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support.forging import mask_edited, nudged, selection_edited
from tests.verifying.cases import Case, frozen, with_tensor


def test_a_masked_model_with_a_frozen_filter_is_no_witness(case: Case) -> None:
    row = frozen(case, "w2")
    mask_edited(case.masked, lambda mask: mask.__setitem__(row, 1), "w2")
    case.write(body=nudged(case.body, "w2", row))
    assert any(
        f"filter {row} of 'w2' is said to train, but is frozen by phi 0.3" in e for e in case.refused(masked=True)
    )
    case.tuned.write_bytes(nudged(case.body, "w2", row))  # without a record that would contradict it
    assert any(f"filter {row} of 'w2' is said to train" in each for each in case.refused(masked=True))


def test_a_masked_model_with_a_filter_fewer_or_without_a_mask_is_no_witness(case: Case) -> None:
    row = case.record["trained"]["w2"]["retrain"][0]
    whole = case.masked.read_bytes()
    case.tuned.write_bytes(case.base.read_bytes())
    mask_edited(case.masked, lambda mask: mask.__setitem__(row, 0), "w2")
    assert any(f"filter {row} of 'w2' is said to be frozen, but trains" in each for each in case.refused(masked=True))
    model = onnx.ModelProto.FromString(whole)
    (index,) = (i for i, t in enumerate(model.graph.initializer) if t.name == "w3.retrain_mask")
    del model.graph.initializer[index]
    case.masked.write_bytes(model.SerializeToString())
    assert any("there is no mask of 'w3'" in each for each in case.refused(masked=True))


def test_a_mask_of_a_tensor_that_never_trains_is_told(case: Case) -> None:
    for name, why in (("bn2_mean", "is a mean or variance of a norm"), ("bn3_var", "is a mean or variance of a norm")):
        model = onnx.load(case.masked)
        size = numpy_helper.to_array(tensors_of(model)[name]).size
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(size, np.float32), f"{name}.retrain_mask"))
        case.masked.write_bytes(model.SerializeToString())
        assert any(f"{name!r} is said to have trained, but it {why}" in each for each in case.refused(masked=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phi": 0.9}, "is said to be frozen, but trains"),
        ({"phi": 0.001}, "is said to train, but is frozen"),
        ({"phi": None}, "is not one that `tgdonnx.mask` writes"),
        ({"strategy": "all"}, "is not one that `tgdonnx.mask` writes"),
        ({"round": 2}, "is of round 2, expected 1"),
        ({"mode": "readers"}, "is said to be frozen, but trains"),
        ({"extra": 1}, "unknown field `extra`"),
    ],
)
def test_a_selection_that_is_not_that_of_the_masks_is_told(changes: dict[str, Any], told: str, case: Case) -> None:
    selection_edited(case.masked, **changes)
    assert any(told in each for each in case.refused(masked=True)), case.refused(masked=True)


def test_an_edited_percentile_or_its_phi_is_told(made: Path, tmp_path: Path) -> None:
    case = Case(made, tmp_path, "percentile")
    honest = dict(case.record["selection"])
    for changes in ({"phi": honest["phi"] + 0.01}, {"percentile": 40.0}, {"percentile": 20.0}):
        case.record["selection"] = {**honest, **changes}
        case.write()
        assert "phi is recorded as" in case.refused()[0]


def test_a_record_that_contradicts_the_masked_model_does_not_pass_beside_it(case: Case) -> None:
    with_tensor("bn2_mean", [0], change=False)(case)
    case.write()
    assert any("'bn2_mean' is said to have trained" in each for each in case.refused(masked=True))


def test_a_record_of_another_selection_than_the_masked_model_is_told_even_if_both_give_the_same_masks(
    case: Case,
) -> None:
    case.record["selection"]["phi"] = 0.31
    case.write()
    assert tgdonnx.verify(case.base, case.tuned).ok
    assert any(each.endswith("they differ in phi") for each in case.refused(masked=True))


@pytest.fixture
def without_conv2(made: Path, tmp_path: Path) -> Case:
    """A tuned file of a round that left a layer out."""
    return Case(made, tmp_path, "without conv2")


def test_that_a_layer_was_to_stay_frozen_is_proved_by_the_masked_model_and_without_it_is_not_claimed(
    without_conv2: Case,
) -> None:
    case = without_conv2
    told = "it selects 'w2' and 2 more too, which the record does not name"
    report = tgdonnx.verify(case.base, case.tuned)
    assert report.proof == "recomputed"
    assert "'conv2' frozen" in report.rounds[0].sentence
    assert told not in report.rounds[0].sentence
    del case.record["selection"]["freeze"]
    case.write()
    report = tgdonnx.verify(case.base, case.tuned)
    assert (report.ok, report.proof) == (True, "recomputed")
    assert told in report.rounds[0].sentence
    assert any(each.endswith("they differ in freeze") for each in case.refused(masked=True))


def test_a_masked_model_that_no_longer_says_which_layer_it_froze_is_told(without_conv2: Case) -> None:
    case = without_conv2
    model = onnx.load(case.masked)
    (found,) = (e for e in model.metadata_props if e.key == "tgdonnx.selection")
    selection = json.loads(found.value)
    del selection["freeze"], case.record["selection"]["freeze"]
    found.value = json.dumps(selection)
    case.masked.write_bytes(model.SerializeToString())
    case.write()
    assert any("of 'w2' is said to be frozen, but trains by phi 0.3" in each for each in case.refused(masked=True))
