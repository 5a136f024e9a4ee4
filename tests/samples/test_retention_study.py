"""What the study of retention computes itself: draws of filters, averages, judges, curves, intervals, which runs are done."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import tgdonnx

sys.path.insert(1, str(Path(__file__).parents[2] / "samples" / "retention"))

from candidates import CANDIDATES, FULL, random_filters, some_filters
from curves import Curve, curve_of, interval, mean_curve
from ecg import LENGTH, traces
from gates import ACCEPTED
from network import HeldOut, Network, by_boxes, by_class, by_psnr
from study import BLENDS, Study, best_blend
from summary import against_full, against_plain, blend_within, new_at_old, old_at_new
from tuning import AVERAGE, DECAY, add_to_average, average, tune
from usefulness import least
from writing import FONTS, PAGE, lines, page_boxes, spoil

STUDY = Path(__file__).parents[2] / "samples" / "retention"
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, H, W] image) => (float[N, 1, H, W] y)
<float[4, 1, 3, 3] w1, float[4] b1, float[1, 4, 3, 3] w2, float[1] b2>
{
    c = Conv<pads = [1, 1, 1, 1]>(image, w1, b1)
    r = Relu(c)
    y = Conv<pads = [1, 1, 1, 1]>(r, w2, b2)
}
"""


@pytest.fixture
def network(tmp_path: Path) -> Network:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    for value, shape in (("w1", (4, 1, 3, 3)), ("b1", (4,)), ("w2", (1, 4, 3, 3)), ("b2", (1,))):
        kept = [each for each in model.graph.initializer if each.name != value]
        del model.graph.initializer[:]
        array = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.extend([*kept, onnx.numpy_helper.from_array(array, value)])
    onnx.save(model, tmp_path / "model.onnx")
    image, target = (rng.normal(0, 1, (10, 1, 8, 8)).astype(np.float32) for _ in range(2))
    held = HeldOut(image[:3], target[:3])
    return Network(
        name="net",
        title="net",
        unit="dB",
        model=tmp_path / "model.onnx",
        input_name="image",
        loss="mse",
        strategy=tgdonnx.Percentile(50),
        has_dead=False,
        rates={"full": (1e-3, 1e-2)},
        steps=5,
        batch=4,
        data=lambda _seed: {"image": image, "target": target},
        reading=tgdonnx.DataOptions(),
        held_out={"new validation": held, "old validation": held, "new test": held, "old test": held},
        read=lambda output: output,
        judge=by_psnr(1.0),
        gate_inputs=lambda: image,
    )


@pytest.fixture(scope="module")
def study_run() -> ModuleType:
    # The other samples have a module `run` too, so this one gets a name of its own.
    spec = importlib.util.spec_from_file_location("retention_study_run", STUDY / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_random_filters_are_as_many_of_every_layer_as_are_selected() -> None:
    drawn = random_filters({"a": range(12), "b": [], "c": [4]}, {"a": 16, "b": 8, "c": 5}, seed=3)
    assert {name: len(set(rows)) for name, rows in drawn.items()} == {"a": 12, "c": 1}
    assert drawn["a"] == sorted(drawn["a"])
    assert set(drawn["a"]) <= set(range(16))
    assert set(drawn["c"]) <= set(range(5))


def test_random_filters_follow_from_the_seed() -> None:
    selected, filters = {"a": range(20)}, {"a": 64}
    assert random_filters(selected, filters, seed=0) == random_filters(selected, filters, seed=0)
    assert random_filters(selected, filters, seed=0) != random_filters(selected, filters, seed=1)


def test_every_filter_of_a_layer_has_the_same_chance() -> None:
    drawn = [random_filters({"a": [0, 1]}, {"a": 4}, seed=seed)["a"] for seed in range(400)]
    counts = np.bincount(np.ravel(drawn), minlength=4)
    assert np.all(np.abs(counts - 200) < 50)  # five standard deviations


def test_a_larger_share_of_the_selected_filters_has_the_smaller_one() -> None:
    selected = {"a": [1, 4, 6, 9], "b": [], "c": [2]}
    drawn = [some_filters(selected, share, seed=5) for share in (0.0, 0.5, 1.0)]
    assert [len(each["a"]) for each in drawn] == [1, 2, 4]
    assert set(drawn[0]["a"]) < set(drawn[1]["a"]) < set(drawn[2]["a"]) == {1, 4, 6, 9}
    assert all(each["c"] == [2] for each in drawn)


def test_a_run_of_the_study_takes_the_steps_of_train(network: Network, tmp_path: Path) -> None:
    run = tune(network, FULL, 3, 1e-2, 7, tmp_path / "work")
    tgdonnx.export(run.artifacts, tmp_path / "study.onnx")
    tgdonnx.build(tmp_path / "work" / "masked.onnx", tmp_path / "run", tgdonnx.BuildOptions(form="thin"))
    options = tgdonnx.TrainOptions(steps=7, batch=4, learning_rate=1e-2, seed=3)
    tgdonnx.train(tmp_path / "run", network.data(3), options)
    tgdonnx.export(tmp_path / "run", tmp_path / "train.onnx")
    found, expected = (onnx.load(tmp_path / f"{name}.onnx").graph.initializer for name in ("study", "train"))
    assert [each.raw_data for each in found] == [each.raw_data for each in expected]
    assert run.bytes == 4 * (36 + 4 + 36 + 1)
    tgdonnx.export(run.artifacts, tmp_path / "average.onnx", checkpoint=AVERAGE)
    assert [each.raw_data for each in onnx.load(tmp_path / "average.onnx").graph.initializer] != [
        each.raw_data for each in expected
    ]


def test_what_every_step_counts_in_the_average_sums_to_one() -> None:
    start = {"w": np.array([1.0, 5.0], np.float32)}
    steps = [np.array([2.0, 5.0], np.float32), np.array([4.0, 5.0], np.float32), np.array([8.0, 5.0], np.float32)]
    moved = {"w": np.zeros(2, np.float32)}
    for values in steps:
        add_to_average(moved, start, {"w": values})
    counts = np.array([DECAY**2, DECAY, 1.0])
    expected = (counts * [2.0, 4.0, 8.0]).sum() / counts.sum()
    found = average(moved, start, 3)["w"]
    assert found[0] == pytest.approx(expected, rel=1e-6)
    assert found[1] == 5.0  # frozen: bit for bit


def test_psnr_is_the_mean_over_samples() -> None:
    targets = np.zeros((2, 3, 4), np.float32)
    outputs = np.stack([np.full((3, 4), 0.5), np.full((3, 4), 0.05)]).astype(np.float32)
    judge = by_psnr(5.0)
    # 20 log10(5 / 0.5) and 20 log10(5 / 0.05)
    assert judge.score(outputs, targets) == pytest.approx(30.0, abs=1e-5)
    assert judge.loss(outputs, targets) == pytest.approx((0.25 + 0.0025) / 2, rel=1e-6)


def test_classes_are_judged_by_the_largest_and_by_cross_entropy() -> None:
    outputs, targets = np.array([[0.6, 0.4], [0.8, 0.2]], np.float32), np.array([0, 1])
    assert by_class().score(outputs, targets) == 50.0
    assert by_class().loss(outputs, targets) == pytest.approx(-(np.log(0.6) + np.log(0.2)) / 2, rel=1e-6)


def test_text_is_found_where_cores_are_covered_and_nothing_lies_outside_boxes() -> None:
    core, box = np.zeros((1, 4, 6), np.float32), np.zeros((1, 4, 6), np.float32)
    core[0, 1, 1:5], box[0, 0:3] = 1, 1
    found = np.zeros((1, 1, 4, 6), np.float32)
    found[0, 0, 1, 1:3] = 0.9  # half of the core
    targets = np.stack([core, box], axis=1)
    assert by_boxes(0.3).score(found, targets) == pytest.approx(100 * 2 * 0.5 / 1.5)
    found[0, 0, 3, 0:2] = 0.9  # as much outside of the box
    assert by_boxes(0.3).score(found, targets) == pytest.approx(50.0)
    found[0, 0, 0] = 0.9  # in the box, outside of its core: no mistake
    assert by_boxes(0.3).score(found, targets) == pytest.approx(100 * 2 * 0.5 * 0.8 / 1.3)


def curve(*points: tuple[float, float]) -> Curve:
    old, new = np.array(points).T
    return Curve(old, new)


def test_a_curve_offers_the_best_of_its_points_that_keep_enough() -> None:
    bent = curve((40.0, 20.0), (38.0, 24.0), (36.0, 22.0))
    assert bent.new_at(39.0) == pytest.approx(22.0)
    assert bent.new_at(36.0) == pytest.approx(24.0)  # not what is there, but what keeps more
    assert np.isnan(bent.new_at(40.5))
    assert bent.old_at(22.0) == pytest.approx(39.0)
    assert np.isnan(bent.old_at(25.0))


def test_the_area_is_between_curve_vendor_and_an_old_score() -> None:
    straight = curve((40.0, 20.0), (38.0, 24.0))
    assert straight.area(38.0) == pytest.approx(4.0, rel=1e-6)
    assert straight.area(36.0) == pytest.approx(4.0 + 8.0, rel=1e-6)
    assert np.isnan(straight.area(40.0))


def test_a_curve_starts_at_the_vendor_and_goes_by_rising_blend() -> None:
    vendor = scores(new=1.0, old=9.0)
    found = curve_of(
        vendor, {"1": scores(new=3.0, old=5.0), "0.25": scores(new=2.0, old=8.0), "0": scores(new=7.0, old=7.0)}
    )
    assert found.new.tolist() == [1.0, 2.0, 3.0]
    assert found.old.tolist() == [9.0, 8.0, 5.0]
    assert mean_curve([found, curve((9.0, 1.0), (6.0, 4.0), (5.0, 5.0))]).new.tolist() == [1.0, 3.0, 4.0]


def test_intervals_are_of_student() -> None:
    found = interval([1.0, 2.0, 6.0])
    # t for two degrees of freedom is 4.3027, the sample's deviation the root of 7.
    assert (found.mean, found.half) == (pytest.approx(3.0), pytest.approx(4.302653 * np.sqrt(7 / 3), rel=1e-6))
    assert str(found) == "3.00 ± 6.57"
    assert found.signed == "+3.00 ± 6.57"
    assert str(interval([5.0])) == "5.00"
    assert str(interval([5.0, float("nan")])) == "–"


def scores(*, new: float = 0.0, old: float = 0.0, loss: float = 0.0, kept: float = 0.0) -> dict[str, list[float]]:
    return {
        "new validation": [loss, 0.0],
        "old validation": [0.0, kept],
        "new test": [0.0, new],
        "old test": [0.0, old],
    }


def test_blends_are_chosen_by_validation_whatever_the_test_says() -> None:
    blends = {
        "0.5": scores(loss=2.0, kept=39.8, new=9.0),
        "0.75": scores(loss=1.0, kept=39.4, new=1.0),
        "1": scores(loss=1.5, kept=30.0, new=9.0),
    }
    vendor = scores(loss=5.0, kept=40.0)
    assert best_blend(blends) == 0.75
    assert blend_within(blends, vendor, 0.5) == 0.5
    assert blend_within(blends, vendor, 0.1) == 0.0


def test_a_candidate_is_compared_with_full_of_its_own_seed() -> None:
    vendor = scores(new=20.0, old=40.0)

    def run(seed: int, new: float) -> dict[str, Any]:
        return {"seed": seed, "blends": {"1": scores(new=new, old=38.0)}}

    found = {"full": [run(0, 24.0), run(1, 26.0), run(2, 99.0)], "other": [run(1, 28.0), run(0, 25.0)]}
    # Half way down: 22.5 to 22 of seed 0, 24 to 23 of seed 1.
    assert against_full(vendor, found, "other", new_at_old(vendor, 1.0)).mean == pytest.approx(0.75)
    # Half of what full gains, 22 and 23, is reached after losing 0.8 in place of 1, and 0.75 in place of 1.
    assert against_full(vendor, found, "other", old_at_new(0.5)).mean == pytest.approx((0.2 + 0.25) / 2, rel=1e-2)


def test_a_long_run_is_compared_with_the_long_run_of_full() -> None:
    vendor = scores(new=20.0, old=40.0)

    def run(new: float) -> list[dict[str, Any]]:
        return [{"seed": 0, "blends": {"1": scores(new=new, old=38.0)}}]

    found = {"full": run(24.0), "full, long": run(28.0), "adapter, long": run(30.0)}
    assert against_full(vendor, found, "adapter, long", new_at_old(vendor, 2.0)).mean == pytest.approx(2.0)
    assert against_plain(found, "adapter, long", "new").mean == pytest.approx(2.0)
    assert against_full(
        vendor, found, "adapter, long", new_at_old(vendor, 2.0), reference="full"
    ).mean == pytest.approx(6.0)


def test_a_run_is_stored_and_seed_0_chooses_the_rate(network: Network, tmp_path: Path) -> None:
    study = Study(tmp_path / "runs", gates=False)
    second = study.run(network, FULL, 1)
    first = study.run(network, FULL, 0)
    assert set(first["tried"]) == {"0.001", "0.01"}
    assert first["rate"] == min((0.001, 0.01), key=lambda rate: first["tried"][f"{rate:g}"])
    assert list(second["tried"]) == [f"{first['rate']:g}"]
    assert list(first["blends"]) == [f"{blend:g}" for blend in BLENDS]
    assert set(first["early"]) == {"1", "2", "4"}  # of five steps: 0.1, 0.2, 0.4 and 0.7 of them
    assert first["blends"]["1"] != second["blends"]["1"]
    before = study.path(network, "full-0").stat().st_mtime_ns
    assert study.run(network, FULL, 0)["tried"].keys() == first["tried"].keys()
    assert study.path(network, "full-0").stat().st_mtime_ns == before
    assert [run["seed"] for run in study.done(network, FULL)] == [0, 1]
    with pytest.raises(ValueError, match="of 5 steps, not 6; delete it"):
        replace(study, steps=6).run(network, FULL, 0)


def test_of_a_long_run_validation_chooses_the_step_whose_weights_are_blended(network: Network, tmp_path: Path) -> None:
    long = next(each for each in CANDIDATES if each.name == "full, long")
    network = replace(network, rates={**network.rates, long.name: (1e-2,)}, steps=8)
    study = Study(tmp_path / "runs", gates=False)
    found = study.run(network, long, 0)
    assert (found["steps"], list(found["along"])) == (24, [f"{step}" for step in range(2, 25, 2)])
    assert found["along"][f"{found['chosen']}"] == found["tried"]["0.01"] == min(found["along"].values())
    assert found["blends"]["1"]["new validation"][0] == found["tried"]["0.01"]
    # A run of as many steps has the same weights there, since batches depend on the seed alone.
    stopped = Study(tmp_path / "stopped", steps=found["chosen"], gates=False)
    assert stopped.run(replace(network, rates={"full": (1e-2,)}), FULL, 0)["blends"] == found["blends"]
    assert study.done(network, FULL) == []
    assert [run["seed"] for run in study.done(network, long)] == [0]


def test_a_run_whose_detectors_accepted_another_share_is_gated_again_and_nothing_else_of_it_changes(
    network: Network, tmp_path: Path
) -> None:
    network = replace(network, rates={"full": (1e-2,)})
    study = Study(tmp_path / "runs")
    path = study.path(network, "full-0")
    found = study.run(network, FULL, 0)
    assert list(found["gate"]) == ["blend", *(f"{accept:g}" for accept in ACCEPTED)]
    whole = path.read_text("utf-8")
    for accept in ACCEPTED:
        del found["gate"][f"{accept:g}"]
        path.write_text(json.dumps(found), "utf-8")
        study.run(network, FULL, 0)
        assert json.loads(path.read_text("utf-8")) == json.loads(whole)


def test_the_least_filters_have_the_lowest_product_of_score_and_of_how_far_the_output_moves(network: Network) -> None:
    # The maps of the first layer are read by the second alone, so the score of a filter is that of its map there.
    vendor = onnx.load(network.model)
    scored = {layer.weight: layer.kse for layer in tgdonnx.score(network.model).layers}["w2"]
    inputs = network.data(0)["image"][:8]
    products = []
    for row in range(4):
        outputs = []
        for model in (vendor, onnx.ModelProto.FromString(vendor.SerializeToString())):
            if model is not vendor:
                for value in model.graph.initializer:
                    if value.name in ("w1", "b1"):
                        array = onnx.numpy_helper.to_array(value).copy()
                        array[row] = 0
                        value.CopyFrom(onnx.numpy_helper.from_array(array, value.name))
            outputs.append(ReferenceEvaluator(model).run(None, {"image": inputs})[0])
        products.append(scored[row] * np.sqrt(np.mean((outputs[1] - outputs[0]) ** 2)))
    for count in (1, 2, 3):
        assert least(network, count) == {"w1": sorted(int(row) for row in np.argsort(products)[:count])}


def test_the_quick_table_says_what_left_its_intervals(study_run: ModuleType) -> None:
    committed = {"ecg": {"full": {"new, end": [30.0, 0.5], "old, end": [35.0, 0.1]}}}
    assert study_run.outside({"ecg": {"full": {"new, end": [30.4, 9.0], "old, end": [35.05, 9.0]}}}, committed) == []
    (missed,) = study_run.outside({"ecg": {"full": {"new, end": [30.6, 9.0], "old, end": [35.0, 9.0]}}}, committed)
    assert missed == "ecg, full, new, end: 30.600, expected 30.000 ± 0.500"
    assert len(study_run.outside({}, committed)) == 2


def test_splits_share_no_font() -> None:
    fonts = [font for split in FONTS.values() for font in split]
    assert len(fonts) == len(set(fonts))


def test_lines_and_pages_follow_from_their_seeds_and_say_what_is_on_them() -> None:
    drawn, labels = lines("test", 6, seed=1)
    np.testing.assert_array_equal(drawn, lines("test", 6, seed=1)[0])
    assert not np.array_equal(drawn, lines("test", 6, seed=2)[0])
    assert set(labels.tolist()) == {0, 1}
    page, masks = page_boxes("validation", 2, seed=0)
    assert page.shape == (2, PAGE, PAGE)
    assert masks.shape == (2, 2, PAGE, PAGE)
    cores, boxes = masks[:, 0] > 0, masks[:, 1] > 0
    assert 0 < cores.sum() < boxes.sum()
    assert not (cores & ~boxes).any()
    for one, box in zip(page, boxes):
        assert np.ptp(one[~box]) == 0  # all ink lies in boxes
    # White paper with noise of 0.15 on it, of which clipping takes the upper half.
    assert 0.05 < np.std(spoil(np.ones((1, 64, 64), np.float32), blur=1.5, noise=0.15, seed=5)) < 0.15


def test_traces_are_what_is_clean_and_noise_of_their_recorder() -> None:
    (noisy, clean), (again, _) = traces("new", 4, seed=7), traces("new", 4, seed=7)
    assert noisy.shape == clean.shape == (4, 1, LENGTH)
    np.testing.assert_array_equal(noisy, again)
    hum = np.abs(np.fft.rfft((noisy - clean)[:, 0]))[:, round(50 * LENGTH / 250)]
    old_noisy, old_clean = traces("old", 4, seed=7)
    old_hum = np.abs(np.fft.rfft((old_noisy - old_clean)[:, 0]))[:, round(50 * LENGTH / 250)]
    assert hum.min() > old_hum.max()
