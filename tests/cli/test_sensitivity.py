"""Selections by the gradient on new data, and their control, from the shell."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

import tgdonnx
from tests.cli.commands import run, run_json, save_pairs
from tests.support import models
from tgdonnx.layers import open_network
from tgdonnx.sensitivity import measured

SHAPE = (6, 3, 7, 8)


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_pairs(tmp_path / "data.npz", SHAPE, SHAPE)


def test_mask_measures_on_its_data_with_its_loss_and_seed(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--fisher", 0.3, "--data", data, "--loss", "l1", "--seed", 3)
    found = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", *said)
    given = (tgdonnx.RunData(data), tgdonnx.BuildOptions(loss="l1"), tgdonnx.TrainOptions(seed=3))
    strategy = measured(tgdonnx.FisherFilters(0.3), open_network(vendor), *given)
    report = tgdonnx.mask(vendor, tmp_path / "library.onnx", strategy)
    assert (tmp_path / "masked.onnx").read_bytes() == (tmp_path / "library.onnx").read_bytes()
    assert found["selection"] == report.selection
    assert found["selection"]["measured"] == 6


def test_mask_draws_by_its_seed(vendor: Path, tmp_path: Path) -> None:
    found = run_json("mask", vendor, "-o", tmp_path / "masked.onnx", "--random", 0.3, "--seed", 4)
    assert found["selection"] == {"strategy": "random", "fraction": 0.3, "draw": 4, "mode": "paper", "round": 1}


def test_finetune_trains_the_steepest_and_its_page_says_so(vendor: Path, data: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = ("--steepest", 0.3, "--data", data, "--steps", 2, "--batch", 3, "--report", page)
    done = run("finetune", vendor, "-o", tmp_path / "tuned.onnx", *said)
    assert done.exit_code == 0, done.stderr
    assert "in part, the evidence's own word is taken" in " ".join(done.stdout.split())
    found = run_json("verify", vendor, tmp_path / "tuned.onnx")
    assert (found["ok"], found["proof"]) == (True, "recorded")
    assert "the list is the masked model's own word" in html.unescape(page.read_text("utf-8"))
    assert "largest mean gradient on the new data" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("--steepest", 0.3), "look at the gradient on the data to train on; name it with --data"),
        (("--all", "--loss", "l1"), "--loss is for --steepest and --fisher"),
        (("--all", "--data", "x.npz"), "only --phi auto does, and for --steepest and --fisher"),
        (("--random", 1.5), "expected a fraction of the weights above 0 and at most 1, got 1.5"),
    ],
)
def test_what_does_not_go_together_is_told(said: tuple[object, ...], reason: str, vendor: Path, tmp_path: Path) -> None:
    done = run("mask", vendor, "-o", tmp_path / "masked.onnx", *said)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.split())
    assert not (tmp_path / "masked.onnx").exists()
