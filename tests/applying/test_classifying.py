"""Tables of a classifier: the class of every picture, and where it is asked for the probability of every class."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.applying.classifiers import CLASSIFIER, classifier
from tests.applying.refusals import noise
from tests.cli.commands import run
from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.data import DataOptions

WITH_SOFTMAX = CLASSIFIER.replace("y = Gemm(f, w, b)", "z = Gemm(f, w, b) y = Softmax(z)")


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores.astype(np.float64))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("ends_in_softmax", [False, True])
def test_a_column_for_the_probability_of_every_class_in_the_models_order(ends_in_softmax: bool, tmp_path: Path) -> None:
    text = WITH_SOFTMAX if ends_in_softmax else CLASSIFIER
    path = save(text_model(text, v=(4, 2, 3, 3), c=(4,), w=(4, 3), b=(3,)), tmp_path / "model.onnx")
    images = noise(4, 2, 5, 4)
    (scores,) = open_session(str(path)).run(None, {"x": images})
    expected = scores if ends_in_softmax else softmax(scores)
    reading, options = DataOptions(classes=("owl", "cat", "a dog")), ApplyOptions(form="probabilities")
    apply(path, images, tmp_path / "out.csv", reading=reading, options=options)
    header, *rows = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header == ["file", "class", "probability", "probability_owl", "probability_cat", "probability_a dog"]
    found = np.array([row[3:] for row in rows], float)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)
    assert [row[1] for row in rows] == [("owl", "cat", "a dog")[place] for place in expected.argmax(1)]
    assert [float(row[2]) for row in rows] == found.max(1).tolist()


def test_the_command_gives_the_columns_of_probabilities_by_their_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", noise(2, 2, 5, 4))
    path = save(classifier(), tmp_path / "model.onnx")
    arguments = ("apply", path, "--data", tmp_path / "x.npy", "-o", tmp_path / "out.csv")
    assert run(*arguments, "--as", "probabilities").exit_code == 0
    header, *rows = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header == ["file", "class", "probability", "probability_0", "probability_1", "probability_2"]
    assert len(rows) == 2
    assert run(*arguments, "--overwrite").exit_code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "file,class,probability"
