"""Options on data: from the shell to the batches, with everything said on stderr, and every mistake in a line or two."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import run, run_json, save_pairs
from tests.support import models


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    run_json("mask", tmp_path / "vendor.onnx", "-o", tmp_path / "masked.onnx", "--phi", 0.3)
    run_json("build", tmp_path / "masked.onnx", "-o", tmp_path / "artifacts")
    return tmp_path / "artifacts"


def pictures(directory: Path, names: str = "abcde", size: tuple[int, int] = (12, 10)) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        clean = rng.integers(0, 256, (*size, 3), np.uint8)
        for kind, values in (("noisy", clean // 2), ("target", clean)):
            (directory / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(directory / kind / f"{name}.png")
    return directory


def test_pictures_train_in_patches_with_a_split_and_everything_is_said(artifacts: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    options = (
        "--map",
        "noisy=x",
        "--scale",
        255,
        "--patch",
        "8x8",
        "--patches-per-epoch",
        12,
        "--validation-split",
        0.2,
    )
    result = run(
        *("train", artifacts, "--data", data, *options, "--augment", "flips,rotations", "--epochs", 2, "--batch", 4),
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert "x: stored HWC, taken to NCHW" in lines
    assert "x: uint8 to float32: v / 255" in lines
    assert any(line.startswith("held out for validation: ") for line in lines)
    assert '"steps": 6' in result.stdout


def test_a_dry_run_says_what_it_does_to_the_data(artifacts: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    result = run("train", artifacts, "--data", data, "--map", "noisy=x", "--scale", 255, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "x: uint8 to float32: v / 255" in result.stderr.splitlines()


def test_the_vendors_task_is_read_as_the_training_data_is_and_the_record_says_how(
    artifacts: Path, tmp_path: Path
) -> None:
    data, retain = pictures(tmp_path / "data"), pictures(tmp_path / "retain", "xyz")
    for extra in (retain / "target").iterdir():
        extra.unlink()
    (retain / "target").rmdir()
    options = (
        "--map",
        "noisy=x",
        "--map",
        "target=target",
        "--scale",
        "minmax",
        "--validation-split",
        0.4,
        "--augment",
        "flips",
    )
    report = run_json("train", artifacts, "--data", data, *options, "--retain", retain, "--patience", 3, "--epochs", 1)
    assert report["epochs"][0]["retain"]
    record = json.loads((artifacts / "run.json").read_text("utf-8"))
    assert (record["data"]["cases"], record["validation"]["cases"], record["retain"]["cases"]) == (3, 2, 3)
    assert record["data"]["options"]["augment"] == ["flips"]
    assert record["validation"]["options"]["augment"] == []
    scalings = [record[role]["scaling"]["x"] for role in ("data", "validation", "retain")]
    assert scalings[0] == scalings[1] == scalings[2]
    trained = [np.asarray(Image.open(file["path"])) for file in record["data"]["files"] if "noisy" in file["path"]]
    assert scalings[0]["offset"] == min(picture.min() for picture in trained)
    assert scalings[0]["divisor"] == max(picture.max() for picture in trained) - min(p.min() for p in trained)
    assert any(remark.startswith("x: uint8 to float32") for remark in record["data"]["remarks"])


def test_a_resumed_run_is_refused_other_data_and_other_ways_to_read_it(artifacts: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    options = ("--map", "noisy=x", "--scale", 255, "--patch", "8x8", "--patches-per-epoch", 8)
    run_json("train", artifacts, "--data", data, *options, "--epochs", 1)
    data.rename(tmp_path / "moved")
    other = run(
        "train", artifacts, "--data", tmp_path / "moved", *options, "--augment", "flips", "--epochs", 2, "--resume"
    )
    assert other.exit_code == 2
    assert "was started with other data" in other.stderr
    assert run_json("train", artifacts, "--data", tmp_path / "moved", *options, "--epochs", 2, "--resume")["steps"] == 2


def test_a_layout_and_a_scale_may_be_of_one_input(artifacts: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(6, 3, 9, 8)).astype(np.float32), rng.normal(size=(6, 3, 9, 8)).astype(np.float32)
    expected = save_pairs(tmp_path / "plain.npz", x.shape, x.shape, x=x, target=target)
    other = save_pairs(tmp_path / "other.npz", x.shape, x.shape, x=np.moveaxis(x, 1, -1) * np.float32(4), target=target)
    losses = []
    for data, options in ((expected, ()), (other, ("--layout", "x=NHWC", "--scale", "x=4"))):
        run_json("build", tmp_path / "masked.onnx", "-o", artifacts, "--overwrite")
        losses.append(run_json("train", artifacts, "--data", data, *options, "--epochs", 1)["loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--patch", "64by64"), "expected --patch such as 64x64, got '64by64'"),
        (("--patch", "0x4"), "expected a patch such as 64x64, got 0x4"),
        (("--patch", "64x64"), "is smaller than a patch: H is 9, the patch 64"),
        (("--patches-per-epoch", 5), "patches per epoch without a patch"),
        (("--augment", "shear"), "expected augmentation of flips, rotations, got 'shear'"),
        (("--augment", "rotations"), "rotations by right angles need squares"),
        (("--scale", "max"), "expected a scale of minmax, percentile, standard, imagenet, or a number; got 'max'"),
        (("--scale", 1, "--scale", 2), "expected one --scale for all inputs; got 1, 2"),
        (("--scale", "x="), "expected --scale INPUT=..., each once; got 'x='"),
        (("--layout", "NHWQ"), "got 'NHWQ'"),
        (("--layout", "NHWC"), "which as NHWC gives samples of [8, 3, 9]; it would fit as --layout x=NCHW"),
        (("--layout", "y=NHWC"), "--layout names 'y', which the model does not take"),
        (("--map", "x"), "expected --map ARRAY=INPUT, each once; got 'x'"),
        (("--validation-split", 0.5), "is a single file, and a split goes by files; give --validation"),
        (("--validation-split", 1.5), "expected a validation split between 0 and 1, got 1.5"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(
    options: tuple[object, ...], message: str, artifacts: Path, tmp_path: Path
) -> None:
    data = save_pairs(tmp_path / "data.npz", (6, 3, 9, 8), (6, 3, 9, 8))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    result = run("train", artifacts, "--data", data, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    said = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    first, *more = [line for line in said if not line.startswith(("Also: ", "It fits with "))]
    assert message in first or message in said[-1]
    assert len(more) <= 1, said
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_library_that_is_not_there_is_told_with_the_command_that_installs_it(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = run("train", artifacts, "--data", tmp_path / "data.h5")
    assert result.exit_code == 2
    assert "pip install 'tgdonnx[hdf5]'" in result.stderr


def test_the_drop_test_reads_pictures_with_the_same_options(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    data = pictures(tmp_path / "data")
    found = run_json("sweep", vendor, "--data", data, "--map", "noisy=x", "--scale", 255, "--phi", 0.3)
    plain = np.stack([np.asarray(Image.open(data / "noisy" / f"{name}.png")) for name in "abcde"])
    np.savez(tmp_path / "plain.npz", x=np.moveaxis(plain, -1, 1).astype(np.float32) / np.float32(255))
    expected = run_json("sweep", vendor, "--data", tmp_path / "plain.npz", "--phi", 0.3)
    assert found["points"] == expected["points"]
    said = run("mask", vendor, "-o", tmp_path / "masked.onnx", "--last", 1, "--scale", 255)
    assert "are for the drop test, which only --phi auto does" in said.stderr


def test_phi_auto_reads_the_training_data_with_its_options(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    data = pictures(tmp_path / "data")
    (data / "noisy").rename(data / "x")
    report = run_json(
        *("finetune", vendor, "-o", tmp_path / "tuned.onnx", "--phi", "auto", "--tolerance", 5, "--data", data),
        *("--scale", "minmax", "--scale", "target=255", "--patch", "8x8", "--patches-per-epoch", 4, "--epochs", 1),
    )
    assert report["verify"]["ok"] is True


def test_finetune_takes_the_same_options(tmp_path: Path) -> None:
    vendor = models.save(models.dncnn(0), tmp_path / "vendor.onnx")
    data = pictures(tmp_path / "data")
    report = run_json(
        *("finetune", vendor, "-o", tmp_path / "tuned.onnx", "--phi", 0.3, "--data", data, "--map", "noisy=x"),
        *("--scale", 255, "--patch", "8x8", "--patches-per-epoch", 4, "--batch", 4, "--epochs", 3),
    )
    assert report["train"]["steps"] == 3
    assert report["verify"]["ok"] is True
