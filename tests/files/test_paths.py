from __future__ import annotations

from pathlib import Path

import pytest

import tgdonnx
from tests.cli.commands import run
from tests.support import models
from tgdonnx.errors import OutputError
from tgdonnx.files.paths import why_unusable, why_unwritable

UNUSABLE = ("a\x00b", "n" * 300, "d/" * 2_500 + "x", "\ud800", "loop/x")


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    models.save(models.dncnn(0), Path("vendor.onnx"))
    return tmp_path


@pytest.mark.parametrize("path", UNUSABLE)
def test_a_path_that_no_file_can_have_is_told_by_its_reason(path: str, inside: Path) -> None:
    assert why_unusable(path)


@pytest.mark.parametrize(
    "path", ["vendor.onnx", "nowhere", "vendor.onnx/x", "no/where", ".", "b\udcff", "[/bold]\x1b\n"]
)
def test_a_path_that_a_file_can_have_is_usable_whether_or_not_there_is_one(path: str, inside: Path) -> None:
    assert why_unusable(path) == ""


@pytest.mark.parametrize(
    ("path", "writable"), [("x", True), ("n" * 240, False), (".", True), ("/", True), ("..", True)]
)
def test_a_path_is_writable_if_its_longer_name_while_it_is_written_can_be_one(
    path: str, writable: bool, inside: Path
) -> None:
    assert (why_unwritable(path) == "") == writable
    assert why_unusable(path) == ""


@pytest.mark.parametrize("path", [*UNUSABLE, ""])
@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "PATH"),
        ("verify", "vendor.onnx", "PATH"),
        ("mask", "vendor.onnx", "--all", "-o", "PATH"),
        ("mask", "vendor.onnx", "-o", "masked.onnx", "--filters", "PATH"),
        ("finetune", "vendor.onnx", "--all", "-o", "tuned.onnx", "--data", "PATH"),
        ("finetune", "vendor.onnx", "--all", "-o", "tuned.onnx", "--noise2noise", "vendor.onnx", "PATH"),
        ("sweep", "vendor.onnx", "--data", "x.npz", "--plot", "PATH"),
        ("train", "PATH", "--data", "x.npz"),
        ("train", "artifacts", "--data", "x.npz", "--config", "PATH"),
        ("report", "PATH", "-o", "x.html"),
    ],
)
def test_every_command_refuses_it_in_a_sentence(arguments: tuple[str, ...], path: str, inside: Path) -> None:
    before = sorted(inside.iterdir())
    result = run(*(path if word == "PATH" else word for word in arguments))
    assert result.exit_code == 2
    assert "can be no file" in result.stderr if path else "expected a path" in result.stderr
    assert len(result.stderr) < 1_000
    assert sorted(inside.iterdir()) == before


@pytest.mark.parametrize("arguments", [("inspect", "-"), ("mask", "vendor.onnx", "--all", "-o", "-")])
def test_a_dash_is_neither_stdin_nor_stdout_nor_silently_a_file(arguments: tuple[str, ...], inside: Path) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "name a file, or ./- if it is called so" in result.stderr
    assert not Path("-").exists()
    assert run("mask", "vendor.onnx", "--all", "-o", "./-").exit_code == 0
    assert Path("-").is_file()


@pytest.mark.parametrize("path", UNUSABLE)
def test_functions_refuse_to_write_there(path: str, inside: Path) -> None:
    with pytest.raises(OutputError, match="can be no file"):
        tgdonnx.mask("vendor.onnx", path, tgdonnx.AllLayers())


@pytest.mark.parametrize("name", ["n" * 235 + ".onnx", "ü" * 118 + ".onnx"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("mask", "vendor.onnx", "--all"),
        ("build", "vendor.onnx"),
        ("finetune", "vendor.onnx", "--all", "--data", "x.npz"),
    ],
)
def test_a_name_that_is_too_long_while_it_is_written_is_refused_before_any_work(
    arguments: tuple[str, ...], name: str, inside: Path
) -> None:
    Path(name).touch()  # the name itself is none too long
    Path(name).unlink()
    result = run(*arguments, "-o", name)
    assert result.exit_code == 2
    assert "can be no file: File name too long" in result.stderr
    assert sorted(path.name for path in inside.iterdir()) == ["loop", "vendor.onnx"]
