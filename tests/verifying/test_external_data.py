"""Verification of models with external data: their bytes, what the model says of them, and whose they are."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.independent import expected_masks, places
from tests.support import models
from tests.support.tuning import PHI, data_for, options_for
from tgdonnx.errors import ModelFileError


@pytest.fixture(scope="module")
def tuned_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """vendor/model.onnx with w.bin, and tuned/model.onnx with model.onnx.data."""
    directory = tmp_path_factory.mktemp("external")
    for name in ("vendor", "tuned"):
        (directory / name).mkdir()
    vendor = directory / "vendor" / "model.onnx"
    onnx.save(models.dncnn(0), vendor, save_as_external_data=True, location="w.bin", size_threshold=0)
    tuned = directory / "tuned" / "model.onnx"
    tgdonnx.finetune(vendor, data_for(models.dncnn(0)), tuned, tgdonnx.Phi(PHI), options_for())
    return directory


@pytest.fixture
def external(tuned_once: Path, tmp_path: Path) -> Path:
    """The same, to be tampered with."""
    shutil.copytree(tuned_once, tmp_path, dirs_exist_ok=True)
    assert verified(tmp_path).ok
    return tmp_path


def verified(directory: Path) -> tgdonnx.VerifyReport:
    return tgdonnx.verify(directory / "vendor" / "model.onnx", directory / "tuned" / "model.onnx")


def test_any_bit_of_external_data_that_flips_is_caught_unless_it_belongs_to_a_retrained_filter(external: Path) -> None:
    base, tuned = (external / "vendor" / "w.bin").read_bytes(), (external / "tuned" / "model.onnx.data").read_bytes()
    model = models.dncnn(0)
    allowed = np.zeros(len(base), bool)
    for name, mask in expected_masks(model, PHI).items():
        start = places(model, base)[name]
        allowed[start : start + 4 * mask.size] = np.repeat(mask.ravel(), 4)
    chance = random.Random(1)
    for position in chance.sample(range(len(base)), 60):
        data = bytearray(tuned)
        data[position] ^= 1 << chance.randrange(8)
        (external / "tuned" / "model.onnx.data").write_bytes(data)
        assert verified(external).ok == allowed[position], f"byte {position}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "model.onnx.data"),
        (lambda data: data[: len(data) // 2], "model.onnx.data"),
        (lambda _: b"", "model.onnx.data"),
        (lambda data: data + b"\x00", "model.onnx.data"),
    ],
)
def test_external_data_of_another_length_is_caught(
    change: Callable[[bytes], bytes], message: str, external: Path
) -> None:
    path = external / "tuned" / "model.onnx.data"
    path.write_bytes(change(path.read_bytes()))
    report = verified(external)
    assert not report.ok
    assert any(message in violation for violation in report.violations)


@pytest.mark.parametrize("name", ["vendor/w.bin", "tuned/model.onnx.data"])
def test_external_data_that_is_missing_is_named(name: str, external: Path) -> None:
    (external / name).unlink()
    with pytest.raises(ModelFileError, match=re.escape(repr(Path(name).name))):
        verified(external)


def retold(path: Path, change: Callable[[dict[str, dict[str, str]]], None]) -> None:
    """Changes what a model says of its external data, by name of tensor and key, and leaves everything else of it."""
    model = onnx.load(path, load_external_data=False)
    said = {t.name: {entry.key: entry.value for entry in t.external_data} for t in model.graph.initializer}
    change(said)
    for tensor in model.graph.initializer:
        del tensor.external_data[:]
        for key, value in said[tensor.name].items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def test_telling_the_same_again_changes_nothing(external: Path) -> None:
    before = (external / "tuned" / "model.onnx").read_bytes()
    retold(external / "tuned" / "model.onnx", lambda _: None)
    assert (external / "tuned" / "model.onnx").read_bytes() == before


def elsewhere(said: dict[str, dict[str, str]]) -> None:
    for entries in said.values():
        entries["location"] = "other.data"


def one_elsewhere(said: dict[str, dict[str, str]]) -> None:
    said["w2"]["location"] = "other.data"


def swapped(said: dict[str, dict[str, str]]) -> None:
    said["w2"]["offset"], said["w3"]["offset"] = said["w3"]["offset"], said["w2"]["offset"]


def moved(said: dict[str, dict[str, str]]) -> None:
    said["b1"]["offset"] = str(int(said["b1"]["offset"]) - 4)


def without_length(said: dict[str, dict[str, str]]) -> None:
    del said["b1"]["length"]


def with_a_checksum(said: dict[str, dict[str, str]]) -> None:
    said["b1"]["checksum"] = "0" * 40


@pytest.mark.parametrize("change", [elsewhere, one_elsewhere, swapped, moved, without_length, with_a_checksum])
def test_a_tuned_file_that_says_anything_else_of_its_external_data_is_caught(
    change: Callable[[dict[str, dict[str, str]]], None], external: Path
) -> None:
    # The bytes are there, so that nothing but what the file says of them can give it away.
    shutil.copy(external / "tuned" / "model.onnx.data", external / "tuned" / "other.data")
    retold(external / "tuned" / "model.onnx", change)
    report = verified(external)
    assert not report.ok
    assert any("external data" in violation for violation in report.violations)


def test_a_tuned_model_that_was_renamed_is_still_proved(external: Path) -> None:
    (external / "tuned" / "model.onnx").rename(external / "tuned" / "renamed.onnx")
    assert tgdonnx.verify(external / "vendor" / "model.onnx", external / "tuned" / "renamed.onnx").ok


@pytest.mark.parametrize("link", [None, os.symlink])
def test_models_that_read_the_same_bytes_prove_nothing(
    link: Optional[Callable[[Path, Path], None]], external: Path
) -> None:
    vendor, tuned = external / "vendor", external / "tuned"
    if link is None:
        retold(tuned / "model.onnx", lambda said: [e.update(location="w.bin") for e in said.values()] and None)
        (tuned / "model.onnx").rename(vendor / "tuned.onnx")
        other = vendor / "tuned.onnx"
    else:
        (tuned / "model.onnx.data").rename(vendor / "w.bin")
        (tuned / "model.onnx").rename(vendor / "tuned.onnx")
        link(vendor / "w.bin", vendor / "model.onnx.data")
        other = vendor / "tuned.onnx"
    with pytest.raises(
        ModelFileError, match=r"both read .*w\.bin, so there is nothing to compare the tuned weights with; put"
    ):
        tgdonnx.verify(vendor / "model.onnx", other)
