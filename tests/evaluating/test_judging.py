"""Criteria: which files of them are refused, and what is met, in all cases and in every subgroup."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tgdonnx.data.cases import Case
from tgdonnx.errors import DataError
from tgdonnx.evaluating.evaluation import Evaluation, Output
from tgdonnx.evaluating.found import Classes, Values
from tgdonnx.evaluating.judging import Verdict, judge
from tgdonnx.finetuning.acceptance import read_acceptance, require_judgeable

SITES = ("north", "south", "north", "south")
CASES = tuple(Case(f"row {n}", {"site": site}) for n, site in enumerate(SITES, 1))


def classes(found: list[int]) -> Classes:
    return Classes(2, np.array([0, 1, 1, 1]), np.array(found), np.ones(4))


def classifier() -> Evaluation:
    """Vendor: 2 of 4 right; tuned: 3 of 4, of north both, of south one."""
    output = Output(
        "y", "classes", ("accuracy", "f1"), ("cat", "dog"), None, classes([0, 0, 1, 0]), classes([0, 1, 1, 0])
    )
    return Evaluation("validation data", "0" * 64, CASES, (output,))


def denoiser(before: list[float], after: list[float]) -> Evaluation:
    files = (Values({"psnr": np.array(values)}) for values in (before, after))
    return Evaluation("validation data", "0" * 64, CASES, (Output("y", "values", ("psnr",), (), 1.0, *files),))


def written(folder: Path, *criteria: dict[str, Any], **more: Any) -> Path:
    path = folder / "criteria.json"
    path.write_text(json.dumps({"format": 1, "criteria": criteria, **more}))
    return path


def judged(folder: Path, evaluation: Evaluation, *criteria: dict[str, Any]) -> Verdict:
    return judge(read_acceptance(written(folder, *criteria)), evaluation)


def at_least(metric: str, limit: float, **more: Any) -> dict[str, Any]:
    return {"metric": metric, "direction": "at-least", "limit": limit, **more}


@pytest.mark.parametrize(
    ("criterion", "found", "passed"),
    [
        (at_least("accuracy", 0.75), 0.75, True),
        (at_least("accuracy", 0.76), 0.75, False),
        ({**at_least("accuracy", 0.75), "direction": "at-most"}, 0.75, True),
        ({**at_least("accuracy", 0.74), "direction": "at-most"}, 0.75, False),
        (at_least("accuracy", 0.25, of="change"), 0.25, True),
        (at_least("accuracy", 0.26, of="change"), 0.25, False),
        ({**at_least("accuracy", 0.66), "class": "dog"}, 2 / 3, True),
        ({**at_least("accuracy", 0.67), "class": 1}, 2 / 3, False),
        ({**at_least("f1", 0.66), "class": "cat"}, 2 / 3, True),
    ],
)
def test_a_criterion_is_met_up_to_its_limit(
    criterion: dict[str, Any], found: float, passed: bool, tmp_path: Path
) -> None:
    verdict = judged(tmp_path, classifier(), criterion)
    assert [float(each.found) for each in verdict.criteria] == [pytest.approx(found, rel=1e-5)]
    assert verdict.passed is passed


def test_in_subgroups_every_one_has_to_meet_it(tmp_path: Path) -> None:
    verdict = judged(tmp_path, classifier(), at_least("accuracy", 0.6, column="site"), at_least("accuracy", 0.6))
    assert [(each.subgroup, each.cases, each.after, each.passed) for each in verdict.criteria] == [
        ("north", 2, 1.0, True),
        ("south", 2, 0.5, False),
        (None, 4, 0.75, True),
    ]
    assert not verdict.passed


def test_the_verdict_has_the_hash_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, at_least("accuracy", 0.1), title="Protocol 3")
    verdict = judge(read_acceptance(path), classifier())
    assert verdict.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (verdict.passed, verdict.title, verdict.file) == (True, "Protocol 3", "criteria.json")


def test_where_nothing_is_to_be_measured_a_criterion_is_not_met(tmp_path: Path) -> None:
    for direction in ("at-least", "at-most"):
        criterion = {**at_least("psnr", 0.0), "direction": direction}
        verdict = judged(tmp_path, denoiser([20.0] * 4, [math.nan] * 4), criterion)
        assert not verdict.passed
        assert verdict.criteria[0].found == "nothing to measure"


def test_an_infinite_psnr_is_at_least_anything_and_its_change_from_an_infinite_one_is_nothing(tmp_path: Path) -> None:
    perfect = [math.inf] * 4
    assert judged(tmp_path, denoiser([20.0] * 4, perfect), at_least("psnr", 60.0)).passed
    assert not judged(tmp_path, denoiser(perfect, perfect), at_least("psnr", 0.0, of="change")).passed


def test_toml_says_the_same_as_json(tmp_path: Path) -> None:
    text = 'format = 1\n[[criteria]]\nmetric = "f1"\nclass = "cat"\ndirection = "at-most"\nlimit = 1\ncolumn = "site"\n'
    (tmp_path / "criteria.toml").write_text(text)
    criterion = {"metric": "f1", "class": "cat", "direction": "at-most", "limit": 1, "column": "site"}
    assert read_acceptance(tmp_path / "criteria.toml").content == read_acceptance(written(tmp_path, criterion)).content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no criteria of acceptance"),
        ("{", "no criteria of acceptance"),
        ('{"format": 1, "criteria": []}', "length >= 1"),
        ('{"format": 2, "criteria": []}', "2"),
        ('{"criteria": [{"metric": "f1", "direction": "at-least", "limit": 1}]}', "format"),
        ('{"format": 1, "criteria": [{"metric": "f1", "direction": "above", "limit": 1}]}', "above"),
        ('{"format": 1, "criteria": [{"metric": "f1", "direction": "at-least"}]}', "limit"),
        ('{"format": 1, "criteria": [{"metric": "f1", "direction": "at-least", "limit": "1"}]}', "limit"),
        ('{"format": 1, "criteria": [{"metric": "f1", "direction": "at-least", "limit": 1, "group": "a"}]}', "group"),
        ('{"format": 1, "criteria": [{"metric": "auc", "direction": "at-least", "limit": 1}]}', "'auc' is unknown"),
        ('{"format": 1, "format": 1}', "twice"),
    ],
)
def test_a_malformed_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "criteria.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as found:
        read_acceptance(path)
    assert str(path) in str(found.value)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name in ("missing.toml", "criteria.yaml"):
        with pytest.raises(DataError, match=name):
            read_acceptance(tmp_path / name)


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (at_least("dice", 0.5), "criterion 1: 'dice' is not measured here; expected one of accuracy, f1"),
        (at_least("f1", 0.5, column="age"), "has no other column 'age'; it has site"),
        ({**at_least("f1", 0.5), "class": "bird"}, "no class 'bird'; expected one of cat, dog"),
        ({**at_least("f1", 0.5), "class": 2}, "no class 2"),
    ],
)
def test_what_is_not_measured_is_refused(criterion: dict[str, Any], message: str, tmp_path: Path) -> None:
    acceptance = read_acceptance(written(tmp_path, criterion))
    with pytest.raises(DataError, match=message):
        require_judgeable(acceptance, {"accuracy": ("cat", "dog"), "f1": ("cat", "dog")}, CASES)


def test_values_have_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="psnr has no classes; leave the class out"):
        judged(tmp_path, denoiser([1.0] * 4, [1.0] * 4), {**at_least("psnr", 0.5), "class": "cat"})
