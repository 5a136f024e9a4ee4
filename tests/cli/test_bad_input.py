"""A user's mistakes: one or two lines, status 2, nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.commands import run, run_json, save_pairs
from tests.support import models
from tgdonnx.artifacts import LOSSES


def refused(directory: Path, *arguments: object) -> str:
    """Checks that a command refuses; returns what it says."""
    before = sorted(directory.rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sorted(directory.rglob("*")) == before
    said = result.stderr.strip().splitlines()
    lines = [line for line in said if not line.startswith(("Usage:", "Try ")) and line]
    assert 1 <= len(lines) <= 2, said
    assert "fault of tgdonnx" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("command", ["inspect", "score", "trace", "check"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ONNX model"),
        (b"hello, world\n", "no ONNX model"),
        (models.dncnn(0).SerializeToString()[:-40], "truncated|no ONNX model|damaged"),
        (onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="g")).SerializeToString(), "empty graph|imports no"),
    ],
)
def test_a_file_that_is_no_model(command: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    said = refused(tmp_path, command, path)
    assert any(part in said for part in message.split("|")), said
    assert "model.onnx" in said


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path, "inspect", tmp_path / "nowhere.onnx")


def test_a_weight_that_is_not_finite_is_named_with_its_index(vendor: Path, tmp_path: Path) -> None:
    model = onnx.load(vendor)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values[1, 0, 2, 1] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, vendor)
    said = refused(tmp_path, "mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    assert tensor.name in said
    assert "[1, 0, 2, 1] is nan" in said


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ((), "got none. Where you do not know which filters, `--phi auto` has"),
        (("--phi", 0.3, "--last", 1), "got --phi, --last"),
        (("--phi", 1.5), "expected phi in [0, 1], got 1.5"),
        (("--phi", 0), "phi must be above"),
        (("--last", 99), "expected last between 1 and"),
        (("--filters", "nowhere.json"), "nowhere.json cannot be read"),
        (("--percentile", 101), "expected a percentile in [0, 100]"),
    ],
)
def test_a_selection_that_is_none(selection: tuple[object, ...], message: str, vendor: Path, tmp_path: Path) -> None:
    assert message in refused(tmp_path, "mask", vendor, "-o", tmp_path / "masked.onnx", *selection)


def test_an_output_that_exists_or_cannot_be_written(vendor: Path, tmp_path: Path) -> None:
    (tmp_path / "masked.onnx").write_bytes(b"mine")
    assert "pass --overwrite" in refused(tmp_path, "mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    assert (tmp_path / "masked.onnx").read_bytes() == b"mine"
    said = refused(tmp_path, "mask", vendor, "-o", tmp_path / "no" / "masked.onnx", "--phi", 0.3)
    assert "does not exist; create it" in said
    assert "never overwritten" in refused(tmp_path, "mask", vendor, "-o", vendor, "--phi", 0.3, "--overwrite")


SHAPE = (6, 3, 9, 8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(SHAPE)}, "expected 'x' to be float32 [?, 3, ?, ?], found float64 [6, 3, 9, 8]"),
        ({"x": np.zeros((6, 4, 9, 8), np.float32)}, "found float32 [6, 4, 9, 8]"),
        ({"x": np.zeros((6, 3, 9), np.float32)}, "found float32 [6, 3, 9]"),
        ({"x": np.zeros((5, 3, 9, 8), np.float32)}, "differ in the number of samples"),
        ({"target": np.zeros((6, 3, 9, 7), np.float32)}, "expected [1, 3, 9, 8], found [1, 3, 9, 7]"),
        ({"x": np.full(SHAPE, np.nan, np.float32)}, "x[0, 0, 0, 0] is nan"),
    ],
)
def test_data_that_does_not_fit(arrays: dict[str, object], message: str, vendor: Path, tmp_path: Path) -> None:
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts")
    data = save_pairs(tmp_path / "data.npz", SHAPE, SHAPE, **arrays)
    assert message in refused(tmp_path, "train", tmp_path / "artifacts", "--data", data)


def test_training_that_diverges_names_the_step_and_says_what_is_kept(vendor: Path, tmp_path: Path) -> None:
    data = save_pairs(tmp_path / "data.npz", SHAPE, SHAPE)
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--all")
    run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts")
    result = run("train", tmp_path / "artifacts", "--data", data, "--lr", 1e30, "--batch", 2)
    assert result.exit_code == 2
    assert "at step 2; there is no checkpoint of any step before" in result.stderr


def test_artifacts_of_a_newer_format(vendor: Path, tmp_path: Path) -> None:
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts")
    manifest = tmp_path / "artifacts" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 3', '"format": 4'))
    said = refused(tmp_path, "export", tmp_path / "artifacts", "-o", tmp_path / "tuned.onnx")
    assert "format 4; this version reads up to 3: update tgdonnx" in said


def test_missing_external_data_is_named_but_traces_are_given(vendor: Path, tmp_path: Path) -> None:
    model = onnx.load(vendor)
    onnx.save(model, vendor, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert "'weights.bin'" in refused(tmp_path, "score", vendor)
    assert run("trace", vendor).exit_code == 0


def test_alpha_must_be_a_number(vendor: Path, tmp_path: Path) -> None:
    assert "alpha" in refused(tmp_path, "score", vendor, "--alpha", "nan")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--loss", "hubert"),
            f"{', '.join(LOSSES)}, or a weighted sum such as 0.8*l1+0.2*ssim; got 'hubert'",
        ),
        (("--loss", "l1+ce"), "the losses ce and l1 do not go together"),
        (("--loss", "-1*l1"), "expected weights > 0"),
        (("--loss", "ssim", "--data-range", 0), "expected a data range > 0, got 0"),
        (("--l2-sp", -1), "expected l2_sp >= 0, got -1"),
    ],
)
def test_a_loss_that_is_none(options: tuple[object, ...], message: str, vendor: Path, tmp_path: Path) -> None:
    run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--all")
    assert message in refused(tmp_path, "build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts", *options)


@pytest.mark.training
def test_names_that_are_no_utf_8_train_report_and_are_refused_only_where_the_runtime_takes_none(
    vendor: Path, tmp_path: Path
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    data = save_pairs(odd / "data.npz", SHAPE, SHAPE)
    model = odd / "vendor.onnx"
    vendor.rename(model)
    masked, artifacts = odd / "masked.onnx", tmp_path / "artifacts"
    for command in (
        ("mask", model, "-o", masked, "--last", 1),
        ("build", masked, "-o", artifacts, "--engine", "onnxruntime-training"),
        ("train", artifacts, "--data", data, "--epochs", 1, "--lr", 1e-6),
        ("train", artifacts, "--data", data, "--epochs", 2, "--lr", 1e-6, "--resume"),
        ("export", artifacts, "-o", odd / "tuned.onnx"),
        ("verify", model, odd / "tuned.onnx"),
    ):
        result = run(*command)
        assert result.exit_code == 0, (command, result.stderr)
    assert "caf\\\\xe9" in (artifacts / "run.json").read_text("utf-8")
    assert "no UTF-8 text" in refused(tmp_path, "build", masked, "-o", odd / "artifacts")
    artifacts.rename(odd / "artifacts")
    assert "no UTF-8 text" in refused(tmp_path, "train", odd / "artifacts", "--data", data)
