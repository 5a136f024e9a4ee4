"""The drop test over phi: what it drops, what it measures, what it recommends."""

from __future__ import annotations

import sys
import weakref
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.selection.reference import by_experiment
from tests.support import models
from tests.support.clusters import cluster_of_threads
from tests.support.models import MODELS, Array, Builder, random_feeds, save
from tests.support.training_models import text_model
from tests.sweeping.oracle import outputs, relative_change, zeroed
from tgdonnx.cluster import Cluster
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError, MaskedModelError, ModelFileError, SelectionError
from tgdonnx.masked_model import read_masked
from tgdonnx.runtime import InferenceModel, open_inference
from tgdonnx.runtime.options import limit_threads
from tgdonnx.selection import Phi
from tgdonnx.sweeping import DEFAULT_PHIS, Placement, SweepPoint, sweep
from tgdonnx.sweeping.sweep import recommend

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_models import fetch  # a script, no part of the package


def saved(model: onnx.ModelProto, directory: Path) -> Path:
    return save(model, directory / "model.onnx")


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_every_point_is_what_zeroing_by_hand_gives(builder: Builder, tmp_path: Path) -> None:
    model, feeds = builder(0), random_feeds(builder(0))
    phis = (0.05, 0.3, 0.7, 1.0)
    report = sweep(saved(model, tmp_path), feeds, phis=phis)
    reference = by_experiment(model)
    before = outputs(model, feeds)
    assert [point.phi for point in report.points] == list(phis)
    for point in report.points:
        chosen = reference.below(point.phi)
        masks = reference.masks(chosen)
        after = outputs(zeroed(model, masks), feeds)
        expected = [relative_change(*pair) for pair in zip(before, after)]
        assert [entry.change for entry in point.outputs] == pytest.approx(expected, rel=1e-4)
        assert point.change == max(entry.change or 0 for entry in point.outputs)
        layer_weights = [name for name in masks if masks[name].ndim > 2]
        assert point.weights == sum(int(masks[name].sum()) for name in layer_weights)
        assert point.parameters == sum(int(mask.sum()) for mask in masks.values())
        assert point.filters == sum(
            int(masks[name].reshape(len(masks[name]), -1).all(axis=1).sum()) for name in layer_weights
        )
        assert report.weights == sum(masks[name].size for name in layer_weights)
        assert report.parameters == sum(mask.size for mask in masks.values())
        assert report.filters == sum(len(masks[name]) for name in layer_weights)


def test_dropped_parameters_counted_by_hand(tmp_path: Path) -> None:
    quiet = np.array([1, 0.01, 1, 0.01], np.float32).reshape(1, 4, 1, 1)
    rng = np.random.default_rng(0)
    model = text_model(
        """g (float[N,2,H,W] x) => (float[N,3,h,v] y) {
            a = Conv(x, w1, b1) n = BatchNormalization(a, scale, offset, mean, var) r = Relu(n) y = Conv(r, w2, b2)
        }""",
        w1=(4, 2, 3, 5),
        b1=(4,),
        scale=(4,),
        offset=(4,),
        mean=(4,),
        var=(4,),
        w2=(rng.standard_normal((3, 4, 1, 1)) * quiet).astype(np.float32),
        b2=(3,),
    )
    report = sweep(saved(model, tmp_path), {"x": rng.standard_normal((3, 2, 6, 9)).astype(np.float32)}, phis=[0.3])
    (point,) = report.points
    # Filters 1 and 3 of the first layer: 2 * 3 * 5 weights each, one bias, one scale and one offset.
    assert (point.filters, point.weights, point.parameters) == (2, 2 * 30, 2 * 33)
    # Running mean and variance are no parameters.
    assert (report.filters, report.weights, report.parameters) == (4 + 3, 120 + 12, 120 + 12 + 3 * 4 + 3)


def with_dead_filters() -> onnx.ModelProto:
    """The second and fourth map of the first layer are read by kernels that are zero."""
    alive = np.array([1, 0, 1, 0, 1, 1], np.float32).reshape(1, 6, 1, 1)
    rng = np.random.default_rng(5)
    return text_model(
        "g (float[N,2,H,W] x) => (float[N,3,h,v] y) { a = Conv(x, w1, b1) r = Relu(a) y = Conv(r, w2) }",
        w1=(6, 2, 3, 3),
        b1=(6,),
        w2=(rng.uniform(0.5, 1.5, (3, 6, 1, 1)) * alive).astype(np.float32),
    )


def images(count: int = 4) -> Array:
    return np.random.default_rng(7).standard_normal((count, 2, 7, 6)).astype(np.float32)


def test_dropping_dead_filters_changes_nothing_and_is_recommended_at_tolerance_0(tmp_path: Path) -> None:
    report = sweep(saved(with_dead_filters(), tmp_path), {"x": images()}, tolerance=0)
    assert report.points[0].filters == 2
    assert report.points[0].change == 0.0
    assert report.points[-1].filters > 2
    assert report.points[-1].change is not None
    assert report.points[-1].change > 0.1
    exact = [point for point in report.points if point.change == 0.0]
    assert report.recommended == max(point.phi for point in exact)
    assert report.strategy() == Phi(report.recommended, 1.0, 5, 0.0)
    assert report.notes == ()


def test_phi_selects_what_mask_selects(tmp_path: Path) -> None:
    path = saved(models.residual(), tmp_path)
    report = sweep(path, random_feeds(models.residual()), phis=[0.3, 0.7])
    for point in report.points:
        masks = tgdonnx.mask(path, tmp_path / f"{point.phi}.onnx", Phi(point.phi))
        weights = [entry for entry in masks.params if entry.name.startswith("w")]
        assert point.filters == sum(len(entry.retrain) for entry in weights)
        assert point.parameters == round(masks.rho * report.parameters)


def point(phi: float, change: Optional[float], parameters: int = 5) -> SweepPoint:
    return SweepPoint(phi, parameters, parameters, parameters, change, None, ())


def test_recommended_is_the_largest_phi_up_to_which_all_are_within_the_tolerance() -> None:
    assert recommend([point(0.1, 0.0), point(0.2, 0.05), point(0.3, 0.06)], 0.05) == 0.2
    assert recommend([point(0.1, 0.0), point(0.2, 0.06), point(0.3, 0.01)], 0.05) == 0.1  # it need not grow
    assert recommend([point(0.1, 0.06), point(0.2, 0.0)], 0.05) is None
    assert recommend([point(0.1, 0.01), point(0.2, None), point(0.3, 0.0)], 0.05) == 0.1
    assert recommend([point(0.1, 0.0, parameters=0)], 0.05) is None  # nothing is dropped
    assert recommend([point(0.1, 0.0, parameters=0), point(0.2, 0.04)], 0.05) == 0.2


def test_without_dead_filters_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,H,W] x) => (float[N,3,h,v] y) { a = Conv(x, w1) r = Relu(a) y = Conv(r, w2) }",
        w1=(6, 2, 3, 3),
        w2=(3, 6, 1, 1),
    )
    report = sweep(saved(model, tmp_path), {"x": images()}, phis=[0.2, 0.5])
    assert report.recommended is None
    assert (
        "no dead filters; try a smaller phi or a larger tolerance, or choose filters by percentile" in report.notes[-1]
    )
    with pytest.raises(SelectionError, match=r"no phi is recommended: at phi 0\.2 the change is"):
        report.strategy()


def test_phis_in_any_order_and_twice_give_ascending_points_and_share_passes(tmp_path: Path) -> None:
    path = saved(with_dead_filters(), tmp_path)
    told: list[tuple[int, int]] = []
    phis = [0.5, 1e-6, 1e-7, 0.5, 0.0]
    report = sweep(path, {"x": images()}, phis=phis, on_progress=lambda done, total: told.append((done, total)))
    assert [entry.phi for entry in report.points] == [0.0, 1e-7, 1e-6, 0.5]
    assert report.points[0].filters == 0  # nothing scores below 0
    assert report.points[0].change == 0.0
    assert report.points[1] == SweepPoint(1e-7, *list(vars(report.points[2]).values())[1:])
    different = len({entry.parameters for entry in report.points} - {0})
    assert told[-1] == (1 + different, 1 + different)
    assert len(DEFAULT_PHIS) == len(sweep(path, {"x": images()}).points) == 21


def test_a_target_is_ignored_and_arrays_are_renamed(tmp_path: Path) -> None:
    path = saved(with_dead_filters(), tmp_path)
    plain = sweep(path, {"x": images()})
    np.savez(tmp_path / "data.npz", pictures=images(), target=np.zeros((9, 9), np.int64))
    assert sweep(path, tmp_path / "data.npz", reading=DataOptions(map={"pictures": "x"})) == plain
    assert sweep(path, {"x": images(), "other": images()}) == plain


def test_an_input_called_target_is_fed_by_the_array_that_feeds_it_everywhere(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,H,W] target) => (float[N,3,h,v] y) { a = Conv(target, w1) r = Relu(a) y = Conv(r, w2) }",
        w1=(6, 2, 3, 3),
        w2=(3, 6, 1, 1),
    )
    path = saved(model, tmp_path)
    assert sweep(path, {"target_input": images()}).samples == 4
    for name in ("target", "x"):  # the array `target` is what the output is compared with
        with pytest.raises(DataError, match=f"has no array 'target_input'; expected target_input, found {name}"):
            sweep(path, {name: images()})


def test_of_many_samples_a_few_are_taken_evenly(tmp_path: Path) -> None:
    path, x = saved(with_dead_filters(), tmp_path), images(9)
    report = sweep(path, {"x": x}, samples=3, phis=[0.99])
    assert (report.samples, report.available) == (3, 9)
    chosen = sweep(path, {"x": x[[0, 4, 8]]}, phis=[0.99])
    assert report.points == chosen.points
    assert sweep(path, {"x": x}, phis=[0.99]).points != chosen.points
    with pytest.raises(DataError, match="expected at least one sample"):
        sweep(path, {"x": x}, samples=0)


def test_a_model_that_fixes_its_batch_is_run_on_whole_batches(tmp_path: Path) -> None:
    text = "g (float[3,2,H,W] x) => (float[3,4,h,v] y) { a = Conv(x, w1) r = Relu(a) y = Conv(r, w2) }"
    model = text_model(text, w1=(6, 2, 3, 3), w2=(4, 6, 1, 1))
    path = saved(model, tmp_path)
    report = sweep(path, {"x": images(9)}, samples=7, phis=[0.9])
    assert (report.samples, report.available) == (6, 9)
    assert report.points == sweep(path, {"x": np.delete(images(9), [3, 4, 5], axis=0)}, phis=[0.9]).points
    assert report.points != sweep(path, {"x": images(9)}, phis=[0.9]).points
    assert sweep(path, {"x": images(9)}, samples=1, phis=[0.9]).samples == 3
    with pytest.raises(DataError, match="takes 3 samples at a time, and the data has 4; give a multiple of 3"):
        sweep(path, {"x": images(4)})


def classifier() -> onnx.ModelProto:
    rng = np.random.default_rng(2)
    quiet = np.where(np.arange(8) % 3 == 1, 0.3, 1).astype(np.float32)
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,5] scores, float[N,8,h,v] maps, int64[N] label) {
            a = Conv(x, w1) maps = Relu(a)
            p = GlobalAveragePool(maps) f = Flatten(p)
            scores = Gemm(f, w2)
            label = ArgMax<axis = 1, keepdims = 0>(scores)
        }""",
        w1=(8, 2, 3, 3),
        w2=(rng.standard_normal((8, 5)) * quiet[:, None]).astype(np.float32),
    )


def with_head() -> onnx.ModelProto:
    """As `classifier`, with a layer between, so that the first has filters to drop."""
    model = classifier()
    conv = next(node for node in model.graph.node if node.op_type == "GlobalAveragePool")
    conv.input[0] = "inner"
    rng = np.random.default_rng(4)
    quiet = np.where(np.arange(8) % 3 == 1, 0.05, 1).astype(np.float32).reshape(1, 8, 1, 1)
    weight = (rng.standard_normal((8, 8, 1, 1)) * quiet).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w_inner"))
    model.graph.node.insert(2, helper.make_node("Conv", ["maps", "w_inner"], ["inner"], "INNER"))
    del model.graph.output[1]
    model.graph.output.append(helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, None))
    return model


def test_of_several_outputs_the_one_that_moves_farthest_counts_or_the_named_one(tmp_path: Path) -> None:
    model, x = with_head(), images(12)
    path = saved(model, tmp_path)
    before = outputs(model, {"x": x})
    report = sweep(path, {"x": x}, phis=[0.3, 0.6])
    assert report.notes[0] == "output 'label' is of type int64, not floating point: left out"
    for entry in report.points:
        rows = by_experiment_filters(path, entry.phi, tmp_path)
        after = outputs(zeroed(model, rows), {"x": x})
        expected = {"scores": relative_change(before[0], after[0]), "inner": relative_change(before[2], after[2])}
        assert {o.output: o.change for o in entry.outputs} == pytest.approx(expected, rel=1e-4)
        assert entry.change == pytest.approx(max(expected.values()), rel=1e-4)
        agreement = float(np.mean(before[0].argmax(1) == after[0].argmax(1)))
        assert entry.agreement == {o.output: o.agreement for o in entry.outputs}["scores"] == agreement
    one = sweep(path, {"x": x}, phis=[0.3, 0.6], output="inner")
    assert [o.output for o in one.points[0].outputs] == ["inner"]
    assert one.points[1].change == {o.output: o.change for o in report.points[1].outputs}["inner"]
    assert one.points[1].agreement is None
    with pytest.raises(SelectionError, match="no output 'z'; its outputs are scores, label, inner"):
        sweep(path, {"x": x}, output="z")
    with pytest.raises(DataError, match="no change can be measured: output 'label' is of type int64"):
        sweep(path, {"x": x}, output="label")


def by_experiment_filters(path: Path, phi: float, directory: Path) -> dict[str, Array]:
    """For each tensor what the masked model lets train."""
    tgdonnx.mask(path, directory / f"masked{phi}.onnx", Phi(phi))
    masks = read_masked(directory / f"masked{phi}.onnx").masks
    model = onnx.load(path)
    return {name: np.broadcast_to(values == 1, tuple(tensors_of(model)[name].dims)) for name, values in masks.items()}


def test_external_data_gives_the_same_report_and_files_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    inside = saved(models.dncnn(), tmp_path / "inside")
    path = tmp_path / "model.onnx"
    onnx.save(models.dncnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = {entry: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()}
    feeds = random_feeds(models.dncnn())
    assert sweep(path, feeds).points == sweep(inside, feeds).points
    assert {entry: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()} == before
    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[:-40])
    with pytest.raises(ModelFileError, match=r"'weights\.bin', which has 8,992 bytes; get the file again"):
        sweep(path, feeds)


def test_models_of_newer_versions_run_on_the_training_runtime(tmp_path: Path) -> None:
    model = with_dead_filters()
    plain = sweep(saved(model, tmp_path), {"x": images()})
    model.ir_version = 12
    model.opset_import[0].version = 24
    onnx.checker.check_model(model)
    assert sweep(saved(model, tmp_path), {"x": images()}).points == plain.points


def test_a_model_that_the_runtime_does_not_know_is_refused_in_one_line(tmp_path: Path) -> None:
    model = with_dead_filters()
    model.graph.node[1].op_type, model.graph.node[1].domain = "Nowhere", "org.example"
    model.opset_import.append(helper.make_opsetid("org.example", 1))
    model.graph.node.append(helper.make_node("Conv", ["y", "w3"], ["z"], "LAST"))
    model.graph.node.append(helper.make_node("Conv", ["z", "w4"], ["u"], "MORE"))
    for name, shape in (("w3", (4, 3, 1, 1)), ("w4", (2, 4, 1, 1))):
        values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    model.graph.output[0].name = "u"
    with pytest.raises(ModelFileError, match=r"ONNX Runtime [\d.]+ cannot load the model: .*Nowhere") as caught:
        sweep(saved(model, tmp_path), {"x": images()})
    assert "\n" not in str(caught.value)


def test_data_that_the_model_cannot_run_on_is_refused(tmp_path: Path) -> None:
    path = saved(with_dead_filters(), tmp_path)
    with pytest.raises(DataError, match=r"cannot be run on x \[1, 2, 2, 6\]: ."):
        sweep(path, {"x": images()[:, :, :2]})
    with pytest.raises(DataError, match=r"expected 'x' to be float32 \[\?, 2, \?, \?\], found float64"):
        sweep(path, {"x": images().astype(np.float64)})


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    path = saved(with_dead_filters(), tmp_path)
    for phis in ([0.3, 1.5], [-0.1], [float("nan")]):
        with pytest.raises(SelectionError, match=r"expected phi in \[0, 1\]"):
            sweep(path, {"x": images()}, phis=phis)
    with pytest.raises(SelectionError, match="at least one phi"):
        sweep(path, {"x": images()}, phis=[])
    for tolerance in (-0.1, float("nan"), float("inf")):
        with pytest.raises(SelectionError, match="expected a tolerance >= 0"):
            sweep(path, {"x": images()}, tolerance=tolerance)


def test_phis_that_select_nothing_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = saved(models.dncnn(), tmp_path)
    with pytest.raises(SelectionError, match=r"phi = 0 selects no filter; the least important filter scores 0\.0000"):
        sweep(path, random_feeds(models.dncnn()), phis=[0.0])
    single = text_model("g (float[N,2,H,W] x) => (float[N,3,h,v] y) { y = Conv(x, w) }", w=(3, 2, 3, 3))
    with pytest.raises(SelectionError, match="every one is useful"):
        sweep(saved(single, tmp_path), {"x": images()})


def test_a_masked_model_is_refused(tmp_path: Path) -> None:
    tgdonnx.mask(saved(models.dncnn(), tmp_path), tmp_path / "masked.onnx", Phi(0.3))
    with pytest.raises(MaskedModelError, match="start from the vendor's file"):
        sweep(tmp_path / "masked.onnx", random_feeds(models.dncnn()))


VENDORS = {
    "malviz-resnet18": ("input", (2, 3, 224, 224)),  # external data, residual sums, classes
    "ppocr-cls": ("x", (2, 3, 48, 192)),  # every weight in a Constant node, depthwise, batch norms unfolded
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VENDORS)
def test_models_of_others_change_as_when_zeroed_by_hand(name: str, tmp_path: Path) -> None:
    value, shape = VENDORS[name]
    path = Path(fetch(name))
    feeds = {value: np.random.default_rng(0).random(shape).astype(np.float32)}
    report = sweep(path, feeds, phis=[0.05, 0.3])
    model = onnx.load(path)
    before = outputs(model, feeds)[0]
    for entry in report.points:
        tgdonnx.mask(path, tmp_path / "masked.onnx", Phi(entry.phi), overwrite=True)
        masks = read_masked(tmp_path / "masked.onnx").masks
        where = {n: np.broadcast_to(v == 1, tuple(tensors_of(model)[n].dims)) for n, v in masks.items()}
        assert entry.parameters == sum(int(w.sum()) for w in where.values()) > 0
        after = outputs(zeroed(model, where), feeds)[0]
        assert entry.change == pytest.approx(relative_change(before, after), rel=1e-3)
        assert entry.agreement == float(np.mean(before.argmax(1) == after.argmax(1)))


def test_no_more_than_one_model_is_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[InferenceModel]] = []
    alive: list[int] = []

    def open_one(*arguments: Any, **options: Any) -> InferenceModel:
        alive.append(sum(reference() is not None for reference in opened))
        model = open_inference(*arguments, **options)
        opened.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sys.modules["tgdonnx.sweeping.measuring"], "open_inference", open_one)
    model = models.dncnn(0)
    sweep(saved(model, tmp_path), random_feeds(model), phis=(0.3, 0.5, 0.7, 1.0))
    assert len(opened) >= 4
    assert alive == [0] * len(opened)


def test_on_workers_every_point_is_the_same_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In threads of this process, which are there in no time; a file, and a model and data in memory, are sent."""

    def opened(workers: object) -> AbstractContextManager[Cluster]:
        assert workers == 2
        return cluster_of_threads(tmp_path)

    monkeypatch.setattr("tgdonnx.sweeping.on_workers.open_cluster", opened)
    limit_threads(1)
    try:
        model, feeds = models.dncnn(0), random_feeds(models.dncnn(0))
        path = saved(model, tmp_path)
        np.savez(tmp_path / "data.npz", **feeds)
        expected = sweep(path, tmp_path / "data.npz", phis=(0.1, 0.3, 0.31, 0.5))
        told: list[tuple[int, int]] = []
        place = Placement(workers=2)
        found = sweep(
            path,
            tmp_path / "data.npz",
            phis=(0.1, 0.3, 0.31, 0.5),
            device=place,
            on_progress=lambda *at: told.append(at),
        )
        assert found == expected
        assert [done for done, _ in told] == [*range(1, told[-1][1] + 1)]
        in_memory = sweep(model.SerializeToString(), feeds, phis=(0.1, 0.3, 0.31, 0.5), device=place)
        assert in_memory.points == expected.points
    finally:
        limit_threads(0)
