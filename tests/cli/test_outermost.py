"""The outermost layer, in processes of its own: streams that fail, signals, names that a terminal would obey."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import click
import onnx
import pytest
from click.testing import CliRunner

from tests.cli.commands import run
from tests.support import models
from tgdonnx.cli import main
from tgdonnx.cli.outermost import Outermost

ROOT = Path(__file__).parents[2]
HOSTILE = "[/bold][link=x]\x1b[31m\u202e\n\u200b'\""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    model = models.dncnn(0)
    for node in model.graph.node:
        node.name = node.name + HOSTILE
        node.input[:] = [name + HOSTILE if name.startswith("w") else name for name in node.input]
    for tensor in model.graph.initializer:
        tensor.name += HOSTILE if tensor.name.startswith("w") else ""
    return models.save(model, tmp_path / "hostile.onnx")


def tgdonnx(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tgdonnx", *map(str, arguments)]
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120, "check": False}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(command, env=environment, **{**given, **options})


def closed(*numbers: int) -> Any:
    return lambda: [os.close(number) for number in numbers]


@pytest.mark.parametrize("arguments", [("mask", "--help"), ("inspect", "M"), ("score", "M", "--json")])
def test_output_on_a_full_disk_is_a_sentence_and_status_2(arguments: tuple[str, ...], vendor: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = tgdonnx(*(vendor if word == "M" else word for word in arguments), stdout=full)
    assert done.returncode == 2
    assert b"No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("--help",), ("inspect", "M"), ("score", "M", "--json")])
def test_a_reader_that_has_left_ends_the_command_quietly_as_sigpipe_would(
    arguments: tuple[str, ...], vendor: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    done = tgdonnx(*(vendor if word == "M" else word for word in arguments), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("numbers", "arguments", "status"),
    [((1,), ("inspect", "M"), 0), ((2,), ("inspect", "nowhere"), 2), ((0, 1, 2), ("inspect", "nowhere"), 2)],
)
def test_closed_streams_change_no_exit_status(
    numbers: tuple[int, ...], arguments: tuple[str, ...], status: int, vendor: Path
) -> None:
    arguments = tuple(str(vendor) if word == "M" else word for word in arguments)
    assert tgdonnx(*arguments, preexec_fn=closed(*numbers)).returncode == status


def test_a_file_is_never_written_in_the_place_of_a_closed_stream(vendor: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked.onnx"
    assert tgdonnx("mask", vendor, "-o", masked, "--all", preexec_fn=closed(0, 1, 2)).returncode == 0
    onnx.checker.check_model(masked)


def test_errors_on_a_full_disk_still_have_their_status(vendor: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        assert tgdonnx("inspect", "nowhere", stderr=full).returncode == 2
        assert tgdonnx("mask", vendor, stderr=full).returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("arguments", [("inspect",), ("score",), ("trace",), ("score", "--json")])
def test_any_encoding_of_the_terminal_will_do(encoding: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    model = models.dncnn(0)
    model.graph.node[0].name = "Büro 权重×"
    path = models.save(model, tmp_path / "Büro ×.onnx")
    command = [arguments[0], str(path), *arguments[1:]]
    done = CliRunner(charset=encoding).invoke(main, command, catch_exceptions=False)
    assert (done.exit_code, done.stderr) == (0, "")
    if "--json" in arguments:
        assert json.loads(done.stdout)["layers"][0]["node"] == "Büro 权重×"
    else:
        assert (r"\u6743" in done.stdout) == (encoding != "utf-8")


def test_an_encoding_from_the_environment_will_do_too(tmp_path: Path) -> None:
    path = models.save(models.dncnn(0), tmp_path / "×.onnx")
    done = tgdonnx("inspect", path, env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"8x3x3x3" in done.stdout


def test_in_the_locale_c_a_file_name_of_bytes_is_shown_escaped(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\x1b[31m.onnx"
    Path(os.fsdecode(path)).write_bytes(models.dncnn(0).SerializeToString())
    command = [sys.executable, "-m", "tgdonnx", "inspect", path]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\udcff\x1b[31m.onnx" in done.stdout


def test_ctrl_c_while_starting_is_status_130_without_a_traceback(tmp_path: Path) -> None:
    # In the place of a library that takes long to import, and would take KeyboardInterrupt for a failure of its own.
    (tmp_path / "onnx.py").write_text(
        "import time\nprint('importing', flush=True)\n"
        "try: time.sleep(60)\nexcept BaseException as error: raise ImportError('failed') from error\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tgdonnx", "inspect", "x"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"importing\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, b"")


@pytest.mark.parametrize("verbose", [False, True])
def test_warnings_and_logs_of_libraries_show_with_verbose_only(verbose: bool) -> None:
    code = (
        "import logging, sys, warnings, click, tgdonnx.__main__ as entry, tgdonnx.cli\n"
        "logging.basicConfig()\n"  # as some libraries do when they are imported
        "def command():\n"
        "    warnings.warn('said by a warning')\n"
        "    logging.getLogger('library').error('said by a log')\n"
        "tgdonnx.cli.main.add_command(click.Command('x', callback=command))\n"
        f"sys.argv = {['tgdonnx', *(['--verbose'] if verbose else []), 'x']}\n"
        "entry.main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    for said in ("said by a warning", "said by a log"):
        assert (said in done.stderr) == verbose, done.stderr


def test_where_the_parent_ignores_sigint_it_stays_ignored() -> None:
    code = (
        "import signal, tgdonnx.__main__ as entry\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "import tgdonnx.cli; tgdonnx.cli.main = lambda **_: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
        "try: entry.main()\n"
        "except AssertionError: pass\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert done.stdout.strip() == b"True", done.stderr


def test_nothing_heavy_is_imported_before_ctrl_c_is_answered() -> None:
    code = "import sys, tgdonnx.__main__; print(sorted({'numpy', 'onnx', 'click', 'rich', 'onnxruntime'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60, check=False)
    assert done.stdout.strip() == b"[]", done.stderr


def raising(error: BaseException) -> Outermost:
    @click.group(cls=Outermost)
    @click.option("--verbose", is_flag=True)
    def group(verbose: bool) -> None:
        pass

    @group.command()
    def fall() -> None:
        raise error

    return group


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device"), 2, "No space left on device; free some"),
        (RecursionError("too deep"), 2, "a fault of tgdonnx"),
        (KeyError("\x1b[31m"), 2, "a fault of tgdonnx"),
        (click.UsageError("got \x1b[31m\nError: b"), 2, r"got \x1b[31m\nError: b"),
        (BrokenPipeError(), 141, None),
    ],
)
def test_every_end_has_a_status_and_a_sentence(error: BaseException, status: int, said: Optional[str]) -> None:
    result = CliRunner().invoke(raising(error), ["fall"])
    assert result.exit_code == status
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr
    assert said in result.stderr if said is not None else not result.stderr


@pytest.mark.parametrize("command", [None, *sorted(main.commands)])
def test_help_holds_no_control_characters_and_no_spelled_out_ones(command: Optional[str]) -> None:
    text = run(*([command] if command else []), "--help").stdout
    assert "\\b" not in text
    assert all(character == "\n" or character.isprintable() for character in text)


def test_names_in_tables_and_messages_are_never_obeyed(hostile: Path, tmp_path: Path) -> None:
    masked = tmp_path / "masked.onnx"
    commands = (
        ("inspect", hostile),
        ("score", hostile),
        ("trace", hostile),
        ("check", hostile),
        ("mask", hostile, "-o", masked, "--phi", 0.3),
        ("verify", hostile, hostile),
        ("trace", hostile, "--layer", HOSTILE),
        ("mask", hostile, "-o", tmp_path / HOSTILE / "x.onnx", "--all"),
        ("inspect", tmp_path / HOSTILE),
        ("check", hostile, "--output", HOSTILE),
        (HOSTILE,),
        ("inspect", hostile, HOSTILE),
        ("mask", hostile, "-o", masked, "--mode", HOSTILE),
    )
    for arguments in commands:
        told = run(*arguments).output
        assert "fault of tgdonnx" not in told, arguments
        assert not [c for c in told if c != "\n" and not c.isprintable()], arguments
    assert r"[/bold][link=x]\x1b[31m\u202e\n\u200b" in run("trace", hostile).stdout


def test_a_name_of_100_000_characters_is_shortened_where_people_read_and_whole_in_json(tmp_path: Path) -> None:
    model = models.dncnn(0)
    model.graph.node[0].name = "n" * 100_000
    path = models.save(model, tmp_path / "long.onnx")
    for command in ("inspect", "score", "trace"):
        assert len(run(command, path).output) < 20_000, command
    assert len(run("trace", path, "--layer", "m" * 100_000).stderr) < 2_000
    assert json.loads(run("trace", path, "--json").stdout)["layers"][0]["node"] == "n" * 100_000


def test_json_is_exact_and_holds_no_character_that_a_terminal_obeys(hostile: Path) -> None:
    text = run("trace", hostile, "--json").stdout
    assert all(character == "\n" or character.isprintable() for character in text)
    assert json.loads(text)["layers"][0]["node"] == f"conv1{HOSTILE}"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(OSError(28, "No space left on device"), 2, "No space left"), (BrokenPipeError(), 141, "")],
)
def test_what_fails_when_the_last_of_the_output_is_written_has_its_status_too(
    error: OSError, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(io.StringIO):
        def flush(self) -> None:
            raise error

    monkeypatch.setattr(sys, "stdout", Failing())
    group = Outermost("group", params=[click.Option(["--verbose"], is_flag=True)])
    group.add_command(click.Command("nothing"))
    with pytest.raises(SystemExit) as ended:
        group.main(["nothing"])
    assert ended.value.code == status
    assert said in capsys.readouterr().err
