"""Messages name options and functions as Python does, and the command line has its own word for every one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import tgdonnx
from tgdonnx import errors
from tgdonnx.calls import call, words_of_reader
from tgdonnx.cli import main
from tgdonnx.cli.spelling import spelled, spelled_report
from tgdonnx.reporting.legible import cell, sentence

PACKAGE = Path(tgdonnx.__file__).parent
COMMANDS = ("mask", "build", "train", "finetune", "apply")


def messages() -> Iterator[tuple[str, str]]:
    """All text in the sources below the command line that is no documentation, with its place; 0 for what is put in.

    Federated training has no command: its messages are said by Flower's programs, and name their options.
    """
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "cli") or path.is_relative_to(PACKAGE / "federated"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        hidden = documentation | inside
        for node in ast.walk(tree):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield place, "".join(str(part.value) if isinstance(part, ast.Constant) else "0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
                yield place, node.value


def said(text: str, command: str) -> str:
    context = click.Context(main, info_name="tgdonnx")
    context.invoked_subcommand = command
    with context:
        return spelled(text)


def test_no_message_below_the_command_line_names_an_option_of_it() -> None:
    found = list(messages())
    assert len(found) > 2000, "the search finds them"
    assert not {place: text for place, text in found if re.search(r"--[a-z]|`tgdonnx [a-z]", text)}


def test_an_error_that_names_a_node_carries_its_name_and_its_operator() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    naming, silent = 0, []
    for path in sorted(PACKAGE.rglob("*.py")):
        for made in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(made, ast.Call) and getattr(made.func, "id", "") in kinds and made.args):
                continue
            names_one = re.search(r"(?<!or )\bnode \{|\blabel\b", ast.unparse(made.args[0])) is not None
            naming += names_one
            if names_one and not {"node", "op_type"} <= {keyword.arg for keyword in made.keywords}:
                silent.append(f"{path.relative_to(PACKAGE)}:{made.lineno}")
    assert naming >= 2, "the search finds them"
    assert not silent


def test_the_command_line_has_a_word_for_everything_that_a_message_names() -> None:
    named = {
        name: place
        for place, text in messages()
        for name in re.findall(r"`([^`\n]+)`", text)
        if name.strip("0 =") != ""
    }
    assert {"overwrite=True", "tgdonnx.mask", "resume=True"} <= named.keys()
    for command in COMMANDS:
        words = {name: said(f"`{name}`", command) for name in named}
        assert not {named[name]: name for name, word in words.items() if not re.match(r"--|`tgdonnx [a-z]", word)}


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("choose one with `output`: y, z", "choose one with --output: y, z"),
        ("use `batch=4, accumulate=6`", "use --batch 4 --accumulate 6"),
        ("`patch=(4, 6)` fits it", "--patch 4x6 fits it"),
        ("`scales={'x': 1}` or `layouts={'x': 'NHWC'}`", "--scale x=1 or --layout x=NHWC"),
        ("choose `metrics=('rmse',)`", "choose --metric rmse"),
        ("pass `overwrite=True`, or without `protect`", "pass --overwrite, or without --protect"),
        ("leave out `map` and `augment`", "leave out --map and --augment"),
        ("`checkpoint='my best'`", "--checkpoint 'my best'"),
        (
            "made by `tgdonnx.build`; `tgdonnx.dry_run` tries",
            "made by `tgdonnx build`; `tgdonnx train --dry-run` tries",
        ),
        ("`tgdonnx.train('a b', resume=True)`", "`tgdonnx train 'a b' --resume`"),
        ("`tgdonnx.apply('t.onnx', data='x', output='y')`", "`tgdonnx apply t.onnx --data x -o y`"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_python_names_is_said_in_words_of_the_command_line(python: str, shell: str, command: str) -> None:
    assert said(python, command) == shell


@pytest.mark.parametrize(
    "text",
    [
        "no output '`output`'; expected y",
        "`nobody knows this`",
        "`unknown=1`",
        "`tgdonnx.nothing`",
        "`tgdonnx.train(resume=`",
        "`output",
        "`os.system('x')`",
        "`output + 1`",
    ],
)
def test_names_of_other_people_and_what_is_no_code_of_ours_stay_as_they_are(text: str) -> None:
    assert said(text, "build") == text


def test_outside_the_command_line_a_message_stays_as_python_says_it() -> None:
    assert spelled("choose one with `output`") == "choose one with `output`"


def test_what_people_read_is_said_in_their_words_and_what_a_stranger_named_is_not() -> None:
    assert sentence("pass `overwrite=True`").plain == "pass `overwrite=True`"
    with words_of_reader(lambda text: text.replace("`overwrite=True`", "--overwrite")):
        assert sentence("pass `overwrite=True`").plain == "pass --overwrite"
        assert cell("`overwrite=True`").plain == "`overwrite=True`"
    assert sentence("pass `overwrite=True`").plain == "pass `overwrite=True`"


def test_of_a_report_only_sentences_and_calls_are_spelled() -> None:
    report = {"node": "`output`", "remedy": "`output`", "notes": ["`last`"], "layers": [{"name": "`last`"}]}
    report = {**report, "call": "tgdonnx.export('a b', output='t.onnx')", "entries": [{"call": ""}]}
    with click.Context(main, info_name="tgdonnx"):
        found = spelled_report(report)
    assert found == {
        **{"node": "`output`", "remedy": "--output", "notes": ["--last"], "layers": [{"name": "`last`"}]},
        **{"call": "tgdonnx export 'a b' -o t.onnx", "entries": [{"call": ""}]},
    }


def test_a_call_is_written_so_that_python_reads_it_again() -> None:
    path = Path("a 'quoted' directory") / "with `ticks`"
    written = call("export", path, options={"output": "t.onnx", "overwrite": True})
    tree = ast.parse(written, mode="eval").body
    assert isinstance(tree, ast.Call)
    assert ast.literal_eval(tree.args[0]) == str(path)
    assert {each.arg: ast.literal_eval(each.value) for each in tree.keywords} == {"output": "t.onnx", "overwrite": True}
