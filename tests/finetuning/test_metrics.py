"""Metrics against values made by hand and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.finetuning.metrics import METRICS, POOLED, is_better, measure, require_metrics, worsening


def images(shape: tuple[int, ...], seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    clean = rng.uniform(0, 3, shape).astype(np.float32)
    return (clean + rng.normal(0, 0.2, shape)).astype(np.float32), clean


@pytest.mark.parametrize("shape", [(3, 2, 17, 23), (2, 1, 11, 11), (2, 3, 40), (1, 2, 12, 13, 14)])
def test_ssim_is_that_of_scikit_image_with_the_window_of_wang(shape: tuple[int, ...]) -> None:
    output, target = images(shape)
    expected = [
        np.mean(
            [
                structural_similarity(
                    a.astype(np.float64),
                    b.astype(np.float64),
                    data_range=3.0,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
                for a, b in zip(x, y)
            ]
        )
        for x, y in zip(output, target)
    ]
    assert measure("ssim", output, target, 3.0) == pytest.approx(expected, rel=1e-9)


def test_psnr_is_that_of_scikit_image() -> None:
    output, target = images((4, 2, 9, 7))
    expected = [
        peak_signal_noise_ratio(b.astype(np.float64), a.astype(np.float64), data_range=3.0)
        for a, b in zip(output, target)
    ]
    assert measure("psnr", output, target, 3.0) == pytest.approx(expected, rel=1e-12)


def test_rmse_and_psnr_by_hand() -> None:
    output = np.array([[[1.0, 2.0]], [[5.0, 5.0]]], np.float32)
    target = np.array([[[1.0, 0.0]], [[2.0, 1.0]]], np.float32)
    assert measure("rmse", output, target) == pytest.approx([math.sqrt(2), math.sqrt(12.5)], rel=1e-12)
    assert measure("psnr", output, target, 10.0) == pytest.approx(
        [10 * math.log10(100 / 2), 10 * math.log10(100 / 12.5)]
    )


def test_equal_images_have_infinite_psnr_and_an_ssim_of_one() -> None:
    _, target = images((2, 1, 12, 12))
    assert measure("psnr", target, target, 3.0).tolist() == [math.inf, math.inf]
    assert measure("ssim", target, target, 3.0) == pytest.approx([1.0, 1.0], rel=1e-12)


def test_ssim_of_constant_images_is_its_first_factor() -> None:
    output, target = np.full((1, 1, 11, 11), 2.0), np.full((1, 1, 11, 11), 1.0)
    c1 = (0.01 * 4) ** 2
    assert measure("ssim", output, target, 4.0) == pytest.approx([(2 * 2 + c1) / (4 + 1 + c1)], rel=1e-9)


def test_accuracy_by_hand() -> None:
    output, target = np.array([[0, 1, 2, 2], [1, 1, 1, 1]]), np.array([[0, 2, 2, 2], [1, 1, 1, 1]])
    assert measure("accuracy", output, target).tolist() == [0.75, 1.0]


def test_dice_of_masks_by_hand_and_of_empty_ones() -> None:
    output = np.array([[True, True, False, False], [False] * 4, [True, False, False, False]])
    target = np.array([[True, False, True, False], [False] * 4, [False] * 4])
    assert measure("dice", output, target).tolist() == [2 * 1 / (2 + 2), 1.0, 0.0]


def test_dice_of_classes_is_the_mean_over_those_that_occur() -> None:
    output, target = np.array([[0, 0, 3, 3]]), np.array([[0, 3, 3, 5]])
    assert measure("dice", output, target) == pytest.approx([(2 / 3 + 2 / 4 + 0) / 3])


def test_iou_of_masks_and_of_classes_by_hand() -> None:
    output = np.array([[True, True, False, False], [False] * 4, [True, False, False, False]])
    target = np.array([[True, False, True, False], [False] * 4, [False] * 4])
    assert measure("iou", output, target).tolist() == [1 / 3, 1.0, 0.0]
    assert measure("iou", np.array([[0, 0, 3, 3]]), np.array([[0, 3, 3, 5]])) == pytest.approx(
        [(1 / 2 + 1 / 3 + 0) / 3]
    )


@pytest.mark.parametrize("name", sorted({*METRICS} - POOLED))
def test_samples_do_not_mix(name: str) -> None:
    output, target = images((3, 1, 12, 13))
    if name in ("accuracy", "dice", "iou"):
        output, target = output > 1, target > 1
    together = measure(name, output, target, 3.0)
    alone = [measure(name, output[i : i + 1], target[i : i + 1], 3.0)[0] for i in range(3)]
    assert together == pytest.approx(alone, rel=1e-12)
    assert len(set(together.tolist())) > 1


def test_only_rmse_becomes_worse_by_growing() -> None:
    assert {name: worsening(name, 1.0, 3.0) for name in METRICS} == {
        name: 2.0 if name == "rmse" else -2.0 for name in METRICS
    }


@pytest.mark.parametrize(
    ("names", "task", "shape", "message"),
    [
        (("dice",), "values", (1, 1, 20, 20), "dice does not suit this loss; expected psnr, ssim, rmse"),
        (("psnr",), "classes", (1, 3, 20, 20), "psnr does not suit"),
        (("psnr", "ssim"), "values", (1, 1, 20, 10), "ssim needs at least 11 .* found an output of shape"),
        (("ssim",), "values", (1, 100), "ssim needs at least 11"),
        (
            ("dice",),
            "classes",
            (8, 3),
            "dice compares regions, and here every sample is of one class; expected accuracy, f1",
        ),
        (("f1",), "mask", (8, 1, 4, 4), "f1 does not suit this loss; expected dice, iou, accuracy"),
    ],
)
def test_metrics_that_cannot_be_taken_are_refused(
    names: tuple[str, ...], task: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        require_metrics(names, task, shape)


def test_what_does_not_count_changes_no_metric_and_nothing_that_counts_is_no_number() -> None:
    rng = np.random.default_rng(2)
    output, target = rng.normal(size=(3, 1, 4, 5)), rng.normal(size=(3, 1, 4, 5))
    counts = rng.uniform(size=output.shape) > 0.5
    counts[2] = False
    other = np.where(counts, output, 100)
    for name, a, b, c in (
        ("rmse", output, other, target),
        ("psnr", output, other, target),
        ("accuracy", output > 0, other > 0, target > 0),
        ("dice", output > 0, other > 0, target > 0),
        ("iou", output > 0, other > 0, target > 0),
    ):
        found = measure(name, a, c, 3.0, counts)
        assert found[:2].tolist() == measure(name, b, c, 3.0, counts)[:2].tolist()
        assert np.isnan(found[2])
    errors = [np.sqrt(np.mean((output - target)[i][counts[i]] ** 2)) for i in range(2)]
    assert measure("rmse", output, target, None, counts)[:2] == pytest.approx(errors, rel=1e-12)


def test_weights_of_2_count_as_two_elements() -> None:
    output, target = np.array([[True, False, True, True]]), np.array([[True, True, False, True]])
    weight = np.array([[2.0, 1.0, 1.0, 0.0]])
    twice, thrice = np.array([[True, True, False, True]]), np.array([[True, True, True, False]])
    for name in ("accuracy", "dice"):
        assert measure(name, output, target, None, weight) == pytest.approx(measure(name, twice, thrice), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "now", "best", "better"),
    [
        ("loss", 1.0, 2.0, True),
        ("loss", 2.0, 2.0, False),
        ("scores loss", 3.0, 2.0, False),
        ("rmse", 1.0, 2.0, True),
        ("psnr", 30.0, 29.0, True),
        ("psnr", None, 99.0, True),
        ("psnr", 99.0, None, False),
        ("a dice", 0.5, 0.5, False),
        ("f1", 0.1, None, True),
        ("f1", None, 0.1, False),
        ("f1", None, None, False),
    ],
)
def test_what_is_better_is_known_of_every_measure(
    name: str, now: float | None, best: float | None, better: bool
) -> None:
    assert is_better(name, now, best) is better
