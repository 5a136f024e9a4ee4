"""Class weights from files, by name or in order, in the place of numbers in a loss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.commands import run
from tests.support.models import save
from tests.support.training_models import text_model
from tgdonnx.cli.class_weights import read_weights
from tgdonnx.errors import DataError

CLASSES = ("owl", "fox", "cat")


def written(directory: Path, name: str, text: str) -> Path:
    (directory / name).write_text(text)
    return directory / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("w.csv", "class,weight\ncat,3\nowl,1\nfox,2.5\n"),
        ("w.csv", "cat;3\r\nowl;1\r\nfox;2.5\r\n"),
        ("w.tsv", "fox\t2.5\ncat\t3\nowl\t1\n"),
        ("w.json", '{"cat": 3, "owl": 1, "fox": 2.5}'),
        ("w.json", "[1, 2.5, 3]"),
        ("w.txt", "1\n2.5\n\n3\n"),
    ],
)
def test_every_form_gives_the_weights_in_the_order_of_the_classes(name: str, text: str, tmp_path: Path) -> None:
    assert read_weights(written(tmp_path, name, text), CLASSES) == (1, 2.5, 3)


def test_classes_that_are_places_need_no_names(tmp_path: Path) -> None:
    assert read_weights(written(tmp_path, "w.csv", "2,3\n0,1\n1,2.5\n"), ()) == (1, 2.5, 3)


@pytest.mark.parametrize(
    ("text", "classes", "said"),
    [
        ("cat,3\nowl,1\n", CLASSES, "lacks fox; expected a weight for each of owl, fox, cat"),
        ("cat,3\nowl,1\nfox,2\ndog,1\n", CLASSES, "names, beyond the classes, dog; expected"),
        ("cat,3\nowl,1\nfox,2\ncat,1\n", CLASSES, "names a class twice"),
        ("cat,3\nowl,1\n", (), "nothing says their places in the model; say their order: `classes`"),
        ("cat,3\nowl,x\n", CLASSES, "'x' is no number; expected a number per line"),
        ("cat,nan\n", CLASSES, "holds no weights"),
        ("cat,3,4\n", CLASSES, "a line has other than two cells"),
        ("", CLASSES, "holds no weights of classes"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(text: str, classes: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_weights(written(tmp_path, "w.csv", text), classes)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_weights(tmp_path / "other.csv", classes)


def test_a_run_takes_the_weights_by_the_names_of_the_classes_and_keeps_the_numbers(tmp_path: Path) -> None:
    network = "g (float[N, 1, 4, 4] x) => (float[N, 3] y) { a = Conv(x, v) y = Flatten(a) }"
    model = save(text_model(network, v=(3, 1, 4, 4)), tmp_path / "model.onnx")
    for index, name in enumerate(CLASSES):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), 60 * index, np.uint8)).save(tmp_path / "d" / name / "a.png")
    path = written(tmp_path, "w.csv", "cat,3\nowl,1\nfox,2.5\n")
    options = ("--scale", 255, "--all", "--epochs", 1, "--artifacts", tmp_path / "run", "-o", tmp_path / "t.onnx")
    loss = ("--loss", f"ce(class_weights={path}, smoothing=0.1)")
    result = run("finetune", model, "--data", tmp_path / "d", *loss, "--classes", "owl,fox,cat", *options)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["artifacts"]["options"]["loss"] == "ce(class_weights=[1.0,2.5,3.0],smoothing=0.1)"
    result = run("finetune", model, "--data", tmp_path / "d", *loss, *options)
    assert result.exit_code == 2
    assert "say their order: --classes" in result.stderr
