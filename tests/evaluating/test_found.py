"""What a file makes of an output, case by case, against values made by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, recall_score

from tgdonnx.evaluating.found import (
    Classes,
    ClassesCollector,
    Regions,
    RegionsCollector,
    ValuesCollector,
    as_probabilities,
)


def classified(cases: int = 60, classes: int = 4, seed: int = 0) -> tuple[Classes, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wanted, scores = rng.integers(0, classes, cases), rng.normal(size=(cases, classes))
    scores[np.arange(cases), wanted] += 1
    into = ClassesCollector(cases, classes)
    for part in np.array_split(np.arange(cases), 7):
        into.add(part, scores[part], wanted[part], None)
    return into.result(), wanted, scores.argmax(1)


def test_a_classifier_is_scored_as_scikit_learn_does_of_all_cases_and_of_some() -> None:
    made, wanted, found = classified()
    some = np.flatnonzero(np.arange(60) % 3 == 0)
    for chosen in (None, some):
        a, b = (wanted, found) if chosen is None else (wanted[chosen], found[chosen])
        assert made.score("accuracy", chosen) == pytest.approx(np.mean(a == b), rel=1e-12)
        assert made.score("f1", chosen) == pytest.approx(f1_score(a, b, average="macro"), rel=1e-12)
        for label in range(4):
            recall = recall_score(a, b, labels=[label], average=None)[0]
            assert made.score("accuracy", chosen, label) == pytest.approx(recall, rel=1e-12)
            assert made.score("f1", chosen, label) == pytest.approx(
                f1_score(a, b, labels=[label], average=None)[0], rel=1e-12
            )
    assert made.counts().matrix.tolist() == confusion_matrix(wanted, found).tolist()


def test_a_case_without_a_label_counts_nowhere() -> None:
    into = ClassesCollector(3, 2)
    into.add(np.arange(3), np.array([[2.0, 1], [0, 1], [0, 1]]), np.array([0, 255, 0]), np.array([True, False, True]))
    made = into.result()
    assert made.score("accuracy") == 0.5
    assert np.isnan(made.per_case("accuracy")).tolist() == [False, True, False]


def test_probabilities_stay_and_logits_go_through_softmax() -> None:
    given = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert as_probabilities(given).tolist() == given.tolist()
    assert as_probabilities(np.array([[0.0, math.log(3)]]))[0] == pytest.approx([0.25, 0.75], rel=1e-12)


def segmented(seed: int = 1) -> tuple[Regions, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wanted = rng.integers(0, 3, (5, 6, 7))
    wanted[0] = 1
    found = np.where(rng.random(wanted.shape) < 0.7, wanted, rng.integers(0, 3, wanted.shape))
    into = RegionsCollector(5, 3, masks=False)
    into.add(np.arange(2), found[:2], wanted[:2], None)
    into.add(np.arange(2, 5), found[2:], wanted[2:], None)
    return into.result(), wanted, found


def test_regions_are_scored_per_case_and_class_as_scikit_learn_does() -> None:
    made, wanted, found = segmented()
    for case in range(5):
        a, b = wanted[case].ravel(), found[case].ravel()
        occurring = sorted({*a.tolist(), *b.tolist()})
        iou = jaccard_score(a, b, labels=occurring, average=None)
        dice = f1_score(a, b, labels=occurring, average=None)
        assert made.per_class("iou")[case][occurring] == pytest.approx(iou, rel=1e-12)
        assert made.per_class("dice")[case][occurring] == pytest.approx(dice, rel=1e-12)
        assert made.per_case("dice")[case] == pytest.approx(dice.mean(), rel=1e-12)
        assert made.per_case("accuracy")[case] == pytest.approx(np.mean(a == b), rel=1e-12)
    assert made.score("f1") == pytest.approx(f1_score(wanted.ravel(), found.ravel(), average="macro"), rel=1e-12)
    assert made.matrix is not None
    assert made.matrix.tolist() == confusion_matrix(wanted.ravel(), found.ravel()).tolist()


def test_the_dice_of_a_class_is_the_mean_over_the_cases_that_it_is_in_or_found_in() -> None:
    into = RegionsCollector(3, 2, masks=False)
    wanted = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = np.array([[0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
    into.add(np.arange(3), found, wanted, None)
    made = into.result()
    assert made.score("dice", None, 1) == pytest.approx((2 * 2 / (2 + 3) + 0) / 2, rel=1e-12)
    assert made.score("iou", np.array([0]), 1) == pytest.approx(2 / 3, rel=1e-12)
    assert math.isnan(made.score("dice", np.array([1]), 1))


def test_tiles_of_a_case_are_added_up() -> None:
    _, wanted, found = segmented()
    whole, tiled = RegionsCollector(1, 3, masks=False), RegionsCollector(1, 3, masks=False)
    whole.add(np.array([0]), found[:1], wanted[:1], None)
    for part in (slice(0, 2), slice(2, 6)):
        tiled.add(np.array([0]), found[:1, part], wanted[:1, part], None)
    assert tiled.result().per_case("iou").tolist() == whole.result().per_case("iou").tolist()


def test_channels_of_masks_are_classes_and_a_case_is_of_all_of_them_together() -> None:
    found = np.array([[[[1, 1, 0, 0]], [[0, 0, 0, 1]]]], bool)
    wanted = np.array([[[[1, 0, 0, 0]], [[0, 0, 1, 1]]]], bool)
    into = RegionsCollector(1, 2, masks=True)
    into.add(np.array([0]), found, wanted, None)
    made = into.result()
    assert made.per_class("dice")[0].tolist() == [2 / 3, 2 / 3]
    assert made.per_case("dice").tolist() == [2 * 2 / (3 + 3)]
    assert made.per_case("accuracy").tolist() == [6 / 8]
    assert made.matrix is None


def test_an_empty_mask_that_is_found_empty_is_right() -> None:
    into = RegionsCollector(2, 1, masks=True)
    nothing = np.zeros((2, 1, 3), bool)
    into.add(np.arange(2), nothing, nothing, np.array([np.ones((1, 3)), np.zeros((1, 3))]))
    assert into.result().per_case("dice")[0] == 1
    assert np.isnan(into.result().per_case("dice")[1])


def test_values_are_means_over_the_tiles_of_every_case() -> None:
    into = ValuesCollector(2, ("rmse", "psnr"), 2.0)
    target = np.zeros((3, 1, 2, 2))
    output = np.array([1.0, 3.0, 0.0])[:, None, None, None] + target
    into.add(np.array([0, 0, 1]), output, target, None)
    made = into.result()
    assert made.per_case("rmse").tolist() == [2.0, 0.0]
    assert made.per_case("psnr")[0] == pytest.approx((20 * math.log10(2) + 20 * math.log10(2 / 3)) / 2)
    assert math.isinf(made.score("psnr"))
    assert made.score("rmse", np.array([0])) == 2.0
