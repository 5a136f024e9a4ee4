"""README and guides keep up with the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest

import tgdonnx
from tgdonnx.cli import main
from tgdonnx.guides import GUIDES

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import guide_tables  # scripts, no part of the package
from benchmark import Result, tables, write
from command_reference import REFERENCE, reference
from operator_table import OPERATORS, guide

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
TEXTS = {"README": README, **{name: (ROOT / f"tgdonnx/guides/{name}.md").read_text("utf-8") for name in GUIDES}}
WRITTEN = "\n".join(text for name, text in TEXTS.items() if name != "commands")
OPTIONS = [
    (name, parameter)
    for name, command in main.commands.items()
    for parameter in command.params
    if isinstance(parameter, click.Option)
]
# Of other programs, in commands that are shown.
FOREIGN = {"--check", "--dist", "--write", "--stock", "--help"}
FOREIGN |= {"--port", "--no-dashboard", "--nworkers", "--nthreads", "--scheduler-file"}  # of dask
FOREIGN |= {
    "--disable-runtime-dependency-installation",
    "--enable-supernode-auth",
    "--insecure",
    "--isolation",
}  # of Flower
FOREIGN |= {"--host", "--node-config", "--root-certificates", "--run-config", "--simulation", "--stream", "--superlink"}
FOREIGN |= {"--ssl-ca-certfile", "--ssl-certfile", "--ssl-keyfile", "--trusted-entities"}
FOREIGN |= {"--array", "--cpus-per-task", "--wrap"}  # of sbatch
# Where the command's own name is that of a room.
FUNCTIONS = {"data": "examine"}


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_is_shown_and_is_a_function(name: str) -> None:
    assert re.search(rf"\btgdonnx {name}\b", WRITTEN)
    assert name == "guide" or callable(getattr(tgdonnx, FUNCTIONS.get(name, name)))


def test_every_option_that_is_shown_exists() -> None:
    known = {option for _, parameter in OPTIONS for option in (*parameter.opts, *parameter.secondary_opts)}
    without_arrows = re.sub(r"--[a-z, ]+-->", "", WRITTEN)
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", without_arrows))
    assert shown - known <= FOREIGN
    assert len(shown) > 40


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_option_is_described_where_its_command_is(command: str, option: click.Option) -> None:
    assert option.help
    (section,) = re.findall(rf"^## tgdonnx {command}\n\n```text\n(.*?)^```$", TEXTS["commands"], re.M | re.S)
    told = section[section.index("\n\n") :]
    for name in option.opts:
        assert re.search(rf"^  (?:.*, )?{re.escape(name)}\b", told, re.M), name
    assert unbroken(option.help) in unbroken(told)


def test_the_reference_of_commands_is_what_help_says() -> None:
    assert unbroken(REFERENCE.read_text("utf-8")) == unbroken(reference()), (
        "write it: python tools/command_reference.py"
    )


def test_the_table_of_operators_is_what_the_rules_say() -> None:
    assert OPERATORS.read_text("utf-8") == guide(), "write it: python tools/operator_table.py"


def unbroken(text: str) -> str:
    """Text without space: releases of click break lines elsewhere, also at hyphens."""
    return "".join(text.split())


def test_every_room_in_the_map_of_modules_exists_and_every_room_is_in_it() -> None:
    table = TEXTS["architecture"]
    named = re.findall(
        r"`(?:tgdonnx/)?([\w/]+(?:\.py|/))`", table[table.index("## Map of") : table.index("Imports run")]
    )
    there = {f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "tgdonnx").iterdir()}
    assert set(named) == {name for name in there if not name.startswith(("__", "py.typed"))}
    assert len(named) == len(set(named))


def test_the_rooms_in_the_readme_exist() -> None:
    named = re.findall(r"`([\w/]+(?:\.py|/))`", README[README.index("## The rooms") : README.index("`samples/` holds")])
    assert not [name for name in named if not (ROOT / "tgdonnx" / name).exists()]
    assert len(named) > 10


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_named_exist(name: str) -> None:
    named = set(re.findall(r"(?<![\w/.])(?:tgdonnx|tests|tools|samples)/[\w./-]*[\w/]", TEXTS[name]))
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("table", guide_tables.TABLES)
def test_every_table_of_numbers_stands_between_its_marks_and_has_rows(table: str) -> None:
    rows = guide_tables.read_table(table)
    assert rows
    assert all(all(row) for row in rows)


def test_a_table_is_written_in_its_place_and_nowhere_else(tmp_path: Path) -> None:
    guide = tmp_path / "numbers.md"
    guide.write_text(TEXTS["numbers"], "utf-8")
    others = {name: guide_tables.read_table(name) for name in guide_tables.TABLES if name != "stages"}
    guide_tables.write_table("stages", [["10", "1", "2", "3", "4", "5", "6", "7"]], guide)
    assert guide_tables.read_table("stages", guide) == [["10", "1", "2", "3", "4", "5", "6", "7"]]
    assert {name: guide_tables.read_table(name, guide) for name in others} == others
    guide_tables.write_table("stages", guide_tables.read_table("stages"), guide)
    assert guide.read_text("utf-8") == TEXTS["numbers"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found them 0 times"),
        ("<!-- table: stages -->\n| a |\n<!-- /table -->\n", "another head"),
        ("<!-- table: stages -->\n{}| 1 | 2 |\n<!-- /table -->\n", "have not 8 cells"),
        (
            "<!-- table: stages -->\n{0}<!-- /table -->\n<!-- table: stages -->\n{0}<!-- /table -->\n",
            "found them 2 times",
        ),
    ],
)
def test_a_table_that_is_none_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    guide = tmp_path / "numbers.md"
    guide.write_text(text.format(guide_tables.markdown("stages", [])), "utf-8")
    with pytest.raises(ValueError, match=problem):
        guide_tables.read_table("stages", guide)


def test_the_benchmark_writes_its_tables(tmp_path: Path) -> None:
    guide = tmp_path / "numbers.md"
    guide.write_text(TEXTS["numbers"], "utf-8")
    # The machine was slow in the last turn, for all.
    turns = {
        "plain": [200.0, 200.0, 400.0],
        "masked": [210.0, 210.0, 420.0],
        "thin": [105.0, 105.0, 210.0],
        "onnxruntime": [84.0, 84.0, 168.0],
        "PyTorch": [120.0, 120.0, 240.0],
    }
    peak, state = {"plain": 5.0, "masked": 6.0, "thin": 7.0, "onnxruntime": 7.4}, {"plain": 8.0, "thin": 2.0}
    timed = Result("net", 8, "rho 0.5", 0.5, turns, peak, state)
    ours = {name: values for name, values in turns.items() if name != "PyTorch"}
    untimed = Result("file", 8, "phi 0.3, paper", 0.7, ours, peak, state)
    readers = Result("net", 8, "rho 0.5, readers", 0.6, turns, peak, state)
    pair = {"onnxruntime, masked": [20.0, 10.0, 20.0], "onnxruntime": [10.0, 10.0, 10.0]}
    small = Result("net", 1, "rho 0.5", 0.5, pair, {}, {})
    grown = {10: dict.fromkeys(guide_tables.TABLES["stages"][1:], 0.125)}
    write(tables([timed, untimed, readers, small], grown), guide)
    assert guide_tables.read_table("training steps", guide) == [
        ["net", "rho 0.5", "200", "210", "105", "84", "120", "0.53", "0.80", "0.70", "5 / 6 / 7 / 7", "0.25"],
        ["file", "phi 0.3, paper", "200", "210", "105", "84", "-", "0.53", "0.80", "-", "5 / 6 / 7 / 7", "0.25"],
    ]
    assert guide_tables.read_table("steps with readers", guide) == [
        ["net", "rho 0.5, readers", "0.60", "210", "105", "84", "0.50", "0.80", "0.25"]
    ]
    assert guide_tables.read_table("small batches", guide) == [["net", "rho 0.5", "1", "20.0", "10.0", "0.50"]]
    assert guide_tables.read_table("stages", guide) == [["10", *["0.12"] * 7]]


def test_the_readme_is_a_page_and_shows_its_picture() -> None:
    assert len(README.splitlines()) <= 130
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", README)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    assert (ROOT / picture).stat().st_size < 150_000
