"""Options that would do nothing are refused, or told of; nothing is written where they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.applying.classifiers import classifier
from tests.applying.refusals import noise, refuse
from tests.cli.commands import run
from tests.support import models
from tests.support.models import save
from tgdonnx import ApplyOptions, apply
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ApplyOptions(form="image"),
            "a table has the class of every picture .* got `form='image'` too; write .* as .npy",
        ),
        (ApplyOptions(form="scores"), "got `form='scores'` too"),
        (ApplyOptions(tile=(8, 8)), "a table is never made by tiles; got `tile` too; leave `tile` out"),
        (ApplyOptions(tile=(8,)), "a table is never made by tiles"),
        (
            ApplyOptions(suffix=".png"),
            "got `suffix`, which is for the results of many files in a directory, and .* is one",
        ),
    ],
    ids=str,
)
def test_a_table_takes_no_option_of_images(options: ApplyOptions, message: str, tmp_path: Path) -> None:
    path = save(classifier(), tmp_path / "model.onnx")
    refuse(message, DataError, tmp_path, path, noise(1, 2, 5, 4), tmp_path / "out.csv", options=options)


def test_a_single_result_takes_no_suffix(tmp_path: Path) -> None:
    path, options = save(models.dncnn(0), tmp_path / "model.onnx"), ApplyOptions(suffix=".png")
    refuse("name a directory", DataError, tmp_path, path, noise(1, 3, 9, 8), tmp_path / "out.npy", options=options)
    refuse("the results stay in memory", DataError, tmp_path, path, noise(1, 3, 9, 8), options=options)


def test_a_table_may_be_asked_for_as_what_it_holds(tmp_path: Path) -> None:
    path, images = save(classifier(), tmp_path / "model.onnx"), noise(2, 2, 5, 4)
    apply(path, images, tmp_path / "plain.csv")
    apply(path, images, tmp_path / "asked.csv", options=ApplyOptions(form="classes"))
    assert (tmp_path / "asked.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_names_of_classes_and_of_arrays_that_nothing_goes_by_get_a_word(tmp_path: Path) -> None:
    path = save(models.dncnn(0), tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", noise(1, 3, 9, 8))
    reading = DataOptions(classes=("a", "b"), map={"foo": "x"})
    report = apply(path, tmp_path / "images.npy", reading=reading)
    assert "`classes` names the classes of a table (.csv); this result has no names" in report.remarks
    assert "`map` changes nothing: the data goes by no names of arrays" in report.remarks
    assert not [text for text in apply(path, tmp_path / "images.npy").remarks if "name" in text]


def test_an_array_that_is_mapped_and_not_there_is_refused(tmp_path: Path) -> None:
    path = save(models.dncnn(0), tmp_path / "model.onnx")
    np.savez(tmp_path / "images.npz", x=noise(1, 3, 9, 8))
    reading = DataOptions(map={"foo": "x"})
    refuse("foo", DataError, tmp_path, path, tmp_path / "images.npz", tmp_path / "out.npy", reading=reading)


def test_the_command_names_its_own_options(tmp_path: Path) -> None:
    path = save(classifier(), tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", noise(1, 2, 5, 4))
    asked = ("apply", path, "--data", tmp_path / "images.npy", "-o", tmp_path / "out.csv")
    found = [run(*asked, *more) for more in (("--as", "image"), ("--tile", "8"), ("--suffix", ".png"))]
    assert [each.exit_code for each in found] == [2, 2, 2]
    said = [" ".join(each.stderr.split()) for each in found]
    assert "got --as image too" in said[0]
    assert "leave --tile out" in said[1]
    assert "leave --suffix out" in said[2]
