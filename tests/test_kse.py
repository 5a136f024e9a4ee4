"""The scores against a slow reference that shares nothing with them, and every degenerate case by name."""

from __future__ import annotations

import math
import re
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.oracles.kse_reference import reference
from tgdonnx import kse
from tgdonnx.errors import NonFiniteWeightError, TgdonnxError
from tgdonnx.kse import MapScores, score_maps

Array = NDArray[Any]
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]


def assert_matches_reference(weight: Array, *, atol: float = 1e-6, **options: Any) -> MapScores:
    scores = score_maps(weight, **options)
    sparsity, entropy, expected = reference(weight, **options)
    np.testing.assert_allclose(scores.sparsity, sparsity, rtol=1e-13, atol=0)
    np.testing.assert_allclose(scores.entropy, entropy, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(scores.kse, expected, rtol=0, atol=atol)
    return scores


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# Agreement with the reference.


def values(style: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(shape)
    if style == "integers, so ties and duplicates":
        return rng.integers(-2, 3, shape).astype(float)
    if style == "near duplicates":
        return 1 + noise * 2.0**-10 if rng.random() < 0.5 else 1 + noise * 2.0**-22
    if style == "two tight clusters":
        return rng.integers(0, 2, (shape[0], *[1] * (len(shape) - 1))) + noise * 2.0**-22
    if style == "mixed magnitudes":
        return noise * 10.0 ** rng.integers(-30, 30, shape[:2]).reshape(*shape[:2], *[1] * (len(shape) - 2))
    if style == "mostly zero":
        return noise * (rng.random(shape) < 0.2)
    if style == "huge":
        return noise * 1e30
    if style == "tiny":
        return noise * 1e-30
    return noise


STYLES = [
    "normal",
    "integers, so ties and duplicates",
    "near duplicates",
    "two tight clusters",
    "mixed magnitudes",
    "mostly zero",
    "huge",
    "tiny",
]


@settings(deadline=None, max_examples=300)
@given(
    group=st.integers(1, 3),
    filters=st.integers(1, 14),
    in_maps=st.integers(1, 5),
    kernel=st.lists(st.integers(1, 3), max_size=3),
    dtype=st.sampled_from(DTYPES),
    style=st.sampled_from(STYLES),
    k=st.integers(1, 16),
    alpha=st.floats(0, 4),  # the more alpha, the more a rounding error of the reference itself counts
    seed=st.integers(0, 2**32),
)
def test_scores_agree_with_the_reference(
    group: int,
    filters: int,
    in_maps: int,
    kernel: list[int],
    dtype: np.dtype[Any],
    style: str,
    k: int,
    alpha: float,
    seed: int,
) -> None:
    weight = values(style, (group * filters, in_maps, *kernel), np.random.default_rng(seed))
    if dtype == np.float16:
        weight = weight.clip(-60000, 60000)
    scores = assert_matches_reference(weight.astype(dtype), group=group, k=k, alpha=alpha)
    assert scores.kse.dtype == np.float64
    assert scores.kse.min() >= 0
    assert scores.kse.max() == 1


@pytest.mark.parametrize("kernel", [(), (1,), (3,), (3, 3), (1, 1), (3, 3, 3)])
def test_a_layer_of_ordinary_size_agrees_with_the_reference_to_1e_12(kernel: tuple[int, ...]) -> None:
    assert_matches_reference(normal(60, 5, *kernel), atol=1e-12)


def test_scores_of_a_layer_worked_out_by_hand() -> None:
    # Map 0: kernels 0, 1, 3 on a line. k = 1: dm = 1, 1, 2. Map 1: 0, 0, 4: dm = 0, 0, 4. Map 2: 1, 1, 1: dm = 0, 0, 0.
    weight = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [3.0, 4.0, -1.0]])
    weight[2, 2] = 1.0
    weight[2, 1] = 8.0
    scores = score_maps(weight, k=1)
    np.testing.assert_array_equal(scores.sparsity, [4, 8, 3])
    np.testing.assert_allclose(scores.entropy, [1.5, 0, 0], rtol=1e-15)
    np.testing.assert_allclose(scores.kse, [math.sqrt((1 / 5) / 2), 1, 0], rtol=1e-15)
    assert scores.notes == ()


@pytest.mark.parametrize("spacing", [1e-5, 1e-7, 1e-9, 1e-12])
def test_neighbours_too_near_for_the_matrix_product_are_still_told_apart(spacing: float) -> None:
    # Three clusters of more than k kernels, each around a centre of norm 3, and rows that are no near duplicates.
    weight = np.repeat(normal(3, 4, 3, 3, seed=1), 8, axis=0) + spacing * normal(24, 4, 3, 3, seed=2)
    weight[:3] = normal(3, 4, 3, 3, seed=3)
    assert_matches_reference(weight, atol=1e-9, k=3)
    assert_matches_reference(weight[3:], atol=1e-9, k=3)


def test_near_ties_among_near_duplicates_are_still_told_apart() -> None:
    # All distances within a cluster agree to 1e-5, which is about the rounding error of the matrix product.
    corners = np.concatenate([1e-5 * np.eye(9), 3e-5 * np.eye(9)]).reshape(18, 1, 3, 3)
    centres = np.repeat(normal(2, 4, 3, 3, seed=1), 9, axis=0)
    assert_matches_reference(centres + corners * (1 + 1e-5 * normal(18, 4, 3, 3, seed=2)), k=3)


def test_a_tiny_entropy_keeps_its_digits() -> None:
    # On a line: 1e12 and the points 0, 1, 2, 3. With k = 1 their dm are 1e12 - 3, 1, 1, 1, 1.
    entropy = score_maps(np.array([[1e12], [0.0], [1.0], [2.0], [3.0]]), k=1).entropy[0]
    total = 1e12 + 1
    # ln(1 - x) = -x for x = 4 / total, but for a fraction of 1e-12.
    assert entropy == pytest.approx(4 / total * (math.log2(total) + 1 / math.log(2)), rel=1e-11, abs=0)


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e-30), ("f4", 1e30), ("f8", 1e-300), ("f8", 1e300)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_huge_and_tiny_weights_neither_overflow_nor_underflow(
    dtype: str, scale: float, kernel: tuple[int, int]
) -> None:
    assert_matches_reference((scale * normal(20, 4, *kernel)).astype(dtype), atol=1e-12)


def test_a_sum_beyond_float64_is_reported_as_infinite_but_still_scored() -> None:
    weight = normal(20, 4, 3, 3).clip(-1, 1)
    scores = score_maps(weight * 1.7e308)
    assert np.isposinf(scores.sparsity).all()
    np.testing.assert_allclose(scores.kse, score_maps(weight).kse, rtol=0, atol=1e-12)


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("kernel", [(1,), (3, 2)])
def test_cutting_the_work_into_small_blocks_changes_nothing(
    group: int, kernel: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = normal(33, 7, *kernel)
    whole = score_maps(weight, group=group)
    for block in (1, 50, 300):
        monkeypatch.setattr(kse, "_BLOCK", block)
        monkeypatch.setattr(kse, "_BLAS_TILE", block)
        cut = score_maps(weight, group=group)
        np.testing.assert_allclose(cut.entropy, whole.entropy, rtol=1e-14)
        np.testing.assert_allclose(cut.kse, whole.kse, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1024, 512, 1, 1), (256, 256, 3, 3), (1500, 8, 3, 3)])
def test_memory_stays_a_few_times_the_weight_and_never_all_pairs(shape: tuple[int, ...]) -> None:
    weight = normal(*shape).astype(np.float32)
    tracemalloc.start()
    score_maps(weight)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * weight.nbytes + 32e6


# The degenerate cases of TGD.md.


def test_one_filter_has_entropy_0() -> None:
    scores = score_maps(normal(1, 6, 3, 3))
    np.testing.assert_array_equal(scores.entropy, 0)
    assert scores.notes == ("All input maps have the same entropy, so the scores follow from sparsity alone.",)


def test_a_depthwise_layer_is_ranked_by_sparsity_alone() -> None:
    weight = normal(6, 1, 3, 3)
    scores = score_maps(weight, group=6)
    s = np.abs(weight).sum(axis=(1, 2, 3))
    np.testing.assert_array_equal(scores.entropy, 0)
    np.testing.assert_allclose(scores.kse, np.sqrt((s - s.min()) / (s.max() - s.min())), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kernel", [(), (1, 1), (3, 3)])
@pytest.mark.parametrize("filters", [2, 6, 20])
def test_equal_kernels_have_entropy_exactly_0(kernel: tuple[int, ...], filters: int) -> None:
    weight = normal(filters, 3, *kernel)
    weight[:, 1] = weight[0, 1]
    entropy = score_maps(weight).entropy
    assert entropy[1] == 0
    assert not np.signbit(entropy[1])
    assert entropy[0] > 0


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_a_map_of_zeros_has_sparsity_entropy_and_score_0(kernel: tuple[int, ...]) -> None:
    weight = normal(9, 4, *kernel)
    weight[:, 2] = 0
    scores = assert_matches_reference(weight, atol=1e-12)
    assert (scores.sparsity[2], scores.entropy[2], scores.kse[2]) == (0, 0, 0)
    assert np.count_nonzero(scores.kse == 0) == 1


def test_one_outlier_among_equal_kernels_has_entropy_0() -> None:
    weight = np.ones((9, 2, 3, 3))
    weight[4] = normal(2, 3, 3)
    np.testing.assert_array_equal(score_maps(weight).entropy, 0)  # it alone has any distance: p = 1


@pytest.mark.parametrize("filters", [2, 3, 4, 5, 6, 7])
def test_with_few_filters_all_others_are_neighbours(filters: int) -> None:
    weight = normal(filters, 5, 3, 3)
    few = assert_matches_reference(weight, atol=1e-12, k=filters - 1)
    np.testing.assert_array_equal(score_maps(weight, k=100).kse, few.kse)


def test_two_filters_always_have_entropy_1() -> None:
    scores = score_maps(normal(2, 5, 3, 3))
    np.testing.assert_allclose(scores.entropy, 1, rtol=1e-15)
    assert "same entropy" in scores.notes[0]


def test_constant_entropy_counts_as_0() -> None:
    weight = np.eye(9).reshape(9, 1, 3, 3) * np.array([1.0, 5.0, 3.0]).reshape(1, 3, 1, 1)
    scores = score_maps(weight, alpha=7.0)
    np.testing.assert_allclose(scores.kse, np.sqrt([0, 1, 0.5]), rtol=1e-15)


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_constant_sparsity_makes_every_score_1_and_says_why(kernel: tuple[int, ...]) -> None:
    weight = np.sign(normal(12, 4, *kernel))
    scores = score_maps(weight)
    np.testing.assert_array_equal(scores.kse, 1)
    assert scores.notes == (
        "All input maps have the same sparsity, so none can be told to matter less: every score is 1 (freeze).",
    )


def test_a_single_map_scores_1_and_says_why() -> None:
    scores = score_maps(normal(12, 1, 3, 3))
    np.testing.assert_array_equal(scores.kse, [1])
    assert scores.entropy[0] > 0
    assert scores.notes == (
        "The layer has a single input map, so none can be told to matter less: every score is 1 (freeze).",
    )


def test_a_layer_of_zeros_scores_1() -> None:
    scores = score_maps(np.zeros((8, 3, 3, 3), np.float32))
    np.testing.assert_array_equal(scores.kse, 1)
    np.testing.assert_array_equal(scores.sparsity, 0)
    assert "same sparsity" in scores.notes[0]


def test_a_single_weight_scores_1() -> None:
    np.testing.assert_array_equal(score_maps(np.array([[3.0]])).kse, [1])


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_rounding_noise_is_not_taken_for_a_difference(kernel: tuple[int, int]) -> None:
    # Every map has the same kernels: filters in another order, taps in another order. Then multiples of them.
    rng = np.random.default_rng(6)
    kernels = rng.standard_normal((40, math.prod(kernel)))
    copies = [rng.permutation(rng.permutation(kernels, axis=0), axis=1) for _ in range(30)]
    weight = np.stack(copies, axis=1).reshape(40, 30, *kernel)
    np.testing.assert_array_equal(score_maps(weight).kse, 1)

    factors = np.linspace(0.1, 3.3, 30)
    scores = score_maps(weight * factors.reshape(1, 30, 1, 1))
    np.testing.assert_allclose(scores.kse, np.sqrt((factors - 0.1) / 3.2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 1e-300, 1e3, 1e308])
def test_scores_reach_from_0_to_1_at_any_alpha(alpha: float) -> None:
    kse_ = score_maps(normal(12, 6, 3, 3), alpha=alpha).kse
    assert (kse_.min(), kse_.max()) == (0, 1)
    assert np.count_nonzero(kse_ == 0) == 1


def test_neighbours_of_a_grouped_layer_are_those_of_its_group() -> None:
    weight = normal(24, 3, 3, 3)
    weight[8:16] *= 10
    whole = score_maps(weight, group=3)
    parts = [score_maps(part) for part in np.split(weight, 3)]
    np.testing.assert_array_equal(whole.sparsity, np.concatenate([p.sparsity for p in parts]))
    np.testing.assert_array_equal(whole.entropy, np.concatenate([p.entropy for p in parts]))


def test_a_grouped_layer_is_normalised_as_a_whole() -> None:
    weight = normal(24, 3, 3, 3)
    weight[8:16] *= 10
    kse_ = assert_matches_reference(weight, atol=1e-12, group=3).kse
    assert kse_[3:6].min() > kse_[:3].max()
    assert kse_[3:6].min() > kse_[6:].max()
    assert kse_.max() == 1


# Invariances.

seeds = st.integers(0, 2**32)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, factor=st.floats(1e-12, 1e12) | st.floats(-1e12, -1e-12), group=st.sampled_from([1, 2]))
def test_scaling_all_weights_leaves_the_scores_unchanged(seed: int, factor: float, group: int) -> None:
    weight = normal(18, 5, 3, 3, seed=seed)
    np.testing.assert_allclose(
        score_maps(factor * weight, group=group).kse, score_maps(weight, group=group).kse, rtol=0, atol=1e-11
    )


@settings(deadline=None, max_examples=25)
@given(seed=seeds, kernel=st.sampled_from([(1, 1), (3, 3)]), group=st.sampled_from([1, 2]))
def test_permuting_the_filters_of_a_group_leaves_the_scores_unchanged(
    seed: int, kernel: tuple[int, int], group: int
) -> None:
    weight = normal(18, 5, *kernel, seed=seed)
    rng = np.random.default_rng(seed)
    size = 18 // group
    order = np.concatenate([g * size + rng.permutation(size) for g in range(group)])
    before, after = score_maps(weight, group=group), score_maps(weight[order], group=group)
    np.testing.assert_allclose(after.entropy, before.entropy, rtol=1e-14)
    np.testing.assert_allclose(after.kse, before.kse, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(seed=seeds, kernel=st.sampled_from([(1, 1), (3, 3)]))
def test_permuting_the_maps_permutes_the_scores(seed: int, kernel: tuple[int, int]) -> None:
    weight = normal(18, 7, *kernel, seed=seed)
    order = np.random.default_rng(seed).permutation(7)
    np.testing.assert_allclose(score_maps(weight[:, order]).kse, score_maps(weight).kse[order], rtol=0, atol=1e-12)


def test_the_memory_layout_of_the_weight_does_not_matter_and_it_is_not_written_to() -> None:
    weight = normal(12, 6, 3, 2)
    expected = score_maps(weight).kse
    for laid_out in (np.asfortranarray(weight), weight[:, :, ::-1, ::-1], weight.transpose(0, 1, 3, 2)):
        laid_out.flags.writeable = False
        np.testing.assert_allclose(score_maps(laid_out).kse, expected, rtol=0, atol=1e-12)
    assert score_maps(weight.astype(">f8")).kse == pytest.approx(expected, abs=1e-15)


# Refusals.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_a_weight_that_is_not_finite_is_named(dtype: np.dtype[Any], value: float, name: str) -> None:
    weight = np.ones((4, 2, 2, 3), dtype)
    weight[3, 0, 1, 2] = value
    weight[3, 1, 0, 0] = np.nan
    with pytest.raises(NonFiniteWeightError) as caught:
        score_maps(weight)
    assert str(caught.value) == (f"weight[3, 0, 1, 2] is {name}; a score needs finite weights, but 2 of 48 are not")
    assert isinstance(caught.value, TgdonnxError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 3, 3, 3), {"group": 3}, "group must divide out_channels; got group 3, out_channels 4"),
        ((4, 3, 3, 3), {"group": 0}, "group must divide out_channels; got group 0, out_channels 4"),
        ((4, 3, 3, 3), {"group": -2}, "group must divide out_channels; got group -2, out_channels 4"),
        ((4, 3, 3, 3), {"alpha": -0.1}, "alpha must be finite and >= 0; got -0.1"),
        ((4, 3, 3, 3), {"alpha": math.nan}, "alpha must be finite and >= 0; got nan"),
        ((4, 3, 3, 3), {"alpha": math.inf}, "alpha must be finite and >= 0; got inf"),
        ((4, 3, 3, 3), {"k": 0}, "k must be >= 1; got 0"),
        ((4,), {}, "weight must have shape (out_channels, in_channels / group, *kernel); got (4,)"),
        ((), {}, "weight must have shape (out_channels, in_channels / group, *kernel); got ()"),
        ((4, 0, 3, 3), {}, "weight must have shape (out_channels, in_channels / group, *kernel); got (4, 0, 3, 3)"),
        ((0, 4), {}, "weight must have shape (out_channels, in_channels / group, *kernel); got (0, 4)"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_was_expected(
    shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_maps(np.ones(shape), **options)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.bool_, np.complex64, object])
def test_a_weight_that_is_not_of_a_float_dtype_is_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="weight must have a float dtype up to float64"):
        score_maps(np.ones((4, 3, 3, 3), dtype))
