"""No command writes over what it reads, over a file of an artifacts directory, or writes two things to one place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import tgdonnx
from tests.support import models
from tests.support.tuning import data_for, options_for
from tgdonnx.cli import main
from tgdonnx.cli.paths import OutputPath
from tgdonnx.files.outputs import Kind

# What every input is given as: a place in the fixture. A new path of a command is an `OutputPath`, or stands here.
INPUTS = {
    "model": "vendor/model.onnx",
    "base": "vendor/model.onnx",
    "vendor": "vendor/model.onnx",
    "tuned": "tuned.onnx",
    "masked": "masked.onnx",
    "directory": "artifacts",
    "artifacts": "artifacts",
    "data": "data.npz",
    "validation": "validation.npz",
    "retain": "retain.npz",
    "held_out": "held_out.npz",
    "classes": "classes.txt",
    "agree": "agree.npz",
    "pair": "noisy.npy",
    "calibrate": "calibrate.npz",
    "sweep_data": "sweep.npz",
    "filters": "filters.json",
    "apply": "image.npy",
    "acceptance": "criteria.toml",
    "config": "config.toml",
    "jobs": "jobs.csv",
}
ARTIFACTS = (
    *("state.safetensors", "state.best.safetensors", "manifest.json", "run.json", "log.jsonl", "log.csv"),
    *("masked.onnx", "masked.onnx.data", "step.onnx", "gradients.onnx", "update.onnx", "eval.onnx", ".lock"),
)


def path_parameters(command: click.Command) -> list[click.Parameter]:
    return [parameter for parameter in command.params if isinstance(parameter.type, click.Path)]


def outputs_of(command: click.Command) -> list[click.Parameter]:
    return [parameter for parameter in path_parameters(command) if isinstance(parameter.type, OutputPath)]


def inputs_of(command: click.Command) -> list[click.Parameter]:
    return [parameter for parameter in path_parameters(command) if not isinstance(parameter.type, OutputPath)]


PAIRS = [
    pytest.param(command, written, read, id=f"{name}: {written.name} on {read.name}")
    for name, command in main.commands.items()
    for written in outputs_of(command)
    for read in inputs_of(command)
]
WRITTEN = [
    pytest.param(command, written, id=f"{name}: {written.name}")
    for name, command in main.commands.items()
    for written in outputs_of(command)
]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("once")
    (root / "vendor").mkdir()
    vendor = root / "vendor" / "model.onnx"
    onnx.save(models.dncnn(0), vendor, save_as_external_data=True, location="w.bin", size_threshold=0)
    for name in INPUTS.values():
        if name.endswith(".npz"):
            np.savez(root / name, **data_for(models.dncnn(0)))
        if name.endswith(".npy"):
            np.save(root / name, np.zeros((2, 3, 8, 8), np.float32))
    (root / "classes.txt").write_text("one\ntwo\n")
    (root / "filters.json").write_text(json.dumps({"w1": [0]}))
    (root / "criteria.toml").write_text(
        'format = 1\n[[criteria]]\nmetric = "psnr"\ndirection = "at-least"\nlimit = 1\n'
    )
    (root / "config.toml").write_text("epochs = 1\n")
    (root / "jobs.csv").write_text("name,last\nfirst,1\n")
    tgdonnx.mask(vendor, root / "masked.onnx", tgdonnx.Phi(0.35))
    tgdonnx.build(root / "masked.onnx", root / "artifacts")
    tgdonnx.train(
        root / "artifacts", tgdonnx.RunData(root / "data.npz", validation=root / "validation.npz"), options_for()
    )
    tgdonnx.export(root / "artifacts", root / "tuned.onnx")
    return root


@pytest.fixture
def root(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(once, tmp_path / "root")
    record = tmp_path / "root" / "artifacts" / "run.json"  # it names data by absolute paths
    record.write_text(record.read_text().replace(str(once), str(tmp_path / "root")))
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def tree(root: Path) -> dict[str, Optional[bytes]]:
    """Everything in a directory: files with their bytes, links with where they lead, directories."""
    found: dict[str, Optional[bytes]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        found[name] = (
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
    return found


def given(parameter: click.Parameter, value: str) -> list[str]:
    values = [value] * parameter.nargs
    return values if isinstance(parameter, click.Argument) else [parameter.opts[0], *values]


def run(command: click.Command, chosen: dict[str, str], read: Optional[click.Parameter] = None) -> Result:
    """Runs a command with its required inputs, another one, and the outputs that are chosen."""
    words = []
    for parameter in path_parameters(command):
        if parameter.name in chosen:
            words += given(parameter, chosen[parameter.name])
        elif isinstance(parameter.type, OutputPath):
            words += given(parameter, f"new-{parameter.name}") if parameter.required else []
        elif (
            parameter.required
            or parameter is read
            or (parameter.name == "data" and (read is None or read.name != "pair"))
        ):
            words += given(parameter, INPUTS[str(parameter.name)])
    if any(parameter.name == "overwrite" for parameter in command.params):
        words.append("--overwrite")
    if any(parameter.name == "everything" for parameter in command.params):
        words.append("--all")
    name = next(name for name, each in main.commands.items() if each is command)
    return CliRunner().invoke(main, [name, *words])


def refused(result: Result, before: dict[str, Optional[bytes]], root: Path) -> None:
    assert result.exit_code == 2, result.output
    assert "Error: " in result.output
    assert "Usage:" not in result.output
    said = ("never overwritten", "of the artifacts", "would be overwritten", "is a file; expected a directory")
    assert any(words in result.output for words in said)
    assert tree(root) == before


def as_it_is(path: str) -> str:
    return path


def another_spelling(path: str) -> str:
    return f"./vendor/../{path}"


def symbolic_link(path: str) -> str:
    Path("link").symlink_to(Path(path).absolute())
    return "link"


def through_a_directory(path: str) -> str:
    Path("elsewhere").symlink_to(Path(path).absolute().parent)
    return f"elsewhere/{Path(path).name}"


def hard_link(path: str) -> str:
    if Path(path).is_dir():
        pytest.skip("directories have no hard links")
    os.link(path, "second")
    return "second"


SPELLINGS = [as_it_is, another_spelling, symbolic_link, through_a_directory, hard_link]


def test_every_path_of_every_command_is_known_to_be_read_or_written() -> None:
    for name, command in main.commands.items():
        for parameter in inputs_of(command):
            assert parameter.name in INPUTS, (
                f"is {parameter.name} of {name} read? Then say how; else make it an OutputPath"
            )
    written = {f"{name} {p.name}" for name, command in main.commands.items() for p in outputs_of(command)}
    assert written >= {
        "mask output",
        "export output",
        "report output",
        "finetune report",
        "train tensorboard",
        "score output",
    }
    assert "overwrite" in {p.name for p in main.commands["export"].params}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("command", "written", "read"), PAIRS)
def test_no_output_is_an_input(
    command: click.Command, written: click.Parameter, read: click.Parameter, spelling: Callable[[str], str], root: Path
) -> None:
    path = spelling(INPUTS[str(read.name)])
    before = tree(root)
    refused(run(command, {str(written.name): path}, read), before, root)


@pytest.mark.parametrize(("command", "written"), WRITTEN)
def test_no_output_is_external_data_of_an_input(command: click.Command, written: click.Parameter, root: Path) -> None:
    names = {str(parameter.name) for parameter in inputs_of(command)}
    datas = {"model": "vendor/w.bin", "masked": "masked.onnx.data", "tuned": "tuned.onnx.data"}
    for name in sorted(names & datas.keys()):
        read = next(parameter for parameter in inputs_of(command) if parameter.name == name)
        before = tree(root)
        refused(run(command, {str(written.name): datas[name]}, read), before, root)


@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.parametrize(("command", "written"), WRITTEN)
def test_no_output_is_a_file_of_an_artifacts_directory(
    command: click.Command, written: click.Parameter, name: str, root: Path
) -> None:
    before = tree(root)
    result = run(command, {str(written.name): f"artifacts/{name}"})
    if written.type.kind in (Kind.FILE, Kind.MODEL):  # type: ignore[attr-defined]
        refused(result, before, root)
    assert tree(root) == before or not (root / "artifacts" / name).exists()


def pairs_of_outputs() -> Iterator[object]:
    for name, command in main.commands.items():
        written = outputs_of(command)
        for index, first in enumerate(written):
            for second in written[:index]:
                yield pytest.param(command, first, second, id=f"{name}: {first.name} and {second.name}")


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(("command", "first", "second"), list(pairs_of_outputs()))
def test_two_outputs_are_not_one(
    command: click.Command, first: click.Parameter, second: click.Parameter, linked: bool, root: Path
) -> None:
    other = "new.file"
    if linked:
        Path("dangling").symlink_to("new.file")
        other = "dangling"
    before = tree(root)
    apply = next((parameter for parameter in inputs_of(command) if parameter.name == "apply"), None)
    result = run(command, {str(first.name): "new.file", str(second.name): other}, apply)
    assert result.exit_code == 2
    assert "both to be written" in result.output
    assert tree(root) == before


# What the vendor's model is, an artifacts directory and a run know without being told.


@pytest.mark.parametrize("path", ["vendor/model.onnx", "copy.onnx", "data.npz", "validation.npz", "vendor/w.bin"])
@pytest.mark.parametrize("name", ["export", "report"])
def test_what_an_artifacts_directory_was_made_from_is_not_overwritten(name: str, path: str, root: Path) -> None:
    shutil.copy("vendor/model.onnx", "copy.onnx")
    before = tree(root)
    result = CliRunner().invoke(main, [name, "artifacts", "-o", path, "--overwrite"])
    assert result.exit_code == 2
    assert any(words in result.output for words in ("never overwritten", "keeps weights there")), result.output
    assert tree(root) == before


def test_a_tuned_model_is_not_written_over_the_data_of_another(root: Path) -> None:
    before = tree(root)
    result = CliRunner().invoke(main, ["export", "artifacts", "-o", "tuned.onnx.data", "--overwrite"])
    assert result.exit_code == 2
    assert "tuned.onnx keeps weights there" in result.output
    assert tree(root) == before


# What may be written.


def test_a_report_and_a_tuned_model_may_be_in_the_artifacts_directory_and_survive_a_new_build(root: Path) -> None:
    for _ in range(2):
        for words in (
            ("report", "artifacts", "-o", "artifacts/report.html", "--overwrite"),
            ("export", "artifacts", "-o", "artifacts/tuned.onnx", "--overwrite"),
            ("build", "artifacts/masked.onnx", "-o", "artifacts", "--overwrite"),
        ):
            result = CliRunner().invoke(main, list(words))
            assert result.exit_code == 0, result.output
    assert not (root / "artifacts" / "run.json").exists()
    assert (root / "artifacts" / "report.html").is_file()
    assert tgdonnx.verify("vendor/model.onnx", "artifacts/tuned.onnx").ok


def test_an_input_in_a_directory_that_would_be_replaced_is_refused(root: Path) -> None:
    shutil.copy("masked.onnx", "artifacts/other.onnx")
    shutil.copy("masked.onnx.data", "artifacts/masked.onnx.data")
    before = tree(root)
    result = CliRunner().invoke(main, ["build", "artifacts/other.onnx", "-o", "artifacts", "--overwrite"])
    assert result.exit_code == 2
    assert "artifacts/other.onnx is in artifacts, so what is read would be overwritten" in result.output
    assert tree(root) == before


def test_earlier_results_are_overwritten_when_asked(root: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(main, ["mask", "vendor/model.onnx", "-o", "masked.onnx", "--all", "--overwrite"])
        assert result.exit_code == 0, result.output
        result = CliRunner().invoke(main, ["score", "vendor/model.onnx", "-o", "scores.json", "--overwrite"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", [".", "vendor", "nowhere/x.onnx", "data.npz/x.onnx"])
def test_a_directory_or_a_place_that_is_not_there_is_no_file_to_write(path: str, root: Path) -> None:
    before = tree(root)
    for words in (
        ("export", "artifacts", "-o", path, "--overwrite"),
        ("mask", "vendor/model.onnx", "--all", "-o", path, "--overwrite"),
        ("score", "vendor/model.onnx", "-o", path, "--overwrite"),
        ("report", "artifacts", "-o", path, "--overwrite"),
    ):
        result = CliRunner().invoke(main, list(words))
        assert result.exit_code == 2, result.output
        assert "is a directory" in result.output or "does not exist" in result.output or "ends in" in result.output
        assert tree(root) == before


def test_devices_and_pipes_are_not_replaced(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in ("pipe", "/dev/null"):
        result = CliRunner().invoke(main, ["export", "artifacts", "-o", path, "--overwrite"])
        assert result.exit_code == 2
        assert "is no regular file, and is not replaced" in result.output
    assert not Path("/dev/null").is_file()


def test_a_dangling_link_counts_as_something_that_is_there(root: Path) -> None:
    Path("t.onnx").symlink_to("nowhere")
    result = CliRunner().invoke(main, ["export", "artifacts", "-o", "t.onnx"])
    assert result.exit_code == 2
    assert "t.onnx exists; pass --overwrite" in result.output
