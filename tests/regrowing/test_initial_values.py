"""What reinitialised filters are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.regrowing.starts import activations, reinitialized_in
from tests.regrowing.topologies import TOPOLOGIES
from tests.support.models import Array, random_feeds
from tests.support.training_models import text_model
from tgdonnx.selection import Filters


def wide(**tensors: Array) -> onnx.ModelProto:
    """Filters 0 to 39 of the first layer and 0 to 59 of the second are to be dropped."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv<pads = [1,1,1,1]>(x, w1, b1) an = BatchNormalization(a, s1, o1, m1, v1) ar = PRelu(an, slope)
            b = Conv<pads = [1,1,1,1]>(ar, w2, b2) br = LeakyRelu(b)
            y = Conv(br, w3)
        }""",
        **{
            "w1": (50, 2, 3, 3), "b1": (50,), "s1": (50,), "o1": (50,), "m1": (50,), "v1": (50,), "slope": (50, 1, 1),
            "w2": (70, 50, 3, 3), "b2": (70,), "w3": (3, 70, 1, 1), **tensors,
        },
    )  # fmt: skip


DROPPED = Filters({"w1": list(range(40)), "w2": list(range(60))})


def test_he_counts_what_is_really_read_and_makes_the_rest_neutral(tmp_path: Path) -> None:
    case = reinitialized_in(wide(), tmp_path, DROPPED, "he")
    new = case.regrown.values
    for rows, fan_in in ((new["w1"][:40], 2 * 9), (new["w2"][:60, 40:], 10 * 9)):
        np.testing.assert_allclose(rows.std(), np.sqrt(2 / fan_in), rtol=0.06)  # of 720 numbers, and of 5400
        assert abs(rows.mean()) < 0.1 * rows.std()
    assert not new["w2"][:, :40].any()
    assert not new["w3"][:, :60].any()
    for name, number in {"b1": 0, "s1": 1, "o1": 0, "m1": 0, "v1": 1, "slope": 0.25}.items():
        np.testing.assert_array_equal(new[name].reshape(-1)[:40], number, err_msg=name)


def test_a_clone_is_a_filter_that_stays_with_a_tenth_of_noise_and_all_its_numbers(tmp_path: Path) -> None:
    case = reinitialized_in(wide(), tmp_path, DROPPED, "clone")
    new = case.regrown.values
    vendor = {name: parameter.numpy() for name, parameter in case.provenance.network.stored_parameters.items()}
    donors = set()
    for m in range(40):
        donor = min(range(40, 50), key=lambda d: np.abs(new["w1"][m] - vendor["w1"][d]).sum())
        rms = np.sqrt(np.mean(np.square(vendor["w1"][donor])))
        noise = new["w1"][m] - vendor["w1"][donor]
        assert 0.03 * rms < noise.std() < 0.2 * rms
        for name in ("b1", "s1", "o1", "m1", "v1", "slope"):
            assert new[name].reshape(-1)[m] == vendor[name].reshape(-1)[donor], name
        donors.add(donor)
    assert len(donors) > 5
    for m in range(60):
        distances = np.abs(new["w2"][m, 40:] - vendor["w2"][60:, 40:]).reshape(10, -1).mean(axis=1)
        assert np.sort(distances)[0] < 0.3 * np.sort(distances)[1]
    assert not new["w2"][:, :40].any()
    assert len({new["w1"][m].tobytes() for m in range(40)}) == 40


def test_behind_dead_statistics_a_reinitialized_map_is_as_large_as_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    variance = np.where(np.arange(50) < 40, 1e-14, rng.uniform(0.5, 2, 50)).astype(np.float32)
    for kind in ("he", "clone", "calibrated"):
        model = wide(v1=variance)
        images = random_feeds(model, 7) if kind == "calibrated" else None
        case = reinitialized_in(model, tmp_path, DROPPED, kind, calibrate=images)
        size = activations(case.start, ["an"], random_feeds(model))["an"].std(axis=(0, 2, 3))
        assert 0.2 < np.median(size[:40]) / np.median(size[40:]) < 5, kind


def test_statistics_that_two_norms_read_stay_and_are_undone(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1) an = BatchNormalization<epsilon = 0.01>(a, s1, o1, m, v) ar = LeakyRelu(an)
            b = Conv(ar, w2) bn = BatchNormalization(b, s2, o2, m, v) br = LeakyRelu(bn)
            y = Conv(br, w3)
        }""",
        w1=(4, 2, 1, 1), s1=(4,), o1=(4,), m=(4,), v=np.array([1e-9, 2, 1, 0.5], np.float32), w2=(4, 4, 1, 1), s2=(4,),
        o2=(4,), w3=(3, 4, 1, 1),
    )  # fmt: skip
    case = reinitialized_in(model, tmp_path, Filters({"w1": [0, 1]}), "he")
    assert not {"m", "v"} & {*case.regrown.values, *case.regrown.set_masks}
    found = activations(case.start, ["a", "an"], random_feeds(model))
    np.testing.assert_allclose(found["an"][:, :2], found["a"][:, :2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["he", "clone", "calibrated"])
def test_a_root_that_the_graph_computes_is_made_up_for(kind: str, tmp_path: Path) -> None:
    topology = TOPOLOGIES["norms with computed roots"]
    model = topology.build()
    images = random_feeds(model, 7) if kind == "calibrated" else None
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), kind, calibrate=images)
    size = activations(case.start, ["ao"], random_feeds(model))["ao"].std(axis=(0, 2, 3))
    assert size[[1, 4]].min() / size[[0, 2, 3, 5]].max() > 0.2
    assert size[[1, 4]].max() / size[[0, 2, 3, 5]].min() < 20


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("batch norms", {"an": [1, 4], "bn": [0, 3]}),
        ("norms in arithmetic", {"ao": [0, 5], "b": [2]}),
        ("norms with computed roots", {"ao": [1, 4]}),
        ("residual", {"a": [0, 5], "tn": [1], "c": [2]}),
        ("grouped", {"a": [1, 3]}),
        ("depthwise", {"an": [1, 4], "bn": [1, 4], "c": [2, 3, 8, 9]}),
        ("transposed convolutions", {"a": [1, 5], "bn": [0, 3, 4]}),
        ("volumes", {"an": [1, 3]}),
    ],
)
def test_calibrated_maps_have_the_mean_and_the_variance_of_those_that_stay(
    name: str, maps: dict[str, list[int]], tmp_path: Path
) -> None:
    topology = TOPOLOGIES[name]
    model = topology.build()
    images = random_feeds(model, 7)
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), "calibrated", calibrate=images)
    for value, found in activations(case.start, list(maps), images).items():
        axes = (0, *range(2, found.ndim))
        mean, variance = found.astype(np.float64).mean(axis=axes), found.astype(np.float64).var(axis=axes)
        staying = [c for c in range(found.shape[1]) if c not in maps[value]]
        expected = mean[staying].mean(), variance[staying].mean()
        np.testing.assert_allclose(variance[maps[value]], expected[1], rtol=1e-3, err_msg=value)
        has_offset = value not in ("a", "c", "b") or f"b{ord(value[0]) - 96}" in case.regrown.values
        if has_offset:
            np.testing.assert_allclose(mean[maps[value]], expected[0], rtol=1e-3, atol=1e-4, err_msg=value)


def test_calibrated_norms_know_what_they_read(tmp_path: Path) -> None:
    topology = TOPOLOGIES["batch norms"]
    model = topology.build()
    images = random_feeds(model, 7)
    case = reinitialized_in(model, tmp_path, Filters(topology.filters), "calibrated", calibrate=images)
    for value, mean, variance, rows in (("a", "m1", "v1", [1, 4]), ("b", "m2", "v2", [0, 3])):
        found = activations(case.start, [value], images)[value].astype(np.float64)
        np.testing.assert_allclose(
            case.regrown.values[mean][rows], found.mean(axis=(0, 2, 3))[rows], rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(case.regrown.values[variance][rows], found.var(axis=(0, 2, 3))[rows], rtol=1e-3)
