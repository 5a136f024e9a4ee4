"""The judge of the fuzz finds what it is there to find."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from pathlib import Path
from typing import Optional

import pytest

from tests.fuzzing.damage import damage
from tests.fuzzing.grammar import Case, make_case
from tests.fuzzing.judging import Outcome, faults, snapshot
from tests.fuzzing.world import make_world


def kinds(
    world: Path,
    *arguments: str,
    status: Optional[int] = 2,
    stdout: str = "",
    stderr: str = "Error: no",
    change: object = None,
) -> set[str]:
    before = snapshot(world)
    if callable(change):
        change()
    found = faults(Case(0, 0, arguments), Outcome(status, stdout, stderr), world, before, snapshot(world))
    return {fault.partition(":")[0] for fault in found}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for name in ("in", "out", "artifacts"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "model.onnx").write_bytes(b"vendor's")
    (tmp_path / "artifacts" / "checkpoint").write_bytes(b"old")
    return tmp_path


def test_a_sentence_is_no_fault(world: Path) -> None:
    assert kinds(world, "inspect", "in/model.onnx") == set()


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "kind"),
    [
        (None, "", "", "hang"),
        (-11, "", "", "crash"),
        (3, "", "Error: x", "status"),
        (1, "", "no", "status"),
        (2, "", "", "silent"),
        (2, "", "Traceback (most recent call last):\n  x\nKeyError: 1", "traceback"),
        (2, "", "Error: this is a fault of tgdonnx, not yours: KeyError", "fault"),
        (0, "\x1b[31m", "", "control"),
        (0, "a\u202eb", "", "control"),
        (0, "\udcff", "", "control"),
        (2, "", "x.py:3: RuntimeWarning: divide\nError: no", "noise"),
        (2, "", "2026-01-01 [W:onnxruntime:x] y\nError: no", "noise"),
        (2, "", "Error: " + "x" * 10_000, "long"),
    ],
)
def test_what_a_command_must_not_say(status: Optional[int], stdout: str, stderr: str, kind: str, world: Path) -> None:
    assert kinds(world, "inspect", "in/model.onnx", status=status, stdout=stdout, stderr=stderr) == {kind}


@pytest.mark.parametrize("text", ["", "{", "{} {}", "[NaN]", "[Infinity]"])
def test_json_that_is_none(text: str, world: Path) -> None:
    assert kinds(world, "inspect", "in/model.onnx", "--json", status=0, stdout=text, stderr="") == {"json"}


def test_what_a_command_must_not_do_to_files(world: Path) -> None:
    model, mask = world / "in" / "model.onnx", ("mask", "in/model.onnx", "-o", "out/x.onnx")

    def write(path: str) -> object:
        return lambda: (world / path).write_bytes(os.urandom(8))

    assert kinds(world, *mask, status=0, stderr="", change=write("out/x.onnx")) == set()
    assert kinds(world, *mask, status=2, change=write("out/y.onnx")) == {"wrote"}
    assert kinds(world, *mask, status=0, stderr="", change=write("in/new")) == {"outside"}
    assert kinds(world, *mask, status=0, stderr="", change=write("in/model.onnx")) == {"changed"}
    assert kinds(world, *mask, status=0, stderr="", change=model.unlink) == {"changed"}
    assert kinds(world, *mask, status=0, stderr="", change=write("out/.x.onnx.0a.tmp")) == {"leftover"}
    tune = ("finetune", "in/model.onnx", "--data", "in/data.npz", "-o", "out/x.onnx")
    assert kinds(world, *tune, status=0, stderr="", change=write("out/x.run")) == set()
    (world / "out" / "y.run").mkdir()
    assert kinds(world, *tune, status=0, stderr="", change=write("out/y.run/log.jsonl")) == {"outside"}
    train = ("train", "artifacts", "--data", "in/data.npz")
    assert kinds(world, *train, status=0, stderr="", change=write("artifacts/checkpoint")) == set()
    assert kinds(world, *train, status=2, change=write("artifacts/checkpoint")) == {"wrote"}
    assert kinds(world, *train, status=2, change=write("artifacts/log.jsonl")) == set()


def test_a_case_follows_from_its_seed_and_number(stock: Path, tmp_path: Path) -> None:
    def arguments(seed: int, name: str) -> list[tuple[str, ...]]:
        rooms = [tmp_path / name / str(number) for number in range(20)]
        for room in rooms:
            shutil.copytree(stock, room)
        return [make_case(seed, number, room).arguments for number, room in enumerate(rooms)]

    assert arguments(1, "a") == arguments(1, "b")
    assert arguments(1, "c") != arguments(2, "d")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("stock") / "world")


def test_nothing_but_a_copy_is_ever_damaged(tmp_path: Path) -> None:
    outside, copies = tmp_path / "precious.json", tmp_path / "copies"
    copies.mkdir()
    outside.write_text("{}")
    (copies / "link.json").symlink_to(outside)
    (copies / "directory").mkdir()
    (copies / "directory" / "link.json").symlink_to(outside)
    for path in (outside, copies / "link.json", copies / ".." / "precious.json", tmp_path, copies, Path("/")):
        with pytest.raises(ValueError, match="none of the copies"):
            damage(random.Random(0), path, copies)
    for seed in range(30):
        with contextlib.suppress(ValueError):
            damage(random.Random(seed), copies / "directory", copies)
    assert outside.read_text() == "{}"
