"""Tuned files of regrown models that were touched are found."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.masked_model.regrown import (
    ByHand,
    compared,
    stored_tensors,
    tampered,
    variant,
)
from tests.masked_model.tuned import element, tune
from tests.support.models import save
from tgdonnx.errors import ArtifactsError


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
