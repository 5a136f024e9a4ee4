"""Mode adapter from the shell."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.cli.commands import run, run_json, save_pairs
from tests.support import models

SHAPE = (6, 3, 9, 8)


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_pairs(tmp_path / "data.npz", SHAPE, SHAPE)


def test_mask_takes_all_layers_and_tells_what_is_added(vendor: Path, tmp_path: Path) -> None:
    said = ("--mode", "adapter", "--rank", 3, "--seed", 2)
    found = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", *said)
    options = tgdonnx.MaskOptions("adapter", adapter=tgdonnx.Adapter(3, 2))
    report = tgdonnx.mask(vendor, tmp_path / "library.onnx", tgdonnx.AllLayers(), options)
    assert (tmp_path / "masked.onnx").read_bytes() == (tmp_path / "library.onnx").read_bytes()
    expected = {"strategy": "all", "mode": "adapter", "round": 1, "rank": 3, "seed": 2}
    assert found["selection"] == report.selection == expected
    weights = sum(path["weights"] for path in found["added"])
    text = " ".join(run("mask", vendor, "-o", tmp_path / "again.onnx", *said).stdout.split())
    assert f"{len(found['added'])} side paths are added, of {weights:,} weights; nothing else trains" in text


def test_from_the_model_to_the_proof(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--mode", "adapter", "--rank", 2, "--data", data, "--steps", 2, "--batch", 3)
    page = ("--report", tmp_path / "page.html")
    done = run("finetune", vendor, "-o", tmp_path / "tuned.onnx", *said, *page, "--artifacts", tmp_path / "run")
    assert done.exit_code == 0, done.stderr
    assert "nothing is added but side paths" in " ".join(done.stdout.split())
    assert run("export", tmp_path / "run", "-o", tmp_path / "merged.onnx", "--merge").exit_code == 0
    for name, added in (("tuned", True), ("merged", False)):
        report = run_json("verify", vendor, tmp_path / f"{name}.onnx")
        assert (report["ok"], report["proof"], bool(report["added"])) == (True, "recomputed", added)
    told = run("report", tmp_path / "run", "-o", tmp_path / "merged.html", "--tuned", tmp_path / "merged.onnx")
    assert told.exit_code == 0, told.stderr
    assert "side paths" in (tmp_path / "merged.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("--mode", "adapter", "--phi", 0.3), "side paths go beside whole layers, and phi selects single filters"),
        (("--all", "--rank", 3), "--rank is for --mode adapter; the mode is paper"),
        (("--mode", "adapter", "--rank", 0), "0 is not in the range x>=1"),
        (("--mode", "adapter", "--all", "--last", 2), "expected exactly one of"),
        (("--mode", "adapter", "--isolate"), "--isolate is for --mode regrow; the mode is adapter"),
    ],
)
def test_what_does_not_go_together_is_refused(
    said: tuple[object, ...], reason: str, vendor: Path, tmp_path: Path
) -> None:
    done = run("mask", vendor, "-o", tmp_path / "masked.onnx", *said)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.split())
    assert not (tmp_path / "masked.onnx").exists()
