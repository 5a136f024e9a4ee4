"""Remedies that messages name are followed: what they say to pass works when it is passed; and nothing named is not there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import tgdonnx
from tests.cli.commands import run, run_json
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx.cli import main

PACKAGE = Path(tgdonnx.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w-])")
# Of other programs that messages name.
FOREIGN = {"--raw", "--node-config", "--name"}  # of git, of Flower, and a column of batch

IMAGE = "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) { y = Conv(x, w, b) }"
FIXED_BATCH = "g (float[%d, 1, H, W] x) => (float[%d, 1, H, W] y) { y = Conv(x, w, b) }"
FIXED_SIZE = "g (float[N, 1, 4, 6] x) => (float[N, 1, 4, 6] y) { y = Conv(x, w, b) }"
TWO = "g (float[N, 1, H, W] x) => (float[N, 1, H, W] y, float[N, 1, H, W] z) { y = Conv(x, w, b)\n z = Relu(y) }"
VALUES = np.random.default_rng(0).uniform(0, 1, (8, 1, 8, 12)).astype(np.float32)
BYTES = (VALUES * 255).astype(np.uint8)


def artifacts(directory: Path, text: str, *options: object) -> Path:
    model = save(text_model(text, w=(1, 1, 1, 1), b=(1,)), directory / "model.onnx")
    run_json("mask", model, "-o", directory / "masked.onnx", "--all")
    run_json("build", directory / "masked.onnx", "-o", directory / "art", *options)
    return directory / "art"


def remedies(message: str) -> list[list[str]]:
    """The options that a message tells to pass: alternatives, each with those that go together."""
    words = re.sub(r"[,;:()]+(\s|$)", " | ", message.replace("\n", " ").replace(" (", " | ")).split()
    found: list[list[str]] = []
    previous = "|"
    for word in words:
        if OPTION.match(word):
            if found and previous != "|" and not previous.isalpha():
                found[-1].append(word)
            else:
                found.append([word])
        elif found and found[-1][-1].startswith("--") and previous == found[-1][-1] and re.match(r"[\w.]*[\d=]", word):
            found[-1].append(word)
        previous = word
    return found


CASES: dict[str, tuple[str, tuple[object, ...], dict[str, Any], tuple[object, ...], list[str]]] = {
    "batch 4 of 24": (
        FIXED_BATCH % (4, 4), (), {"x": VALUES}, ("--batch", 8, "--accumulate", 3), ["--batch 4 --accumulate 6"],
    ),
    "batch 4 of 2": (
        FIXED_BATCH % (4, 4), (), {"x": VALUES}, ("--batch", 1, "--accumulate", 2), ["--batch 4 --accumulate 1"],
    ),
    "batch 4 of 1": (FIXED_BATCH % (4, 4), (), {"x": VALUES}, ("--batch", 1), ["--batch 4"]),
    "bytes": (IMAGE, (), {"x": BYTES, "target": BYTES}, (), ["--scale 255", "--scale 1"]),
    "double": (IMAGE, (), {"x": VALUES.astype(np.float64)}, (), ["--scale x=1"]),
    "double targets": (IMAGE, (), {"target": VALUES.astype(np.float64)}, (), ["--scale target=1"]),
    "channels last": (IMAGE, (), {"x": VALUES.transpose(0, 2, 3, 1)}, (), ["--layout x=NHWC"]),
    "a fixed size": (FIXED_SIZE, (), {"x": VALUES}, (), ["--patch 4x6"]),
    "probabilities in bytes": (
        IMAGE, ("--loss", "bce"), {"target": BYTES}, ("--scale", "target=1"), [f"--scale target={float(BYTES.max())}"],
    ),
    "probabilities in percent": (
        IMAGE, ("--loss", "bce"), {"target": VALUES * 100}, (), [f"--scale target={float(VALUES.max() * np.float32(100))}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_remedy_for_training_data_works(case: str, tmp_path: Path) -> None:
    text, building, arrays, options, expected = CASES[case]
    built = artifacts(tmp_path, text, *building)
    np.savez(tmp_path / "data.npz", **{"x": VALUES, "target": VALUES, **arrays})
    command = ("train", built, "--data", tmp_path / "data.npz", "--epochs", 1)
    result = run(*command, *options)
    assert result.exit_code == 2, result.output
    said = remedies(result.stderr)
    assert [" ".join(remedy) for remedy in said][: len(expected)] == expected, result.stderr
    for remedy in said[: len(expected)]:
        kept = () if options[:1] == ("--scale",) else options  # what was said of the same array is replaced
        followed = run(*command, "--dry-run", *kept, *remedy)
        assert followed.exit_code == 0, followed.stderr


def test_the_remedy_for_a_metric_without_range_works(tmp_path: Path) -> None:
    built = artifacts(tmp_path, IMAGE)
    np.savez(tmp_path / "data.npz", x=VALUES, target=np.ones_like(VALUES))
    command = ("train", built, "--data", tmp_path / "data.npz", "--validation", tmp_path / "data.npz", "--epochs", 1)
    said = remedies(run(*command).stderr)
    assert said == [["--metric-range"], ["--metric"]], said
    for remedy in (["--metric-range", 1], ["--metric", "rmse"]):
        assert run(*command, "--dry-run", *remedy).exit_code == 0


def test_the_remedy_for_several_outputs_works(tmp_path: Path) -> None:
    model = save(text_model(TWO, w=(1, 1, 1, 1), b=(1,)), tmp_path / "model.onnx")
    run_json("mask", model, "-o", tmp_path / "masked.onnx", "--all")
    result = run("build", tmp_path / "masked.onnx", "-o", tmp_path / "art")
    assert "choose one with --output: y, z" in result.stderr
    for name in ("y", "z"):
        assert run("build", tmp_path / "masked.onnx", "-o", tmp_path / name, "--output", name).exit_code == 0


def test_the_remedies_for_a_run_that_is_there_work(tmp_path: Path) -> None:
    built = artifacts(tmp_path, IMAGE)
    np.savez(tmp_path / "data.npz", x=VALUES, target=VALUES)
    command = ("train", built, "--data", tmp_path / "data.npz", "--steps", 2)
    assert "train it without --resume" in run(*command, "--resume").stderr
    assert run(*command).exit_code == 0
    assert remedies(run(*command).stderr) == [["--resume"]]
    assert run(*command, "--resume").exit_code == 0


def test_the_remedy_for_a_phi_that_is_too_low_works(tmp_path: Path) -> None:
    nodes = "h = Conv(x, v, c)\n y = Conv(h, w, b)"
    text = f"g (float[N, 1, H, W] x) => (float[N, 1, H, W] y) {{ {nodes} }}"
    model = save(text_model(text, v=(6, 1, 3, 3), c=(6,), w=(1, 6, 3, 3), b=(1,)), tmp_path / "model.onnx")
    result = run("mask", model, "-o", tmp_path / "masked.onnx", "--phi", 0)
    least = re.search(r"scores ([\d.]+): phi must be above", result.stderr)
    assert least is not None, result.stderr
    phi = min(1.0, float(least[1]) + 1e-6)
    assert run("mask", model, "-o", tmp_path / "masked.onnx", "--phi", phi).exit_code == 0
    assert remedies(run("mask", model, "-o", tmp_path / "masked.onnx", "--phi", phi).stderr) == [["--overwrite"]]
    assert run("mask", model, "-o", tmp_path / "masked.onnx", "--phi", phi, "--overwrite").exit_code == 0


# What messages name is there.


def texts() -> Iterator[tuple[str, str]]:
    """All text in the source that is no docstring, with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value


def options_there_are() -> set[str]:
    commands = [main, *main.commands.values()]
    parameters = [parameter for command in commands for parameter in command.params]
    return {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def test_every_option_that_is_named_anywhere_exists() -> None:
    there = options_there_are()
    named = {option: place for place, text in texts() for option in OPTION.findall(text)}
    assert len(named) > 40, "the search finds them"
    assert not {option: place for option, place in named.items() if option not in there | FOREIGN}


def test_every_function_that_is_named_anywhere_exists() -> None:
    named = {name: place for place, text in texts() for name in re.findall(r"`tgdonnx\.([a-z_]+)[`(]", text)}
    assert {"build", "mask"} <= named.keys()
    assert not {name: place for name, place in named.items() if name not in tgdonnx.__all__}


def test_every_command_that_is_named_anywhere_exists() -> None:
    named = {
        verb: place for place, text in texts() for verb in re.findall(r"`tgdonnx (?:--?\S+ )*([a-z][a-z-]*)", text)
    }
    assert isinstance(main, click.Group)
    assert not {verb: place for verb, place in named.items() if verb not in main.commands}


def test_every_extra_that_is_named_anywhere_exists() -> None:
    try:
        toml = importlib.import_module("tomllib")
    except ImportError:
        toml = importlib.import_module("tomli")
    extras = toml.loads((PACKAGE.parent / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {
        extra: place
        for place, text in texts()
        for group in re.findall(r"tgdonnx\[([a-z0-9,]+)\]", text)
        for extra in group.split(",")
    }
    for path in PACKAGE.rglob("*.py"):  # so does the table of formats
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Library":
                assert isinstance(node.args[2], ast.Constant)
                named[node.args[2].value] = str(path)
    assert {"train", "yaml", "dicom"} <= named.keys()
    assert not {extra: place for extra, place in named.items() if extra not in extras}


@pytest.mark.parametrize(
    ("text", "patch", "fits"), [(IMAGE, "9x6", "8x6"), (IMAGE, "64x64", "8x12"), (FIXED_SIZE, "2x6", "4x6")]
)
def test_the_patch_that_a_message_names_fits(text: str, patch: str, fits: str, tmp_path: Path) -> None:
    built = artifacts(tmp_path, text)
    np.savez(tmp_path / "data.npz", x=VALUES, target=VALUES)
    command = ("train", built, "--data", tmp_path / "data.npz", "--epochs", 1, "--patch")
    assert f"--patch {fits} fits it" in run(*command, patch).stderr
    assert run(*command, fits, "--dry-run").exit_code == 0


def test_the_patch_that_two_small_images_are_told_to_train_on_works(tmp_path: Path) -> None:
    built = artifacts(tmp_path, IMAGE)
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(1, 1, 7, 12)).astype(np.float32))
    command = ("train", built, "--noise2noise", tmp_path / "a.npy", tmp_path / "b.npy", "--epochs", 1)
    said = remedies(run(*command).stderr)
    assert said == [["--patch", "3x6"]]
    assert run(*command, "--dry-run", *said[0]).exit_code == 0


def test_mask_says_of_several_outputs_what_mask_can_do(tmp_path: Path) -> None:
    model = save(text_model(TWO, w=(1, 1, 1, 1), b=(1,)), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=VALUES)
    result = run("mask", model, "-o", tmp_path / "m.onnx", "--phi", "auto", "--data", tmp_path / "data.npz")
    options = {name for parameter in main.commands["mask"].params for name in parameter.opts}
    assert set(OPTION.findall(result.stderr)) <= options, result.stderr
