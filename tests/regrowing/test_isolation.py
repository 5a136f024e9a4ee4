"""With isolation, whatever the reinitialised filters learn, every map that stays is what it was, for any input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.regrowing.starts import Case, activations, reinitialized_in, trained_at_random
from tests.support.models import MODELS, Array, random_feeds
from tgdonnx.errors import SelectionError
from tgdonnx.layers import Layer
from tgdonnx.selection import Filters, Phi

PLAIN = [name for name in MODELS if not name.startswith("shared")]


def input_maps(case: Case, model: onnx.ModelProto, seed: int) -> list[tuple[Layer, Array]]:
    """For every layer whose input is computed, that input."""
    layers = [layer for layer in case.provenance.layers if layer.node.inputs[0].producer() is not None]
    names = [layer.node.inputs[0].name for layer in layers]
    found = activations(model, list(dict.fromkeys(names)), random_feeds(case.model, seed))
    return [(layer, found[name]) for layer, name in zip(layers, names)]


def reinitialized_maps(case: Case, layer: Layer) -> list[int]:
    """The input maps of a layer with a reinitialised producer."""
    names = {entry.index: entry.weight.name for entry in case.provenance.layers if entry.weight}
    return [
        c
        for c, origin in enumerate(case.provenance.layer_inputs[layer.index])
        if any(m in case.reinitialized.get(names[index], []) for index, m in origin.producers)
    ]


@pytest.mark.parametrize("name", PLAIN)
def test_maps_that_stay_are_the_same_after_any_training(name: str, tmp_path: Path) -> None:
    case = reinitialized_in(MODELS[name](0), tmp_path, Phi(0.3), isolate=True)
    trained = trained_at_random(case)
    moved = 0
    for seed in range(2):
        for (layer, before), (_, after) in zip(input_maps(case, case.start, seed), input_maps(case, trained, seed)):
            reinitialized = reinitialized_maps(case, layer)
            stay = [c for c in range(before.shape[1]) if c not in reinitialized]
            np.testing.assert_array_equal(before[:, stay], after[:, stay], err_msg=layer.name)
            moved += sum(not np.array_equal(before[:, c], after[:, c]) for c in reinitialized)
    assert moved


def test_without_isolation_maps_that_stay_move(tmp_path: Path) -> None:
    case = reinitialized_in(MODELS["chain"](0), tmp_path, Phi(0.3))
    trained = trained_at_random(case)
    (layer, before), (_, after) = input_maps(case, case.start, 0)[-1], input_maps(case, trained, 0)[-1]
    stay = [c for c in range(before.shape[1]) if c not in reinitialized_maps(case, layer)]
    assert all(not np.array_equal(before[:, c], after[:, c]) for c in stay)


def test_what_trains_and_what_is_only_set(tmp_path: Path) -> None:
    case = reinitialized_in(
        MODELS["chain"](0), tmp_path, Filters({"w1": [1, 4], "w2": [2], "w3": [0, 7]}), isolate=True
    )
    rows = {"w1": [1, 4], "w2": [2], "w3": [0, 7], "w4": []}
    maps = {"w1": [], "w2": [1, 4], "w3": [2], "w4": [0, 7]}
    for name, own in rows.items():
        trains = case.retrain_mask(name)
        expected = np.zeros(trains.shape, bool)
        expected[own] = True
        is_set = np.zeros(trains.shape, bool)
        is_set[:, maps[name]] = True
        if name == "w4":  # its filters reach the output
            expected |= is_set
        np.testing.assert_array_equal(trains, expected, err_msg=name)
        np.testing.assert_array_equal(case.set_mask(name), is_set & ~expected, err_msg=name)
        if name in case.regrown.values:
            useful = [n for n in range(len(trains)) if n not in own]
            assert not case.regrown.values[name][np.ix_(useful, maps[name])].any()


def test_isolation_without_a_reader_at_the_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"of the 2 filters .* no layer would read them; .* leave isolation out"):
        reinitialized_in(MODELS["chain"](0), tmp_path, Filters({"w1": [1, 4]}), isolate=True)
