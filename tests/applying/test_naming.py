"""Names of classes in the table of a classifier: whose they are, and that there is one for every class."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.applying.classifiers import classifier, recorded
from tests.applying.refusals import noise, refuse
from tests.cli.commands import run
from tests.support.models import save
from tgdonnx import apply
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError


def labels(path: Path) -> set[str]:
    _, *rows = csv.reader(path.read_text().splitlines())
    return {label for _, label, _ in rows}


@pytest.mark.parametrize(
    ("names", "told"),
    [("ab", r"2 classes \(a, b\)"), ("abcde", r"5 classes \(a, b, c, d, e\)"), ("a", r"1 class \(a\)")],
)
def test_fewer_or_more_names_than_classes_are_refused_and_no_table_is_written(
    names: str, told: str, tmp_path: Path
) -> None:
    said = DataOptions(classes=tuple(names))
    path, images = save(classifier(), tmp_path / "model.onnx"), noise(2, 2, 5, 4)
    message = f"^`classes` names {told}, the model has 3; name all 3 with `classes`, in the model's order$"
    refuse(message, DataError, tmp_path, path, images, tmp_path / "out.csv", reading=said)


def test_fewer_names_in_the_record_of_training_are_refused_until_all_are_said(tmp_path: Path) -> None:
    path = save(recorded(classifier(), format=3, classes=["cat"]), tmp_path / "tuned.onnx")
    images, out = noise(2, 2, 5, 4), tmp_path / "out.csv"
    message = r"the record of training in the model names 1 class \(cat\), the model has 3; name all 3 with `classes`"
    refuse(message, DataError, tmp_path, path, images, out)
    report = apply(path, images, out, reading=DataOptions(classes=("x", "y", "z")))
    assert labels(out) <= {"x", "y", "z"}
    assert [text for text in report.remarks if "classes" in text] == [
        "the record of training in the model calls the classes cat; they go by `classes` here: x, y, z"
    ]


def test_recorded_names_are_taken_and_the_same_ones_said_get_no_word(tmp_path: Path) -> None:
    names = ("cat", "dog", "eel")
    path = save(recorded(classifier(), format=3, classes=names), tmp_path / "tuned.onnx")
    for place, reading in enumerate((DataOptions(), DataOptions(classes=names))):
        report = apply(path, noise(4, 2, 5, 4), tmp_path / f"{place}.csv", reading=reading)
        assert not [text for text in report.remarks if "classes" in text]
        assert labels(tmp_path / f"{place}.csv") <= set(names)
    assert (tmp_path / "0.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()


def test_without_names_classes_go_by_numbers_whatever_directories_are_called_as_the_help_says(tmp_path: Path) -> None:
    (tmp_path / "pets" / "eel").mkdir(parents=True)
    np.save(tmp_path / "pets" / "eel" / "0.npy", noise(1, 2, 5, 4))
    report = apply(save(classifier(), tmp_path / "model.onnx"), tmp_path / "pets", tmp_path / "out.csv")
    assert labels(tmp_path / "out.csv") <= {"0", "1", "2"}
    assert "classes go by their numbers; nothing names them" in report.remarks
    said = " ".join(run("apply", "--help").stdout.split())
    assert "between; else those of the run of --artifacts, or of the record in a tuned MODEL, or else numbers." in said
    assert "those of the data, sorted" not in said
