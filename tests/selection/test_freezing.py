"""Layers that are to stay frozen: which names mean which, and that nothing of them changes, whatever is selected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import tgdonnx
from tests.blending.runs import invented, tensors_in
from tests.cli.commands import run, run_json
from tests.regrowing.starts import ANY_CHANGE
from tests.regrowing.topologies import TOPOLOGIES
from tests.support import models
from tests.support.models import MODELS, save
from tgdonnx.errors import MaskedModelError, SelectionError
from tgdonnx.layers import open_network
from tgdonnx.selection import select
from tgdonnx.selection.budget import weights_per_filter
from tgdonnx.tracing import trace_network

CONVS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
EXAMPLES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def layers_of(model: onnx.ModelProto) -> dict[str, list[str]]:
    """For the names of layers the stored tensors that their nodes read, by the graph alone."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name or node.output[0]: [name for name in node.input[1:] if name in stored]
        for node in model.graph.node
        if node.op_type in CONVS
    }


def selected(freeze: tuple[str, ...], strategy: tgdonnx.Strategy, directory: Path, seed: int = 0) -> dict[str, int]:
    """How many filters of each layer of a denoiser are selected."""
    network = open_network(save(models.dncnn(seed), directory / "model.onnx"))
    rows = select(trace_network(network), strategy, freeze).filters
    return {layer.name: int(each.sum()) for layer, each in zip(network.layers, rows)}


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        (("conv2",), {"conv2"}),
        (("w2",), {"conv2"}),  # by its weight
        (("conv[13]",), {"conv1", "conv3"}),
        (("*2", "conv2"), {"conv2"}),
    ],
)
def test_a_layer_is_frozen_by_its_name_its_weight_or_a_pattern(
    names: tuple[str, ...], frozen: set[str], tmp_path: Path
) -> None:
    every = selected((), tgdonnx.AllLayers(), tmp_path)
    left = selected(names, tgdonnx.AllLayers(), tmp_path)
    assert left == {name: 0 if name in frozen else count for name, count in every.items()}


def test_a_name_with_signs_of_a_pattern_in_it_is_a_name_first(tmp_path: Path) -> None:
    model = models.dncnn(0)
    for node in model.graph.node:
        node.name = {"conv1": "conv[2]"}.get(node.name, node.name)
    network = open_network(save(model, tmp_path / "model.onnx"))
    rows = select(trace_network(network), tgdonnx.AllLayers(), ("conv[2]",)).filters
    assert [layer.name for layer, each in zip(network.layers, rows) if not each.any()] == ["conv[2]"]


def test_an_unknown_name_is_told_with_those_that_are_meant(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"no layer is called 'Conv_2', .*did you mean 'conv2'") as found:
        selected(("Conv_2",), tgdonnx.AllLayers(), tmp_path)
    assert "`tgdonnx.inspect` lists all" in str(found.value)
    with pytest.raises(SelectionError, match=r"no layer is called 'zzzz', .*they are called 'conv1'"):
        selected(("conv1", "zzzz"), tgdonnx.AllLayers(), tmp_path)


def test_to_freeze_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"with '\*' frozen, nothing is left to train.*; freeze fewer layers"):
        selected(("*",), tgdonnx.LastLayers(1), tmp_path)
    with pytest.raises(
        SelectionError, match="all that is selected is in layers that are to stay frozen; select others"
    ):
        selected(("w2", "conv1"), tgdonnx.FirstLayers(2), tmp_path)


def test_one_text_is_no_list_of_names() -> None:
    with pytest.raises(SelectionError, match=r"got the text 'conv1'; write `freeze=\('conv1',\)`"):
        tgdonnx.MaskOptions(freeze="conv1")  # type: ignore[arg-type]


def test_by_score_the_threshold_is_that_of_all_layers(tmp_path: Path) -> None:
    every = selected((), tgdonnx.Percentile(40), tmp_path)
    assert selected(("conv2",), tgdonnx.Percentile(40), tmp_path) == {**every, "conv2": 0}
    assert every["conv2"]


def test_a_fraction_is_of_the_weights_of_the_layers_that_are_left(tmp_path: Path) -> None:
    network = open_network(save(models.dncnn(0), tmp_path / "model.onnx"))
    left = [layer for layer in network.layers if layer.name != "conv3"]
    rows = select(trace_network(network), tgdonnx.RandomFilters(0.4, 3), ("conv3",)).filters
    total = sum(layer.filters * weights_per_filter(layer) for layer in left)
    held = sum(int(rows[layer.index].sum()) * weights_per_filter(layer) for layer in left)
    assert 0.4 * total - max(map(weights_per_filter, left)) < held <= 0.4 * total
    assert not rows[2].any()


def test_in_mode_readers_no_kernel_of_a_frozen_layer_trains(tmp_path: Path) -> None:
    base = save(models.dncnn(0), tmp_path / "model.onnx")
    masking = tgdonnx.MaskOptions("readers", freeze=("conv3",))
    report = tgdonnx.mask(base, tmp_path / "frozen.onnx", tgdonnx.Percentile(40), masking)
    plain = tgdonnx.mask(base, tmp_path / "all.onnx", tgdonnx.Percentile(40), tgdonnx.MaskOptions("readers"))
    maps = {entry.name: entry.maps for entry in report.params}
    before = {entry.name: entry.maps for entry in plain.params}
    assert before["w3"]
    assert not maps["w3"]
    assert maps["w2"] == before["w2"]
    assert set(maps["w4"]) < set(before["w4"]) or not before["w4"]  # what conv3 makes stays what it is
    assert report.frozen["conv3"] == "it was asked for"
    assert report.selection["freeze"] == ["conv3"]


@pytest.mark.slow
@EXAMPLES
@given(
    model=st.sampled_from(sorted(MODELS.keys() - {"gated"})),  # of two outputs, one has to be chosen
    mode=st.sampled_from(["paper", "readers", "adapter"]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_every_tensor_of_a_frozen_layer_keeps_its_bits(
    model: str, mode: Any, seed: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    work = tmp_path_factory.mktemp("frozen")
    proto = MODELS[model](seed)
    read = layers_of(proto)
    freeze = tuple(data.draw(st.lists(st.sampled_from(sorted(read)), min_size=1, max_size=len(read) - 1, unique=True)))
    base = save(proto, work / "model.onnx")
    masking = tgdonnx.MaskOptions(mode, freeze=freeze)
    try:
        artifacts = invented(base, work / "run", tgdonnx.AllLayers(), masking, seed=seed)
    except (SelectionError, MaskedModelError):
        reject()  # the layers that are left cannot train at all, or share what is frozen
    tgdonnx.export(artifacts, work / "tuned.onnx")
    before, after = tensors_in(base), tensors_in(work / "tuned.onnx")
    for name in freeze:
        assert all(before[tensor].tobytes() == after[tensor].tobytes() for tensor in read[name])
        assert not [each for each in after if each.startswith(f"tgdonnx.adapter.1.{name}.")]
    changed = {name for name, values in before.items() if values.tobytes() != after[name].tobytes()}
    assert changed or mode == "adapter"
    report = tgdonnx.verify(base, work / "tuned.onnx")
    assert report.ok, report.violations
    assert report.proof == "recomputed"


def test_in_mode_regrow_neither_filters_nor_readers_of_a_frozen_layer_change(tmp_path: Path) -> None:
    topology = TOPOLOGIES["batch norms"]
    proto = topology.build()
    base = save(proto, tmp_path / "model.onnx")
    _, second, third = layers_of(proto)
    plain = tgdonnx.Reinitialization(tolerance=ANY_CHANGE)
    masking = tgdonnx.MaskOptions("regrow", plain, freeze=(third,))
    artifacts = invented(base, tmp_path / "run", tgdonnx.Filters(topology.filters), masking)
    tgdonnx.export(artifacts, tmp_path / "tuned.onnx")
    before, after = tensors_in(base), tensors_in(tmp_path / "tuned.onnx")
    changed = {name for name, values in before.items() if values.tobytes() != after[name].tobytes()}
    # What the third layer reads would have to be 0 in it: the filters of the second are no longer reinitialised.
    assert "w1" in changed
    assert not changed & {"w3", "b3", "s2", "o2", "m2", "v2", "slope"}
    reborn = topology.filters["w2"]
    assert before["w2"][reborn].tobytes() != after["w2"][reborn].tobytes()  # but they read what is
    assert tgdonnx.verify(base, tmp_path / "tuned.onnx").ok
    with pytest.raises(SelectionError, match=f"it is read by '{second}', which is to stay frozen"):
        tgdonnx.mask(
            base,
            tmp_path / "none.onnx",
            tgdonnx.Filters({"w1": topology.filters["w1"]}),
            tgdonnx.MaskOptions("regrow", plain, freeze=(second,)),
        )


def test_a_second_round_leaves_side_paths_beside_a_frozen_layer_alone(tmp_path: Path) -> None:
    base = save(models.chain(0), tmp_path / "model.onnx")
    artifacts = invented(base, tmp_path / "run", tgdonnx.AllLayers(), tgdonnx.MaskOptions("adapter"))
    tgdonnx.export(artifacts, tmp_path / "first.onnx")
    masking = tgdonnx.MaskOptions(freeze=("conv2",))
    again = invented(tmp_path / "first.onnx", tmp_path / "again", tgdonnx.AllLayers(), masking)
    tgdonnx.export(again, tmp_path / "second.onnx")
    before, after = tensors_in(tmp_path / "first.onnx"), tensors_in(tmp_path / "second.onnx")
    changed = {name for name, values in before.items() if values.tobytes() != after[name].tobytes()}
    kept = {"w2", "tgdonnx.adapter.1.conv2.down", "tgdonnx.adapter.1.conv2.up"}
    assert kept <= before.keys()
    assert not changed & kept
    assert {"w1", "w3", "tgdonnx.adapter.1.conv1.up"} <= changed
    assert tgdonnx.verify(tmp_path / "first.onnx", tmp_path / "second.onnx").ok


def test_the_command_line_freezes_and_says_so(tmp_path: Path) -> None:
    base, masked = save(models.dncnn(0), tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    told = run("mask", base, "-o", masked, "--freeze", "conv1")
    assert told.exit_code == 2
    assert "--freeze takes layers out of a selection: `--all` trains all others" in told.stderr
    report = run_json("mask", base, "-o", masked, "--all", "--freeze", "conv1", "--freeze", "*3")
    assert report["selection"]["freeze"] == ["conv1", "conv3"]
    masks = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(masked).graph.initializer}
    assert [np.unique(masks[f"w{i}.retrain_mask"]).tolist() for i in (1, 2, 3, 4)] == [[0], [1], [0], [1]]
    told = run("mask", base, "-o", masked, "--all", "--freeze", "conv9", "--overwrite")
    assert told.exit_code == 2
    assert "no layer is called 'conv9'" in told.stderr
    assert "`tgdonnx inspect` lists all" in told.stderr
