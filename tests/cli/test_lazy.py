"""Commands are imported when they are asked for, and what they do is known before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from tests.cli.commands import run
from tests.support import models
from tgdonnx.cli import COMMANDS, main
from tgdonnx.cli.lazy import LazyGroup

ROOT = Path(__file__).parents[2]
_LISTING = (
    "import json, sys, tgdonnx.__main__ as entry\n"
    "try: entry.main()\n"
    "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
)


def loaded(*arguments: object) -> set[str]:
    """Returns the modules that a command leaves in its process."""
    done = subprocess.run(
        [sys.executable, "-c", _LISTING, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr))


def test_the_help_of_all_commands_is_the_first_sentence_of_the_help_of_each() -> None:
    assert {name: command.get_short_help_str(1000) for name, command in main.commands.items()} == COMMANDS


def test_the_help_has_a_line_per_command_in_the_order_of_work_at_80_columns() -> None:
    lines = run("--help").output.splitlines()
    described = [line.split(maxsplit=1) for line in lines[lines.index("Before training:") :] if line.startswith("  ")]
    assert [tuple(line) for line in described] == list(COMMANDS.items())
    assert main.list_commands(click.Context(main)) == list(COMMANDS)
    stages = [
        name for name, _ in described if name in ("inspect", "mask", "build", "train", "export", "verify", "apply")
    ]
    assert stages == ["inspect", "mask", "build", "train", "export", "verify", "apply"]


def test_help_imports_no_command_and_no_library_but_click() -> None:
    modules = loaded("--help")
    assert not {"numpy", "onnx", "onnx_ir", "onnxruntime", "sympy", "rich", "msgspec", "matplotlib", "jinja2"} & modules
    assert not {f"tgdonnx.cli.{name}" for name in COMMANDS} & modules


def test_inspect_imports_neither_what_trains_nor_what_reads_data_nor_sympy(tmp_path: Path) -> None:
    modules = loaded("inspect", models.save(models.dncnn(0), tmp_path / "model.onnx"))
    assert not {"onnxruntime", "sympy.core", "matplotlib", "jinja2", "h5py", "nibabel", "pydicom", "PIL"} & modules
    rooms = {"artifacts", "data", "finetuning", "comparing", "sweeping", "regrowing", "applying", "pipeline", "runtime"}
    assert not {f"tgdonnx.{room}" for room in rooms} & modules


def test_the_help_of_a_command_imports_no_other(tmp_path: Path) -> None:
    assert "tgdonnx.cli.trace" in loaded("trace", "--help")
    assert not {"tgdonnx.cli.train", "tgdonnx.cli.compare", "onnxruntime"} & loaded("trace", "--help")


def test_an_unknown_command_is_refused_with_what_is_near_and_imports_none() -> None:
    result = run("finetun")
    assert result.exit_code == 2
    assert "No such command 'finetun'" in result.output


def test_a_command_that_is_added_is_there_beside_those_that_are_imported() -> None:
    group = LazyGroup(name="g", sections={"All": {"trace": COMMANDS["trace"]}})
    group.add_command(click.Command("mine"))
    assert sorted(group.commands) == ["mine", "trace"]
    assert group.commands["trace"] is main.commands["trace"]
    del group.commands["mine"]
    assert group.get_command(click.Context(group), "mine") is None


def test_without_a_command_the_help_is_shown_in_lines() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == run("--help").stdout
