"""The drop test from the shell, and what `--phi auto` makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tgdonnx
from tests.cli.commands import run, run_json, save_pairs
from tgdonnx.masked_model import read_masked


def test_the_document_is_the_report_of_the_library(vendor: Path, data: Path) -> None:
    found = run_json("sweep", vendor, "--data", data, "--phi", "0.7,0.1, 0.3", "--tolerance", 0.1, "--samples", 4)
    report = tgdonnx.sweep(vendor, data, phis=[0.1, 0.3, 0.7], tolerance=0.1, samples=4)
    assert [entry["phi"] for entry in found["points"]] == [0.1, 0.3, 0.7]
    assert [entry["change"] for entry in found["points"]] == [entry.change for entry in report.points]
    assert (found["recommended"], found["tolerance"]) == (report.recommended, 0.1)
    assert (found["samples"], found["available"]) == (4, 6)
    assert 0 < found["points"][0]["parameters"] < found["parameters"]


def test_status_is_0_with_a_recommendation_and_1_without(vendor: Path, data: Path) -> None:
    result = run("sweep", vendor, "--data", data)
    assert result.exit_code == 0
    recommended = tgdonnx.sweep(vendor, data).recommended
    assert f"recommended: phi {recommended:g}" in result.stdout
    assert result.stderr == ""
    result = run("sweep", vendor, "--data", data, "--tolerance", 1e-6)
    assert result.exit_code == 1
    assert "has no dead filters" in " ".join(result.stdout.split())
    assert run_json("sweep", vendor, "--data", data, "--tolerance", 1e-6, status=1)["recommended"] is None


def test_the_curve_is_drawn(vendor: Path, data: Path, tmp_path: Path) -> None:
    plot = tmp_path / "curve.png"
    run_json("sweep", vendor, "--data", data, "--phi", "0.3", "--plot", plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    result = run("sweep", vendor, "--data", tmp_path / "nowhere.npz", "--plot", plot)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr  # said before any work


def test_mask_takes_the_recommended_phi_and_records_it(vendor: Path, data: Path, tmp_path: Path) -> None:
    report = tgdonnx.sweep(vendor, data, tolerance=0.021)
    assert report.recommended is not None
    assert report.recommended < tgdonnx.sweep(vendor, data).recommended  # type: ignore[operator]
    masked = tmp_path / "masked.onnx"
    told = run_json("mask", vendor, "-o", masked, "--phi", "auto", "--data", data, "--tolerance", 0.021)
    assert told["selection"]["phi"] == report.recommended
    assert read_masked(masked).selection == {
        "strategy": "phi",
        "phi": report.recommended,
        "alpha": 1.0,
        "k": 5,
        "tolerance": 0.021,
        "mode": "paper",
        "round": 1,
    }
    other = tmp_path / "other.onnx"
    tgdonnx.mask(vendor, other, report.strategy())
    assert other.read_bytes() == masked.read_bytes()


def test_arrays_are_mapped_for_the_drop_test(vendor: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as arrays:
        np.savez(tmp_path / "other.npz", picture=arrays["x"], second=arrays["x"])
    arguments = ("-o", tmp_path / "masked.onnx", "--phi", "auto", "--data", tmp_path / "other.npz")
    assert "has no array 'x'" in run("mask", vendor, *arguments).stderr
    assert run("mask", vendor, *arguments, "--map", "picture=x").exit_code == 0


def test_finetune_looks_at_its_own_data_or_at_others(vendor: Path, data: Path, tmp_path: Path) -> None:
    recommended = tgdonnx.sweep(vendor, data).recommended
    arguments = ("finetune", vendor, "--data", data, "--phi", "auto", "--epochs", 1)
    result = run(*arguments, "-o", tmp_path / "tuned.onnx", "--json")
    assert result.exit_code == 0
    assert f"phi {recommended:g} by the drop test on 6 of 6 samples" in result.stderr
    few = save_pairs(tmp_path / "few.npz", (2, 3, 9, 8), (1,), x=np.ones((2, 3, 9, 8), np.float32) * 5)
    report = run_json(*arguments, "-o", tmp_path / "second.onnx", "--sweep-data", few, "--tolerance", 0.1)
    expected = tgdonnx.sweep(vendor, few, tolerance=0.1).recommended
    assert report["mask"]["selection"]["phi"] == expected != recommended
    assert report["mask"]["selection"]["tolerance"] == 0.1
    assert report["verify"]["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--phi", "auto"), "name them with --data"),
        (("--phi", "auto", "--data", "{data}", "--tolerance", "1e-6"), "no phi is recommended"),
        (("--phi", "auto", "--data", "{data}", "--all"), "exactly one of"),
        (("--phi", "some"), "expected a number or auto, got 'some'"),
        (("--phi", "0.3", "--data", "{data}"), "only --phi auto does"),
        (("--phi", "0.3", "--tolerance", "0.1"), "only --phi auto and --mode regrow do"),
        (("--last", "1", "--map", "a=b"), "only --phi auto does"),
    ],
)
def test_what_mask_refuses(arguments: tuple[str, ...], message: str, vendor: Path, data: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("mask", vendor, "-o", tmp_path / "m.onnx", *(a.format(data=data) for a in arguments))
    assert result.exit_code == 2
    assert message in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_sweep_data_is_for_phi_auto(vendor: Path, data: Path, tmp_path: Path) -> None:
    arguments = ("--phi", 0.3, "--sweep-data", data, "-o", tmp_path / "tuned.onnx")
    result = run("finetune", vendor, "--data", data, *arguments)
    assert result.exit_code == 2
    assert "only --phi auto does" in result.stderr


@pytest.mark.parametrize("phis", ["a,b", "0.3;0.4"])
def test_phis_that_are_no_numbers_are_refused(phis: str, vendor: Path, data: Path) -> None:
    result = run("sweep", vendor, "--data", data, "--phi", phis)
    assert result.exit_code == 2
    assert "expected --phi as numbers with commas between" in result.stderr
