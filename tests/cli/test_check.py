"""Codes from the shell: one explained, all listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import run, run_json
from tests.support import models
from tgdonnx.checking import CODES


@pytest.mark.parametrize("spelt", ["TGD105", "tgd105", "105"])
def test_a_code_is_explained_with_its_remedy_in_the_words_of_the_command_line(spelt: str) -> None:
    result = run("check", "--explain", spelt)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"TGD105 warning: {CODES['TGD105'].meaning}\n")
    assert "remedy: `tgdonnx build` and `tgdonnx train --dry-run`" in result.stdout
    assert [each["code"] for each in run_json("check", "--explain", spelt)["codes"]] == ["TGD105"]


def test_all_codes_are_listed() -> None:
    shown = run("check", "--list").stdout
    assert all(f"{each.code} " in shown and each.meaning in shown for each in CODES.values())
    assert [each["code"] for each in run_json("check", "--list")["codes"]] == list(CODES)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--explain", "TGD999"), "there is no code 'TGD999'; --list shows all"),
        (("--explain", "²"), "there is no code '²'"),
        ((), "expected MODEL; or --list, or --explain CODE, which need none"),
        (("model.onnx", "--list"), "leave MODEL out"),
    ],
)
def test_what_is_no_code_is_refused_with_what_is(arguments: tuple[str, ...], problem: str) -> None:
    result = run("check", *arguments)
    assert (result.exit_code, problem in result.stderr) == (2, True), result.stderr


def test_a_blocked_model_is_told_where_its_code_is_explained(tmp_path: Path) -> None:
    path = models.save(models.gated(0), tmp_path / "model.onnx")
    assert "next:" not in run("check", path).stdout
    result = run("check", path, "--output", "nonsense")
    assert result.exit_code == 1
    assert result.stdout.endswith("blocked\nnext: tgdonnx check --explain TGD002\n")
