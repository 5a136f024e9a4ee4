"""The guides, and the command that shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import tgdonnx.guides
from tests.cli.commands import run, run_json
from tgdonnx.cli import guide, main
from tgdonnx.cli.output import stdout
from tgdonnx.guides import GUIDES, summary_of, text_of


def test_every_guide_in_the_package_is_listed() -> None:
    there = {path.stem for path in Path(tgdonnx.guides.__file__).parent.glob("*.md")}
    assert set(GUIDES) == there
    assert len(GUIDES) == len(there)


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_begins_with_its_title_and_says_in_a_sentence_what_it_is_about(name: str) -> None:
    text = text_of(name)
    assert text.startswith(f"# {name.capitalize()}\n\n")
    assert summary_of(name).endswith(".")
    assert len(summary_of(name)) <= 110
    assert "<!--" not in text


def test_the_list_has_every_guide_with_what_it_is_about() -> None:
    lines = run("guide").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(GUIDES)
    assert [line.split(None, 1)[1] for line in lines] == [summary_of(name) for name in GUIDES]
    assert run_json("guide")["guides"][0] == {"name": "data", "summary": summary_of("data")}


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_goes_to_a_file_as_it_is(name: str) -> None:
    assert run("guide", name).stdout == text_of(name)
    assert run_json("guide", name) == {"name": name, "text": text_of(name)}


def test_on_a_terminal_a_guide_is_rendered_and_no_wider_than_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    console = stdout()
    monkeypatch.setattr(type(console), "is_terminal", True)
    shown = CliRunner(env={"COLUMNS": "300", "TERM": "xterm"}).invoke(main, ["guide", "proof"]).stdout
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown)
    assert "## " not in plain
    assert "• identical: the files are the same; no record is needed." in plain
    assert max(map(len, plain.splitlines())) <= guide.WIDEST


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("selecton", "did you mean 'selections'?"),
        ("PROOF", "did you mean 'proof'?"),
        ("xyz", "there are data, selections,"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, said: str) -> None:
    result = run("guide", name)
    assert result.exit_code == 2
    assert f"there is no guide '{name}'" in result.output
    assert said in result.output
