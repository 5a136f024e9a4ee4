"""What a run that shall go on with other data is told: which files, arrays and options differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.finetuning.runs import OPTIONS, data, same_state
from tgdonnx.data import DataOptions
from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning import RunData, train

ONE = replace(OPTIONS, epochs=1)
READING = DataOptions(scale=2)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for number in range(4):
        np.savez(tmp_path / "data" / f"{number}.npz", **data(2, seed=number))
    return tmp_path / "data"


def removed(files: Path) -> DataOptions:
    (files / "3.npz").unlink()
    return READING


def added(files: Path) -> DataOptions:
    np.savez(files / "7.npz", **data(2, seed=7))
    return READING


def changed(files: Path) -> DataOptions:
    np.savez(files / "1.npz", **data(2, seed=8))
    return READING


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (removed, "other data: not there now: 3.npz; resume it with"),
        (added, "other data: new: 7.npz; resume it with"),
        (changed, "other data: changed: 1.npz; resume it with"),
        (lambda _: DataOptions(scale=1), "other data: `scale=2`, now `scale=1`; resume it with"),
        (
            lambda _: replace(READING, augment=("flips",)),
            r"other data: no `augment`, now `augment=\('flips',\)`; resume",
        ),
    ],
)
def test_what_differs_is_told(change: Callable[[Path], DataOptions], said: str, artifacts: Path, files: Path) -> None:
    train(artifacts, RunData(files, reading=READING), ONE)
    with pytest.raises(ArtifactsError, match=said):
        train(artifacts, RunData(files, reading=change(files)), OPTIONS, resume=True)


def test_where_the_record_tells_no_difference_that_is_told(artifacts: Path, files: Path) -> None:
    train(artifacts, RunData(files, reading=READING), ONE)
    record = artifacts / "run.json"
    content = json.loads(record.read_text())
    content["data"]["options"]["scale"] = 3
    content["versions"]["tgdonnx"] = "0.0.9"
    record.write_text(json.dumps(content))
    with pytest.raises(ArtifactsError, match=r"or it was started by another version \(tgdonnx 0.0.9\) that counted it"):
        train(artifacts, RunData(files, reading=DataOptions(scale=3)), OPTIONS, resume=True)


def test_files_that_lie_elsewhere_are_the_same_data(artifacts: Path, files: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(artifacts, tmp_path / "whole"))
    train(whole, RunData(files, reading=READING), OPTIONS)
    train(artifacts, RunData(files, reading=READING), ONE)
    moved = shutil.move(files, tmp_path / "moved")
    train(artifacts, RunData(moved, reading=READING), OPTIONS, resume=True)
    assert same_state(artifacts, whole)


def test_images_to_agree_on_are_told_apart(artifacts: Path, files: Path) -> None:
    images = {"x": data(3, seed=4)["x"]}
    train(artifacts, RunData(files, agree=images, reading=READING), ONE)
    with pytest.raises(ArtifactsError, match=r"images to agree on \(`agree`\) then, none now"):
        train(artifacts, RunData(files, reading=READING), OPTIONS, resume=True)
