"""Files of options and lists of filters: typed, bounded, each fault a sentence; what is wrong is not cut to fit."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.cli.commands import run, run_json
from tests.support import models
from tgdonnx.cli.config import config_option
from tgdonnx.cli.data_options import noise2noise_option
from tgdonnx.cli.paths import PATH
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.files.optionfiles import read_filters, read_options

DEEP = 100_000


@click.command()
@click.option("--steps", type=int)
@click.option("--last", type=click.IntRange(1))
@click.option("--lr", type=float)
@click.option("--loss")
@click.option("--metric", multiple=True)
@click.option("--data", type=PATH)
@click.option("--resume", is_flag=True)
@noise2noise_option
@config_option
def command(**given: Any) -> None:
    sys.stdout.write(json.dumps(given, default=str))


def given(path: Path) -> dict[str, Any]:
    result = CliRunner().invoke(command, ["--config", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def refused(path: Path) -> str:
    begin = time.monotonic()
    with pytest.raises(DataError) as caught:
        CliRunner().invoke(command, ["--config", str(path)], catch_exceptions=False, standalone_mode=False)
    assert time.monotonic() - begin < 20, "the work does not explode"
    said = str(caught.value)
    assert len(said.splitlines()) == 1, said
    assert path.name in said
    assert len(said) < 600
    return said


def write(directory: Path, name: str, content: Any) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


YAML: dict[str, tuple[Any, str]] = {
    "a fraction of a step": ("steps: 2.5\n", "expected 'steps' to be a whole number, got 2.5"),
    "a fraction of a layer": ("last: 2.5\n", "expected 'last' to be a whole number, got 2.5"),
    "a step that is a float": ("steps: 2.0\n", "expected 'steps' to be a whole number, got 2.0"),
    "a step that is true": ("steps: true\n", "expected 'steps' to be a whole number, got True"),
    "a rate that is true": ("lr: true\n", "expected 'lr' to be a value, not true or false"),
    "a rate that is NaN": ("lr: .nan\n", "expected 'lr' to be a finite number, got nan"),
    "a rate that is infinite": ("lr: -.inf\n", "expected 'lr' to be a finite number, got -inf"),
    "a rate of 40,000 bits": (f"lr: 0x{'f' * 10_000}\n", "to be a number below 2^63, got a number of 40000 bits"),
    "nothing": ("steps: null\n", "expected 'steps' to be a whole number, got None"),
    "a date": ("lr: 2020-01-01\n", "expected 'lr' to be text or a number, got datetime.date"),
    "a path that is a number": ("data: 5\n", "expected 'data' to be text, a path, got 5"),
    "a flag that is 1": ("resume: 1\n", "expected 'resume' to be true or false, got 1"),
    "a mapping": ("metric: {a: 1}\n", "or a list of such, got a mapping"),
    "a list in a list": ("metric: [[a]]\n", "got a list"),
    "a key twice": ("steps: 1\nsteps: 2\n", "'steps' is there twice"),
    "a key in two spellings": ("noise2noise: [a, b]\nsteps: 1\n'steps' : 2\n", "'steps' is there twice"),
    "a tag": ("steps: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    "an alias": ("a: &a [x]\nmetric: *a\n", "aliases (*a) are not taken; write the value out"),
    "no UTF-8": (b"loss: \xff\n", "no UTF-8 text"),
    "a zero byte": (b"loss: a\0b\n", "cannot be read"),
    "deep lists": ("metric: " + "[" * DEEP + "\n", "nested too deeply"),
    "deep mappings": ("metric: " + "{a: " * DEEP + "\n", "nested too deeply"),
    "a long key": ("? " + "k" * 100_000 + "\n: 1\n", "unknown key"),
    "a list": ("- steps\n", "got list"),
    "text": ("steps\n", "got str"),
    "a typing error": ("stesp: 1\n", "unknown key 'stesp'; did you mean 'steps'?"),
}
TOML: dict[str, tuple[Any, str]] = {
    "a fraction of a step": ("steps = 2.5\n", "expected 'steps' to be a whole number, got 2.5"),
    "a rate that is NaN": ("lr = nan\n", "expected 'lr' to be a finite number, got nan"),
    "a key twice": ("steps = 1\nsteps = 2\n", "cannot be read"),
    "deep lists": ("metric = " + "[" * DEEP + "\n", "nested too deeply"),
    "deep tables": ("[" + ".".join("a" * DEEP) + "]\n", "nested too deeply"),
    "no UTF-8": (b"loss = '\xff'\n", "no UTF-8 text"),
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_that_is_no_set_of_options_is_told(case: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="the extra yaml is not installed")
    content, message = YAML[case]
    assert message in refused(write(tmp_path, "c.yaml", content))


@pytest.mark.parametrize("case", TOML)
def test_toml_that_is_no_set_of_options_is_told(case: str, tmp_path: Path) -> None:
    content, message = TOML[case]
    assert message in refused(write(tmp_path, "c.toml", content))


def test_billions_of_laughs_are_refused_at_the_first(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="the extra yaml is not installed")
    laughs = ["l0: &l0 [ha, ha]"] + [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 40)]
    begin = time.monotonic()
    assert "aliases (*l0) are not taken" in refused(write(tmp_path, "c.yaml", "\n".join(laughs)))
    assert time.monotonic() - begin < 5


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.bounds.CONFIG_BYTES", 100)
    refused(write(tmp_path, "c.toml", "#" * 101))


@pytest.mark.parametrize(
    "content", ["", "\n", "# nothing\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf# only a mark of the order of bytes\n"]
)
@pytest.mark.parametrize("name", ["c.yaml", "c.toml", "C.TOML"])
def test_an_empty_file_says_nothing(content: Any, name: str, tmp_path: Path) -> None:
    assert given(write(tmp_path, name, content))["steps"] is None


def test_values_arrive_as_they_are(tmp_path: Path) -> None:
    lines = ["steps = 3", "lr = 1", "loss = 'l1'", "metric = ['a', 'b']", "resume = true", "noise2noise = ['a', 'b']"]
    found = given(write(tmp_path, "c.toml", b"\xef\xbb\xbf" + "\n".join(lines).encode()))
    assert (found["steps"], found["lr"], found["loss"], found["resume"]) == (3, 1.0, "l1", True)
    assert (found["metric"], found["pair"]) == (["a", "b"], ["a", "b"])


FILTERS: dict[str, tuple[Any, str]] = {
    "a list": ("[1]", "expected an object such as"),
    "a number for rows": ('{"w": 3}', r"Expected `array`, got `int` - at `$[...]`"),
    "a fraction": ('{"w": [1.5]}', "Expected `int`, got `float`"),
    "true": ('{"w": [true]}', "Expected `int`, got `bool`"),
    "text": ('{"w": ["1"]}', "Expected `int`, got `str`"),
    "negative": ('{"w": [-1]}', ">= 0"),
    "null": ('{"w": null}', "Expected `array`, got `null`"),
    "NaN": ('{"w": [NaN]}', "NaN is no number of JSON"),
    "a name twice": ('{"w": [1], "w": [2]}', "'w' is there twice"),
    "deep": ('{"w": ' + "[" * DEEP, "nested too deeply"),
    "deep objects": ('{"w":' * DEEP, "nested too deeply"),
    "cut off": ('{"w": [1', "cannot be read as JSON"),
    "empty": ("", "cannot be read as JSON"),
    "no UTF-8": (b'{"\xff": [1]}', "no UTF-8 text"),
    "9000 digits": ('{"w": [' + "9" * 9000 + "]}", "cannot be read as JSON"),
}


@pytest.mark.parametrize("case", FILTERS)
def test_a_list_of_filters_that_is_none_is_told(case: str, tmp_path: Path) -> None:
    content, message = FILTERS[case]
    with pytest.raises(SelectionError) as caught:
        read_filters(write(tmp_path, "f.json", content))
    said = str(caught.value)
    assert message in said
    assert "f.json" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 600


def test_a_list_of_filters_is_read_with_a_mark_of_the_order_of_bytes_too(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        assert read_filters(write(tmp_path, "f.json", mark + b'{"w": [0, 2], "v": []}')) == {"w": [0, 2], "v": []}


def test_mask_refuses_a_list_with_rows_that_are_not_there_and_takes_one_that_is_right(tmp_path: Path) -> None:
    model = models.save(models.dncnn(0), tmp_path / "model.onnx")
    name = next(p["name"] for p in run_json("mask", model, "-o", tmp_path / "a.onnx", "--all")["params"])
    wrong = write(tmp_path, "wrong.json", json.dumps({name: [10**20]}))
    result = run("mask", model, "-o", tmp_path / "b.onnx", "--filters", wrong)
    assert (result.exit_code, "as whole numbers in 0 to" in result.stderr) == (2, True), result.stderr
    right = write(tmp_path, "right.json", json.dumps({name: [0, 1]}))
    report = run_json("mask", model, "-o", tmp_path / "c.onnx", "--filters", right)
    assert next(p["retrain"] for p in report["params"] if p["name"] == name) == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        f'scale = "{"n" * 100_000}"',
        f"{'n' * 100_000} = 1",
        f'scale = "{"n " * 50_000}"',
        f'scale = "a{" " * 100_000}b"',
        f'scale = "{"a. " * 60}{"." * 100_000}"',
    ],
)
def test_long_toml_is_looked_at_in_time_that_grows_with_its_length(text: str, tmp_path: Path) -> None:
    path = tmp_path / "options.toml"
    path.write_text(text)
    began = time.monotonic()
    with contextlib.suppress(ValueError):
        read_options(path)
    assert time.monotonic() - began < 10
