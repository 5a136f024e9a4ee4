"""What other tools call something is answered with what it is called here."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tests.cli.commands import run, run_json
from tgdonnx.cli import COMMANDS, habits, main


def said(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (("finetune", "m.onnx", "--gpu"), "No such option '--gpu'. Did you mean '--device cuda'?"),
        (("finetune", "m.onnx", "--output-dir", "x"), "No such option '--output-dir'. Did you mean '-o'?"),
        (("finetune", "m.onnx", "--learning_rate", "1"), "Did you mean '--learning-rate'?"),
        (("train", "run", "--validaton", "v.npz"), "Did you mean '--validation'?"),
        (("train", "run", "--grad", "2"), "No such option '--grad'."),
        (("export", "run", "--force"), "Did you mean '--overwrite'?"),
        (("trace", "m.onnx", "--overwrit"), "No such option '--overwrit'."),
    ],
)
def test_an_option_that_does_not_exist_is_answered_with_the_one_that_is_meant(
    typed: tuple[str, ...], answer: str
) -> None:
    assert said(*typed).endswith(answer)


def test_an_option_of_other_commands_is_answered_with_these() -> None:
    assert said("mask", "m.onnx", "--epochs", 3).endswith(
        "No such option '--epochs'. It is of `tgdonnx data`, `tgdonnx finetune`, `tgdonnx compare`, "
        "`tgdonnx batch` and `tgdonnx train`."
    )
    assert "'--l2' is of" in said("train", "run", "--wd", 1)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("finetun", "finetune"),
        ("fit", "finetune"),
        ("predict", "apply"),
        ("help", "--help"),
        ("resume", "train --resume"),
    ],
)
def test_a_command_that_does_not_exist_is_answered_with_the_one_that_is_meant(typed: str, meant: str) -> None:
    assert said(typed) == f"Error: No such command {typed!r}. Did you mean 'tgdonnx {meant}'?"


def test_what_resembles_nothing_is_refused_without_a_guess() -> None:
    assert said("xyzzy") == "Error: No such command 'xyzzy'."
    assert said("score", "m.onnx", "--xyzzy").endswith("No such option '--xyzzy'.")


def test_an_output_without_o_is_told_what_output_is() -> None:
    told = said("finetune", "m.onnx", "--data", "d.npz", "--output", "tuned.onnx")
    assert told == "Error: Missing option '-o': The tuned model to write. --output names an output of the model."
    assert said("mask", "m.onnx", "--all") == "Error: Missing option '-o': The masked model to write."


def test_every_habit_is_answered_with_an_option_or_command_that_exists_and_hides_none_that_does() -> None:
    options = {
        name: {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        for name, command in main.commands.items()
    }
    known = set().union(*options.values())
    for ours, foreign in habits._OPTIONS.items():
        assert ours.split()[0] in known
        having = [name for name in options if ours.split()[0] in options[name]]
        for each in foreign:
            assert not all(f"--{each}" in options[name] for name in having), each
    for ours, foreign in habits._COMMANDS.items():
        assert ours.split()[0] in COMMANDS or ours.startswith("--")
        assert not set(foreign) & set(COMMANDS)


@pytest.mark.parametrize(
    ("twice", "names"),
    [
        (("--lr", "1e-3", "--learning-rate=1e-2"), "--learning-rate and --lr"),
        (("--validation", "a.npz", "--val", "b.npz"), "--validation and --val"),
        (("--batch-size", "2", "--batch", "2"), "--batch and --batch-size"),
    ],
)
def test_an_option_under_two_of_its_names_is_refused(twice: tuple[str, ...], names: str) -> None:
    told = said("finetune", "m.onnx", "--data", "d.npz", "-o", "tuned.onnx", *twice)
    assert told == f"Error: {names} are two names of one option; give one of them"


def test_names_that_everybody_types_are_taken(vendor: Path, data: Path, tmp_path: Path) -> None:
    spelt = {}
    for name, words in (
        ("ours", ("--batch", 2, "--lr", 0.01, "--validation", data, "--l2", 0.5)),
        ("theirs", ("--batch-size", 2, "--learning-rate", 0.01, "--val", data, "--weight-decay", 0.5)),
    ):
        output = tmp_path / f"{name}.onnx"
        spelt[name] = run_json("finetune", vendor, "--data", data, "-o", output, "--last", 1, "--epochs", 1, *words)
    assert spelt["theirs"]["train"]["loss"] == spelt["ours"]["train"]["loss"]
    assert spelt["theirs"]["build"]["options"] == spelt["ours"]["build"]["options"]
    assert spelt["ours"]["build"]["options"]["l2"] == 0.5
