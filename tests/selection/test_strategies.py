"""Which filters each strategy selects, and what it says when it selects none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.selection.reference import by_experiment
from tests.support import models
from tests.support.models import MODELS, Builder, conv_weight, parse, save
from tests.tracing.oracle import Filter, label, layers
from tgdonnx.cli import main
from tgdonnx.comparing import SELECTIONS
from tgdonnx.errors import SelectionError
from tgdonnx.guides import text_of
from tgdonnx.layers import open_network
from tgdonnx.selection import (
    STRATEGIES,
    AllLayers,
    Filters,
    FirstLayers,
    FisherFilters,
    LastLayers,
    Percentile,
    Phi,
    RandomFilters,
    Selection,
    SteepestFilters,
    Strategy,
    StrategyType,
    select,
)
from tgdonnx.selection.recorded import read_selection, strategy_of
from tgdonnx.selection.strategies import BY_NAME
from tgdonnx.tracing import trace_network

RNG = np.random.default_rng(4)


def selection(model: onnx.ModelProto, strategy: Strategy, directory: Path) -> Selection:
    return select(trace_network(open_network(save(model, directory / "model.onnx"))), strategy)


def selected(model: onnx.ModelProto, strategy: Strategy, directory: Path) -> set[Filter]:
    names = [label(conv) for conv in layers(model)]
    rows = selection(model, strategy, directory).filters
    return {(name, int(m)) for name, row in zip(names, rows) for m in np.flatnonzero(row)}


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_phi_selects_the_filters_whose_every_map_scores_below_it(builder: Builder, seed: int, tmp_path: Path) -> None:
    model = builder(seed)
    reference = by_experiment(model)
    chosen = [reference.below(phi) for phi in (0.05, 0.3, 0.7, 1.0)]
    assert [selected(model, Phi(phi), tmp_path) for phi in (0.05, 0.3, 0.7, 1.0)] == chosen
    assert 0 < len(chosen[0]) < len(chosen[-1]) < len(reference.importance)  # or the model would test nothing


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_a_percentile_is_the_phi_below_which_so_many_traced_maps_score(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    reference = by_experiment(model)
    chosen = [reference.below(reference.percentile(percent)) for percent in (40, 60, 80, 100)]
    assert [selected(model, Percentile(percent), tmp_path) for percent in (40, 60, 80, 100)] == chosen
    assert 0 < len(chosen[0]) < len(chosen[-1])


def test_percentile_100_selects_every_filter_that_can_be_selected_by_its_score(tmp_path: Path) -> None:
    everything = {f for f, value in by_experiment(models.residual()).importance.items() if np.isfinite(value)}
    assert selected(models.residual(), Percentile(100), tmp_path) == everything
    assert len(everything) == 8 + 6 + 8 + 5 + 8


def test_the_records_say_what_was_asked_for_and_the_phi_that_was_used(tmp_path: Path) -> None:
    model = models.chain()
    assert selection(model, Phi(0.3, alpha=2.0, k=3), tmp_path).strategy == {
        "strategy": "phi",
        "phi": 0.3,
        "alpha": 2.0,
        "k": 3,
    }
    record = selection(model, Percentile(30), tmp_path).strategy
    assert record == {"strategy": "percentile", "percentile": 30, "phi": record["phi"], "alpha": 1.0, "k": 5}
    assert selected(model, Phi(record["phi"]), tmp_path) == selected(model, Percentile(30), tmp_path)
    assert selection(model, LastLayers(2), tmp_path).strategy == {"strategy": "last", "last": 2}
    assert selection(model, FirstLayers(1), tmp_path).strategy == {"strategy": "first", "first": 1}
    assert selection(model, AllLayers(), tmp_path).strategy == {"strategy": "all"}
    assert selection(model, Filters({"w2": [1]}), tmp_path).strategy == {"strategy": "filters", "filters": {"w2": [1]}}


def test_alpha_and_k_reach_the_scores(tmp_path: Path) -> None:
    model = models.chain()
    by_default = selection(model, Percentile(40), tmp_path)
    assert selection(model, Percentile(40, alpha=50.0), tmp_path).strategy["phi"] != by_default.strategy["phi"]
    assert selection(model, Percentile(40, k=1), tmp_path).strategy["phi"] != by_default.strategy["phi"]


def test_last_first_and_all_select_whole_layers_in_the_order_of_the_computation(tmp_path: Path) -> None:
    counts = {"conv1": 8, "conv2": 6, "conv3": 10, "conv4": 4}

    def whole(*names: str) -> set[Filter]:
        return {(name, m) for name in names for m in range(counts[name])}

    assert selected(models.chain(), LastLayers(2), tmp_path) == whole("conv3", "conv4")
    assert selected(models.chain(), FirstLayers(3), tmp_path) == whole("conv1", "conv2", "conv3")
    assert selected(models.chain(), AllLayers(), tmp_path) == whole(*counts)
    assert selected(models.chain(), LastLayers(4), tmp_path) == whole(*counts)


def test_the_order_of_the_nodes_in_the_file_does_not_decide_which_layers_are_last(tmp_path: Path) -> None:
    shuffled = models.chain()
    nodes = list(reversed(shuffled.graph.node))
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(nodes)
    found = selection(shuffled, LastLayers(1), tmp_path).filters
    assert [row.tolist() for row in found] == [[False] * 8, [False] * 6, [False] * 10, [True] * 4]


def test_listed_filters_are_selected_in_every_layer_that_has_the_weight(tmp_path: Path) -> None:
    assert selected(models.chain(), Filters({"w1": [7, 0, 0], "w4": [np.int64(3)]}), tmp_path) == {
        ("conv1", 0),
        ("conv1", 7),
        ("conv4", 3),
    }
    shared = Filters({"w": [2, 5]})
    for builder in (models.shared_weights, models.shared_through_identity):
        assert selected(builder(), shared, tmp_path) == {
            (layer, m) for layer in ("left_shared", "right_shared") for m in (2, 5)
        }


def test_random_filters_hold_a_fraction_of_the_weights_and_depend_on_the_seed(tmp_path: Path) -> None:
    model, weights = models.chain(), {"conv1": 27, "conv2": 8, "conv3": 90, "conv4": 90}
    drawn = [selected(model, RandomFilters(0.5, seed), tmp_path) for seed in (0, 0, 1)]
    total = 8 * 27 + 6 * 8 + 10 * 90 + 4 * 90
    for each in drawn:
        assert 0.5 * total - 90 < sum(weights[layer] for layer, _ in each) <= 0.5 * total
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(selected(model, RandomFilters(1.0), tmp_path)) == 8 + 6 + 10 + 4


@pytest.mark.parametrize(
    "strategy",
    [
        LastLayers(2),
        FirstLayers(2),
        AllLayers(),
        Filters({"w2": [0, 3], "w3": [1]}),
        FisherFilters(0.2, 2, {"w2": [0, 3], "w3": [1]}),
        RandomFilters(0.4),
    ],
)
def test_without_scores_a_map_means_nothing_when_all_filters_behind_it_are_selected(
    strategy: Strategy, tmp_path: Path
) -> None:
    model = models.dncnn()
    found = selection(model, strategy, tmp_path)
    conv_rows = dict(zip(["conv1", "conv2", "conv3", "conv4"], found.filters))
    assert not found.meaningless[0].any()  # the input of the model
    for before, released in zip(["conv1", "conv2", "conv3"], found.meaningless[1:]):
        np.testing.assert_array_equal(released, conv_rows[before])


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_with_scores_a_map_means_nothing_to_the_layers_that_score_it_below_phi(
    builder: Builder, tmp_path: Path
) -> None:
    model = builder(0)
    reference = by_experiment(model)
    released = selection(model, Phi(0.4), tmp_path).meaningless
    for conv, found in zip(layers(model), released):
        producers = reference.dependencies[conv.input[0]]
        scores = reference.scores[label(conv)]
        assert found.tolist() == [bool(made) and score < 0.4 for made, score in zip(producers, scores)]


# Refusals.


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Phi(-0.1), "expected phi in [0, 1], got -0.1"),
        (Phi(1.5), "expected phi in [0, 1], got 1.5"),
        (Phi(float("nan")), "expected phi in [0, 1], got nan"),
        (Percentile(-1), "expected a percentile in [0, 100], got -1"),
        (Percentile(101), "expected a percentile in [0, 100], got 101"),
        (Percentile(float("nan")), "expected a percentile in [0, 100], got nan"),
        (LastLayers(0), "expected last between 1 and 4, the number of layers; got 0"),
        (LastLayers(5), "expected last between 1 and 4, the number of layers; got 5"),
        (FirstLayers(-1), "expected first between 1 and 4, the number of layers; got -1"),
        (Filters({"w9": [0]}), "'w9' is not the weight of a layer; expected one of w1, w2, w3, w4"),
        (Filters({"b1": [0]}), "'b1' is not the weight of a layer; expected one of w1, w2, w3, w4"),
        (Filters({"w2": [6]}), "expected filters of 'w2' as whole numbers in 0 to 5, got 6"),
        (Filters({"w2": [-1]}), "expected filters of 'w2' as whole numbers in 0 to 5, got -1"),
        (Filters({"w2": [1.0]}), "expected filters of 'w2' as whole numbers in 0 to 5, got 1.0"),  # type: ignore[list-item]
        (Filters({"w2": [True]}), "expected filters of 'w2' as whole numbers in 0 to 5, got True"),
        (Filters({"w2": ["1"]}), "expected filters of 'w2' as whole numbers in 0 to 5, got '1'"),  # type: ignore[list-item]
        (RandomFilters(0.0), "expected a fraction of the weights above 0 and at most 1, got 0"),
        (RandomFilters(1.1), "expected a fraction of the weights above 0 and at most 1, got 1.1"),
        (RandomFilters(0.5, -1), "expected a seed of at least 0, got -1"),
        (SteepestFilters(0.0, 1, {"w2": [1]}), "expected a fraction of the weights above 0 and at most 1, got 0"),
        (
            SteepestFilters(0.5),
            "what steepest selects depends on data, which it was not measured on; "
            "measure it first, by tgdonnx.sensitivity.measured",
        ),
        (FisherFilters(0.5, 1, {"w2": [6]}), "expected filters of 'w2' as whole numbers in 0 to 5, got 6"),
        (Filters({}), "the selection selects no filter; list at least one"),
        (Filters({"w1": [], "w2": []}), "the selection selects no filter; list at least one"),
    ],
    ids=str,
)
def test_a_wrong_selection_is_refused_with_what_was_expected(strategy: Strategy, message: str, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=f"^{re.escape(message)}$"):
        selection(models.chain(), strategy, tmp_path)


@pytest.mark.parametrize("strategy", [Percentile(10), AllLayers(), LastLayers(1)], ids=str)
def test_a_model_whose_weights_are_all_computed_is_refused_with_the_reason(strategy: Strategy, tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]> g (float[1, 2, 5] x) => (float[1, 3, 5] y)
        <float scale = {0.5}> {
            real = Cast<to = 1>(w)
            [decode] weight = Mul(real, scale)
            [conv] y = Conv(x, weight)
        }""",
        {"w": np.ones((3, 2, 1), np.int8)},
    )
    path = save(model, tmp_path / "model.onnx")
    with pytest.raises(
        SelectionError, match=r"^none of the 1 layers can retrain \(of 'conv', .*decode.*\(Mul\)\); ask for"
    ):
        select(trace_network(open_network(path)), strategy)


def beside_the_input(seed: int) -> onnx.ModelProto:
    """The least score of the second layer falls to the input of the model, so that of the filters is above 0."""
    rng = np.random.default_rng(seed)
    loudness = np.array([1, 1, 1, 1, 1, 0.001, 2])  # of the filters' maps, and of the input's
    return parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w1)
            c = Concat<axis = 1>(a, x)
            y = Conv(c, w2)
        }""",
        {
            "w1": conv_weight(rng, 5, 2, 3, 3),
            "w2": (rng.standard_normal((3, 7, 1, 1)) * loudness.reshape(1, 7, 1, 1)).astype(np.float32),
        },
    )


def stated(error: Any) -> float:
    number = re.search(r"scores ([0-9.e+-]+)", str(error.value))
    assert number is not None
    return float(number[1].rstrip("."))


@pytest.mark.parametrize("seed", range(8))
def test_a_phi_that_selects_nothing_is_answered_with_the_lowest_that_does(seed: int, tmp_path: Path) -> None:
    model = beside_the_input(seed)
    lowest = min(by_experiment(model).importance.values())
    assert 0.01 < lowest < 1
    with pytest.raises(SelectionError, match=r"^phi = 0\.005 selects no filter") as caught:
        selection(model, Phi(0.005), tmp_path)
    said = stated(caught)  # six digits of it
    assert len(selected(model, Phi(said * (1 + 2e-6)), tmp_path)) == 1
    with pytest.raises(SelectionError):
        selection(model, Phi(said * (1 - 2e-6)), tmp_path)


def test_a_percentile_that_selects_nothing_says_which_phi_it_stands_for(tmp_path: Path) -> None:
    # The lowest 5 % of five traced maps are none.
    with pytest.raises(SelectionError, match=r"^percentile 5 \(phi = 0\.\d+\) selects no filter") as caught:
        selection(beside_the_input(0), Percentile(5), tmp_path)
    assert len(selected(beside_the_input(0), Phi(stated(caught) * (1 + 2e-6)), tmp_path)) == 1


def test_phi_0_selects_nothing_because_the_comparison_is_strict(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="phi = 0 selects no filter") as caught:
        selection(models.chain(), Phi(0.0), tmp_path)
    assert stated(caught) == 0
    assert selected(models.chain(), Phi(1e-9), tmp_path)


def test_where_every_score_is_1_the_answer_is_not_a_phi_above_1(tmp_path: Path) -> None:
    model = parse(  # the second layer has one input map, which cannot be told from others
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y) {
            a = Conv(x, w1)
            y = Conv(a, w2)
        }""",
        {"w1": conv_weight(RNG, 1, 2, 1, 1), "w2": conv_weight(RNG, 3, 1, 1, 1)},
    )
    for phi in (0.3, 1.0):
        with pytest.raises(SelectionError) as caught:
            selection(model, Phi(phi), tmp_path)
        assert "must be above" not in str(caught.value)
        assert caught.value.remedy == "select whole layers, or filters by their gradient on the new data"


def test_a_model_in_which_every_filter_is_useful_says_why(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y) { y = Conv(x, w) }""",
        {"w": conv_weight(RNG, 3, 2, 1, 1)},
    )
    for strategy in (Phi(0.9), Percentile(90)):
        with pytest.raises(SelectionError, match=r"every one is useful \(it reaches the output 'y', for example\)"):
            selection(model, strategy, tmp_path)


@pytest.mark.parametrize("each", STRATEGIES, ids=lambda each: each.name)
def test_every_strategy_of_the_table_is_public_has_an_option_and_stands_in_the_guide(
    each: StrategyType[Any, Any],
) -> None:
    assert getattr(tgdonnx, each.strategy.__name__) is each.strategy
    for command in ("mask", "finetune"):
        (option,) = (option for option in main.commands[command].params if option.name == each.name)
        assert (option.opts, option.help) == ([f"--{each.name}"], each.help)  # type: ignore[attr-defined]
    table = text_of("selections").partition("| selection | retrains |")[2].partition("\n\n")[0]
    assert re.search(rf"`--{each.name}\b", table)
    assert (each.name in {name.partition(":")[0] for name in SELECTIONS}) == (each.letter is not None)


@pytest.mark.parametrize(
    "strategy",
    [
        Phi(0.5, 0.7, 3, 0.02),
        Percentile(40, 0.7, 3),
        LastLayers(2),
        FirstLayers(1),
        AllLayers(),
        Filters({"w1": [0, 2]}),
        SteepestFilters(0.1, 6, {"w1": [0, 2]}),
        FisherFilters(0.2, 7, {"w2": [1]}),
        RandomFilters(0.3, 5),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_strategy_is_restored_from_what_is_recorded_of_it(strategy: Strategy, tmp_path: Path) -> None:
    record = selection(models.chain(), strategy, tmp_path).strategy
    recorded = read_selection({**json.loads(json.dumps(record)), "mode": "paper", "round": 1})
    assert strategy_of(recorded) == strategy
    assert record["strategy"] in BY_NAME
