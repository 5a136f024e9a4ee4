"""`finetune` from the shell, where nothing is said of what trains."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.cli.commands import run, run_json, save_pairs
from tests.support import models
from tgdonnx.cli import progress, sweep

SHAPE = (6, 3, 7, 8)


@pytest.fixture
def vendor(tmp_path: Path) -> Path:
    return models.save(models.dncnn(0), tmp_path / "vendor.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return save_pairs(tmp_path / "data.npz", SHAPE, SHAPE)


def test_model_and_data_are_enough(vendor: Path, data: Path, tmp_path: Path) -> None:
    done = run("finetune", vendor, "--data", data, "--epochs", 1, "-o", tmp_path / "tuned.onnx")
    assert done.exit_code == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert (
        "nothing is selected, so this trains: the filters below phi 0.65, reinitialised (mode regrow): the drop test"
        in told
    )
    assert run_json("verify", vendor, tmp_path / "tuned.onnx")["ok"]


@pytest.mark.parametrize("wrong", [("--best", "psnr"), ("--retain", "empty.npz"), ("--data", "nan.npz")])
def test_what_would_train_is_not_announced_where_the_run_is_refused(
    wrong: tuple[str, str], vendor: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pairs(Path("empty.npz"), (0, 3, 7, 8), (0, 3, 7, 8))
    save_pairs(Path("nan.npz"), SHAPE, SHAPE, target=np.full(SHAPE, np.nan, np.float32))
    given = {"--data": "data.npz", **dict([wrong])}
    done = run("finetune", vendor, *(word for pair in given.items() for word in pair), "-o", "tuned.onnx")
    assert done.exit_code == 2
    assert "this trains" not in done.stderr


def test_a_tolerance_may_be_said_with_it(vendor: Path, data: Path, tmp_path: Path) -> None:
    said = ("--data", data, "--epochs", 1, "--tolerance", 1e-6)
    done = run("finetune", vendor, *said, "-o", tmp_path / "tuned.onnx")
    assert done.exit_code == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert (
        "so this trains: side paths of rank 8 beside all layers (mode adapter): the drop test finds no filter" in told
    )
    assert "within the tolerance 1e-06" in told


@pytest.mark.parametrize(
    ("of_file", "said", "selected"),
    [
        ("phi = 0.3", ("--last", 1), "last"),
        ("phi = 'auto'", ("--all",), "all"),
        ("all = true", ("--phi", 0.4), "phi"),
        ("last = 1", ("--percentile", 40), "percentile"),
    ],
)
def test_a_selection_on_the_command_line_wins_over_another_of_the_file(
    of_file: str, said: tuple[object, ...], selected: str, vendor: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text(f"{of_file}\nmode = 'readers'\n")
    asked = (
        "finetune",
        vendor,
        "--data",
        data,
        "--config",
        tmp_path / "c.toml",
        "-o",
        tmp_path / "t.onnx",
        "--dry-run",
    )
    assert run_json(*asked, *said)["mask"]["selection"]["strategy"] == selected


def test_two_selections_of_a_file_are_refused(vendor: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("phi = 0.3\nlast = 1\n")
    done = run("finetune", vendor, "--data", data, "--config", tmp_path / "c.toml", "-o", tmp_path / "t.onnx")
    assert (done.exit_code, "got --phi, --last" in " ".join(done.stderr.split())) == (2, True)


def test_the_remedy_for_a_mode_without_a_selection_works(vendor: Path, data: Path, tmp_path: Path) -> None:
    asked = ("finetune", vendor, "--data", data, "--mode", "regrow", "-o", tmp_path / "tuned.onnx", "--dry-run")
    refused = run(*asked)
    assert (refused.exit_code, "`--phi auto`" in " ".join(refused.stderr.split())) == (2, True)
    assert run(*asked, "--phi", "auto").exit_code == 0


def test_two_selections_in_a_file_are_refused_with_its_name(vendor: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("phi = 0.3\nlast = 2\n")
    asked = ("finetune", vendor, "--data", data, "-o", tmp_path / "tuned.onnx", "--config", file)
    refused = run(*asked)
    assert refused.exit_code == 2
    assert f"got --phi, --last in {file}; keep one of them there" in " ".join(refused.stderr.split())
    both = run(*asked, "--first", 1, "--all")
    assert "got --first, --all" in " ".join(both.stderr.split())
    assert str(file) not in both.stderr


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (("--mode", "paper"), "expected exactly one of --phi"),
        (
            ("--mode", "readers"),
            "with --mode readers; got none. Where you do not know which filters, `--phi auto` has the",
        ),
        (("--rank", 3), "--rank is for --mode adapter; the mode is paper"),
        (("--isolate",), "--isolate is for --mode regrow; the mode is paper"),
        (("--sweep-data", "data.npz"), "only --phi auto does"),
        (("--protect",), "protection is asked for, but no filters are selected; select some, such as by --phi"),
    ],
)
def test_what_is_of_a_selection_is_refused_without_one(
    said: tuple[object, ...], reason: str, vendor: Path, data: Path, tmp_path: Path
) -> None:
    done = run("finetune", vendor, "--data", data, *said, "-o", tmp_path / "tuned.onnx")
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "vendor.onnx"]


@pytest.mark.parametrize("rehearsed", [(), ("--dry-run",)])
def test_on_a_terminal_the_drop_test_shows_how_far_it_is_and_then_training_does(
    rehearsed: tuple[str, ...], vendor: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    for module in (sweep, progress):
        monkeypatch.setattr(module, "stderr", lambda: console)
    done = run("finetune", vendor, "--data", data, "--epochs", 1, "-o", tmp_path / "tuned.onnx", *rehearsed)
    assert done.exit_code == 0, done.stderr
    assert "drop test" in shown.getvalue()
    assert ("epoch 1" in shown.getvalue()) == (not rehearsed)
