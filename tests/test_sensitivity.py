"""Gradients of single samples by filter, against the chain rule in numpy and finite differences, and what they select."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.float64 import Loss
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array, conv_weight, parse
from tests.support.tuning import data_for
from tgdonnx.errors import DataError, SelectionError
from tgdonnx.layers import open_network
from tgdonnx.selection import Sensitivity
from tgdonnx.sensitivity import measured, measuring, sensitivity

PER_SAMPLE = list[dict[str, Array]]


def looked_at(model: onnx.ModelProto, folder: Path, data: tgdonnx.RunData, **building: str) -> Sensitivity:
    network = open_network(models.save(model, folder / "model.onnx"))
    return sensitivity(network, data, tgdonnx.BuildOptions(**building), tgdonnx.TrainOptions())


def rows_of(axis: int, array: Array) -> Array:
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def by_definition(model: onnx.ModelProto, gradients: PER_SAMPLE, names: tuple[str, ...]) -> Mapping[str, list[Array]]:
    """Steepness and Fisher information of the filters of Convs, which lie along the first axis."""
    stored = NumpyNet(model).tensors
    found: dict[str, list[Array]] = {"steepness": [], "fisher": []}
    for name in names:
        each = np.stack([rows_of(0, sample[name]) for sample in gradients])
        norm = np.linalg.norm(rows_of(0, stored[name]), axis=1)
        found["steepness"].append(np.linalg.norm(each.mean(axis=0), axis=1) / norm)
        found["fisher"].append((each**2).mean(axis=(0, 2)))
    return found


def agrees(found: Mapping[str, Array], expected: list[Array]) -> None:
    for (name, array), wanted in zip(found.items(), expected):
        np.testing.assert_allclose(array, wanted, rtol=2e-4, atol=1e-6 * float(wanted.max()), err_msg=name)


def test_steepness_and_fisher_information_are_those_of_the_chain_rule(tmp_path: Path) -> None:
    model, data = models.dncnn(0), data_for(models.dncnn(0))
    net, gradients = NumpyNet(model), []
    for x, target in zip(data["x"], data["target"]):
        y = net.run({"x": x[None]})["y"]
        gradients.append(net.gradients({"x": x[None]}, {"y": 2 * (y - target[None]) / y.size}))
    found = looked_at(model, tmp_path, tgdonnx.RunData(data))
    names = ("w1", "w2", "w3", "w4")
    expected = by_definition(model, gradients, names)
    assert (tuple(found.steepness), tuple(found.fisher)) == (names, names)
    agrees(found.steepness, expected["steepness"])
    agrees(found.fisher, expected["fisher"])
    assert found.samples == 6
    assert found.weights == {"w1": 27, "w2": 72, "w3": 150, "w4": 63}


def test_filters_of_grouped_and_transposed_layers_are_those_of_finite_differences(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    model = small()
    stored = NumpyNet(model).tensors
    xs = rng.normal(size=(3, 2, 5)).astype(np.float32)
    targets, gradients = [], []
    for x in xs:
        loss = Loss(model, {"x": x[None]})
        targets.append(loss.aim(rng)[0])
        gradients.append({name: by_differences(loss, stored, name) for name in ("w", "v")})
    found = looked_at(model, tmp_path, tgdonnx.RunData({"x": xs, "target": np.stack(targets)}))
    for name, axis in (("w", 0), ("v", 1)):  # of a ConvTranspose filters lie along the second
        each = np.stack([rows_of(axis, sample[name]) for sample in gradients])
        norm = np.linalg.norm(rows_of(axis, stored[name]), axis=1)
        np.testing.assert_allclose(found.steepness[name], np.linalg.norm(each.mean(0), axis=1) / norm, rtol=1e-4)
        np.testing.assert_allclose(found.fisher[name], (each**2).mean(axis=(0, 2)), rtol=1e-4)
    assert found.weights == {"w": 3, "v": 8}


def small(seed: int = 8) -> onnx.ModelProto:
    rng = np.random.default_rng(seed)
    return parse(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N, 2, 5] x) => (float[N, 3, 6] y) {
            a = Conv<group = 2, pads = [1, 1]>(x, w)
            b = LeakyRelu<alpha = 0.3>(a)
            y = ConvTranspose(b, v)
        }""",
        {"w": conv_weight(rng, 4, 1, 3), "v": conv_weight(rng, 4, 3, 2)},
    )


def small_data(samples: int) -> dict[str, Array]:
    rng = np.random.default_rng(samples)
    sizes = {"x": (samples, 2, 5), "target": (samples, 3, 6)}
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}


def by_differences(loss: Loss, stored: Mapping[str, Array], name: str) -> Array:
    slopes = []
    for place in np.ndindex(stored[name].shape):
        direction = np.zeros_like(stored[name])
        direction[place] = 1
        slopes.append(loss.slope(stored, name, direction))
    return np.reshape(slopes, stored[name].shape)


def test_what_is_held_out_to_validate_is_not_looked_at(tmp_path: Path) -> None:
    model, folder = small(), tmp_path / "data"
    halves = [small_data(2), small_data(4)]
    folder.mkdir()
    for place, half in enumerate(halves):
        np.savez(folder / f"{place}.npz", **half)
    reading = tgdonnx.DataOptions(validation_split=0.5)
    found = looked_at(model, tmp_path, tgdonnx.RunData(folder, reading=reading))
    alone = {len(half["x"]): looked_at(model, tmp_path, tgdonnx.RunData(half)) for half in halves}
    agrees(found.fisher, list(alone[found.samples].fisher.values()))


def test_of_many_samples_64_are_looked_at_and_they_depend_on_the_seed(tmp_path: Path) -> None:
    network = open_network(models.save(small(), tmp_path / "model.onnx"))
    data = tgdonnx.RunData(small_data(70))
    one, again, other = (
        sensitivity(network, data, tgdonnx.BuildOptions(), tgdonnx.TrainOptions(seed=seed)) for seed in (1, 1, 2)
    )
    assert one.samples == 64
    for name, array in one.steepness.items():
        assert array.tobytes() == again.steepness[name].tobytes()
        assert (array != other.steepness[name]).any()


def test_where_the_model_fixes_the_batch_size_the_gradient_is_that_of_whole_batches(tmp_path: Path) -> None:
    model, data = small(), small_data(5)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    found = looked_at(model, tmp_path, tgdonnx.RunData(data))
    assert found.samples == 4  # the fifth fills no batch
    whole = looked_at(small(), tmp_path, tgdonnx.RunData(data))
    assert all((found.fisher[name] < whole.fisher[name]).any() for name in found.fisher)


def test_the_loss_counts(tmp_path: Path) -> None:
    data = tgdonnx.RunData(small_data(3))
    squared, absolute = (looked_at(small(), tmp_path, data, loss=loss) for loss in ("mse", "l1"))
    assert all((squared.fisher[name] != absolute.fisher[name]).all() for name in squared.fisher)


def test_a_filter_of_norm_0_is_steepest_if_it_has_a_gradient_and_flat_if_it_has_none(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N, 1, 4] x) => (float[N, 1, 4] y) {
            a = Conv(x, w)
            y = Conv(a, v)
        }""",
        {"w": np.array([0, 0, 2], np.float32).reshape(3, 1, 1), "v": np.array([1, 0, 1], np.float32).reshape(1, 3, 1)},
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    found = looked_at(model, tmp_path, tgdonnx.RunData({"x": x, "target": np.zeros_like(x)}))
    assert found.steepness["w"][:2].tolist() == [np.inf, 0]
    # y = 2 x, so that dL/dw[2] = mean(2 * y * x), by samples of 0 to 3 and of 4 to 7
    assert found.steepness["w"][2] == pytest.approx(4 * np.mean(x**2) / 2)
    assert found.fisher["w"][2] == pytest.approx(np.mean((4 * np.mean(x**2, axis=(1, 2))) ** 2))


# What is selected.


def test_a_selection_takes_the_filters_of_its_own_measure_and_what_it_does_not_concern_stays(tmp_path: Path) -> None:
    model = models.dncnn(0)
    network, data = open_network(models.save(model, tmp_path / "model.onnx")), tgdonnx.RunData(data_for(model))
    found = sensitivity(network, data, tgdonnx.BuildOptions(), tgdonnx.TrainOptions())
    for strategy, values in (
        (tgdonnx.SteepestFilters(0.3), found.steepness),
        (tgdonnx.FisherFilters(0.3), found.fisher),
    ):
        chosen = measured(strategy, network, data)
        assert isinstance(chosen, type(strategy))
        assert chosen.samples == 6
        assert chosen.filters is not None
        kept = [values[name][row] for name, rows in chosen.filters.items() for row in rows]
        left = [
            each
            for name, array in values.items()
            for row, each in enumerate(array)
            if row not in chosen.filters.get(name, ())
        ]
        assert min(kept) >= max(left)
        held = sum(len(rows) * found.weights[name] for name, rows in chosen.filters.items())
        total = 8 * 27 + 10 * 72 + 7 * 150 + 3 * 63
        assert 0.3 * total - 150 < held <= 0.3 * total
        assert measured(chosen, network, tgdonnx.RunData("nowhere")) is chosen
    assert measured(tgdonnx.Phi(0.3), network, tgdonnx.RunData("nowhere")) == tgdonnx.Phi(0.3)


def test_several_selections_look_at_the_data_once() -> None:
    looks = []

    def look() -> Sensitivity:
        looks.append(1)
        values = {"w": np.array([1.0, 2.0])}
        return Sensitivity(3, {"w": 1}, values, {"w": -values["w"]})

    measure = measuring(look)
    measure(tgdonnx.AllLayers())
    assert not looks
    assert measure(tgdonnx.SteepestFilters(0.5)) == tgdonnx.SteepestFilters(0.5, 3, {"w": [1]})
    assert measure(tgdonnx.FisherFilters(0.5)) == tgdonnx.FisherFilters(0.5, 3, {"w": [0]})
    assert len(looks) == 1


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused_before_anything_is_looked_at(fraction: float) -> None:
    def look() -> Sensitivity:
        raise AssertionError

    with pytest.raises(SelectionError, match=f"above 0 and at most 1, got {re.escape(f'{fraction:g}')}"):
        measuring(look)(tgdonnx.SteepestFilters(fraction))


def test_finetune_measures_and_the_file_proves_what_trained(tmp_path: Path) -> None:
    data, base = small_data(6), models.save(small(), tmp_path / "model.onnx")
    run = tgdonnx.TrainOptions(epochs=1, batch=3, seed=4)
    report = tgdonnx.finetune(base, data, tmp_path / "tuned.onnx", tgdonnx.FisherFilters(0.4), run, rounds=2)
    first = measured(tgdonnx.FisherFilters(0.4), open_network(base), tgdonnx.RunData(data), training=run)
    assert isinstance(first, tgdonnx.FisherFilters)
    assert report.earlier[0].mask.selection["filters"] == first.filters
    assert report.mask.selection["round"] == 2
    assert report.mask.selection["measured"] == 6
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok


def test_data_that_does_not_fit_is_told_as_a_run_tells_it(tmp_path: Path) -> None:
    wrong = {**small_data(4), "x": small_data(4)["x"][:, :1]}
    with pytest.raises(DataError) as by_run:
        tgdonnx.finetune(models.save(small(), tmp_path / "m.onnx"), wrong, tmp_path / "t.onnx", tgdonnx.AllLayers())
    with pytest.raises(DataError) as found:
        looked_at(small(), tmp_path, tgdonnx.RunData(wrong))
    assert str(found.value) == str(by_run.value)


def test_a_gradient_that_is_not_finite_is_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    data = {name: (1e30 * each).astype(np.float32) for name, each in small_data(2).items()}
    with pytest.raises(DataError, match=r"the gradient of '[wv]' is not finite on this data"):
        looked_at(small(), tmp_path, tgdonnx.RunData(data))
