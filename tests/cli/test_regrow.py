"""Mode regrow from the shell."""

from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.cli.commands import run, run_json
from tgdonnx import Reinitialization

MODE = ("--phi", 0.3, "--mode", "regrow", "--tolerance", 100)


def test_mask_writes_what_the_library_writes_and_tells_the_change(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--rebirth", "calibrated", "--calibrate", data, "--isolate", "--seed", 3)
    found = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", *MODE, *said)
    reinitialization = Reinitialization("calibrated", data, isolate=True, tolerance=100, seed=3)
    report = tgdonnx.mask(
        vendor,
        tmp_path / "library.onnx",
        tgdonnx.Phi(0.3),
        tgdonnx.MaskOptions(mode="regrow", reinitialization=reinitialization),
    )
    assert (tmp_path / "masked.onnx").read_bytes() == (tmp_path / "library.onnx").read_bytes()
    assert found["selection"] == report.selection
    chosen = {"mode": "regrow", "rebirth": "calibrated", "isolate": True, "seed": 3, "samples": 6}
    assert chosen.items() <= found["selection"].items()
    text = " ".join(run("mask", vendor, "-o", tmp_path / "again.onnx", *MODE, *said).stdout.split())
    filters, change = found["selection"]["reborn"], found["selection"]["change"]
    assert (
        f"{filters} filters are reinitialised (calibrated); at the start the output differs from the vendor's by {change:.3g}"
        in text
    )
    assert "on 6 samples" in text


def test_without_images_the_change_is_told_on_random_input(vendor: Path, tmp_path: Path) -> None:
    result = run("mask", vendor, "-o", tmp_path / "masked.onnx", *MODE)
    assert "filters are reinitialised (clone)" in " ".join(result.stdout.split())
    assert "on random input" in " ".join(result.stdout.split())


def test_above_the_tolerance_nothing_is_written(vendor: Path, tmp_path: Path) -> None:
    result = run("mask", vendor, "-o", tmp_path / "masked.onnx", "--phi", 0.3, "--mode", "regrow", "--tolerance", 1e-4)
    assert result.exit_code == 2
    assert "and 0.0001 is the tolerance; select fewer filters, or raise the tolerance" in " ".join(
        result.stderr.split()
    )
    assert not (tmp_path / "masked.onnx").exists()


def test_the_tolerance_of_phi_auto_is_that_of_the_start(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--phi", "auto", "--data", data, "--mode", "regrow", "--calibrate", data, "--tolerance", 0.05)
    found = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", *said)
    assert found["selection"]["tolerance"] == 0.05
    assert found["selection"]["change"] <= 0.05


@pytest.mark.parametrize("option", [("--rebirth", "clone"), ("--calibrate", "x.npz"), ("--isolate",)])
@pytest.mark.parametrize("command", ["mask", "finetune"])
def test_options_of_reinitialization_in_another_mode_are_refused(
    command: str, option: tuple[str, ...], vendor: Path, data: Path, tmp_path: Path
) -> None:
    more = ("--data", data) if command == "finetune" else ()
    result = run(command, vendor, "-o", tmp_path / "out.onnx", "--phi", 0.3, "--mode", "readers", *option, *more)
    assert result.exit_code == 2
    assert f"{option[0]} is for --mode regrow; the mode is readers" in result.stderr


@pytest.mark.parametrize("selection", [("--last", 1), ("--first", 1), ("--all",)])
def test_selections_of_whole_layers_are_refused(selection: tuple[object, ...], vendor: Path, tmp_path: Path) -> None:
    result = run("mask", vendor, "-o", tmp_path / "masked.onnx", *selection, "--mode", "regrow")
    assert result.exit_code == 2
    assert "a selection of whole layers names none" in " ".join(result.stderr.split())


def test_finetune_in_mode_regrow_proves_itself(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--rebirth", "clone", "--isolate", "--seed", 4, "--steps", 2, "--batch", 3)
    found = run_json("finetune", vendor, "-o", tmp_path / "tuned.onnx", "--data", data, *MODE, *said)
    assert found["verify"]["ok"]
    chosen = {"mode": "regrow", "rebirth": "clone", "isolate": True, "seed": 4}
    assert chosen.items() <= found["mask"]["selection"].items()


def test_compare_takes_reinitialization_and_images(vendor: Path, data: Path, tmp_path: Path) -> None:
    select = "phi-regrow:0.3,phi-regrow-isolate:0.3"
    said = ("--select", select, "--rebirth", "calibrated", "--calibrate", data, "--tolerance", 100)
    budget = ("--steps", 2, "--batch", 3, "--validation", data)
    found = run_json("compare", vendor, "-o", tmp_path / "c", "--data", data, *said, *budget)
    assert [entry["selection"]["isolate"] for entry in found["entries"]] == [False, True]
    assert {entry["selection"]["rebirth"] for entry in found["entries"]} == {"calibrated"}
    result = run(
        "compare", vendor, "-o", tmp_path / "c", "--data", data, "--select", select, "--tolerance", 100, *budget
    )
    assert result.exit_code == 2
    assert "holds a comparison with" in result.stderr
