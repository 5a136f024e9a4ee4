"""Counts of classes against values made by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from tgdonnx.finetuning.class_counts import ClassCounts, mean_of_known


def counted(found: object, wanted: object, counts: object = None) -> ClassCounts:
    made = ClassCounts()
    made.add(np.array(found), np.array(wanted), None if counts is None else np.array(counts))
    return made


def test_rows_of_the_matrix_are_the_targets_classes_and_columns_the_outputs() -> None:
    assert counted([0, 2, 2, 1], [0, 2, 1, 1]).matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


def test_per_class_values_by_hand() -> None:
    # Class 0: 3 in the target, 2 of them found, and 1 of another; class 1: 1, not found; class 2: neither is nor is found.
    made = counted([0, 0, 3, 0], [0, 0, 0, 1])
    assert made.recall()[:2].tolist() == [2 / 3, 0.0]
    assert made.precision()[[0, 3]].tolist() == [2 / 3, 0.0]
    assert made.f1()[[0, 1, 3]].tolist() == [2 * 2 / (3 + 3), 0.0, 0.0]
    assert made.iou()[[0, 1, 3]].tolist() == [2 / 4, 0.0, 0.0]
    assert np.isnan([made.recall()[2], made.precision()[1], made.f1()[2], made.iou()[2]]).all()
    assert made.accuracy() == 0.5


def test_values_are_those_of_scikit_learn_whatever_the_batches() -> None:
    oracle = pytest.importorskip("sklearn.metrics", reason="scikit-learn, which nilearn brings, is not installed")
    rng = np.random.default_rng(3)
    wanted = rng.integers(0, 5, 400)
    found = np.where(rng.random(400) < 0.6, wanted, rng.integers(0, 5, 400))
    weights = rng.uniform(0.1, 2, 400)
    made = ClassCounts()
    for part in (slice(0, 7), slice(7, 250), slice(250, 400)):
        made.add(found[part], wanted[part], weights[part])
    assert made.matrix == pytest.approx(oracle.confusion_matrix(wanted, found, sample_weight=weights), rel=1e-12)
    precision, recall, f1, _ = oracle.precision_recall_fscore_support(wanted, found, sample_weight=weights)
    assert made.precision() == pytest.approx(precision, rel=1e-12)
    assert made.recall() == pytest.approx(recall, rel=1e-12)
    assert made.f1() == pytest.approx(f1, rel=1e-12)
    assert made.iou() == pytest.approx(
        oracle.jaccard_score(wanted, found, average=None, sample_weight=weights), rel=1e-12
    )


def test_what_does_not_count_may_be_of_any_class() -> None:
    assert counted([1, 0, 1], [1, 255, -1], [True, False, False]).matrix.tolist() == [[0, 0], [0, 1]]


def test_nothing_counted_is_no_number() -> None:
    made = counted([1, 0], [255, 255], [False, False])
    assert np.isnan(made.accuracy())
    assert np.isnan(mean_of_known(made.f1()))
