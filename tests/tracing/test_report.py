"""The trace of a model as its readers get it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from tests.support import models
from tests.support.models import conv_weight, parse, save
from tgdonnx.errors import ModelFileError, SelectionError
from tgdonnx.reporting.traces import print_trace
from tgdonnx.tracing import LayerTrace, MapTrace, Producer, trace
from tgdonnx.tracing.path import Step

RNG = np.random.default_rng(2)


def test_a_chain_is_reported_filter_by_filter(tmp_path: Path) -> None:
    path = save(models.chain(), tmp_path / "model.onnx")
    report = trace(path)
    assert report.model == str(path)
    assert [(layer.node, layer.weight, len(layer.maps)) for layer in report.layers] == [
        ("conv1", "w1", 3),
        ("conv2", "w2", 8),
        ("conv3", "w3", 6),
        ("conv4", "w4", 10),
    ]
    assert report.layers[1] == LayerTrace(
        "conv2", "w2", tuple(MapTrace(m, (Producer("conv1", m),), None) for m in range(8))
    )
    assert report.layers[0].maps[2] == MapTrace(2, (), "it is read from the graph input 'x'")


def test_producers_are_sorted_by_layer_and_filter(tmp_path: Path) -> None:
    report = trace(save(models.residual(), tmp_path / "model.onnx"))
    trunk = report.layers[-1].maps[5].producers
    assert trunk == (Producer("stem", 5), Producer("conv2", 5), Producer("conv4", 5))


def test_maps_of_inputs_and_of_constants_have_no_producers_but_a_reason(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 4, 4] x, float[1, 2, 4, 4] a) => (float[1, 2, 4, 4] y) {
            sum = Add(x, a)
            c = Conv(sum, w1)
            t = Concat<axis = 1>(k, c)
            y = Conv(t, w2)
        }""",
        {
            "w1": conv_weight(RNG, 3, 2, 1, 1),
            "w2": conv_weight(RNG, 2, 4, 1, 1),
            "k": RNG.standard_normal((1, 1, 4, 4)).astype(np.float32),
        },
    )
    first, second = trace(save(model, tmp_path / "model.onnx")).layers
    assert [entry.reason for entry in first.maps] == ["it is read from the graph input 'a', 'x'"] * 2
    assert second.maps[0] == MapTrace(0, (), "it is constant")
    assert second.maps[1] == MapTrace(1, (Producer("c", 0),), None)


def test_a_stored_tensor_is_constant_also_when_it_is_listed_among_the_inputs(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 3, opset_import: ["": 8]>
        g (float[1, 2, 4, 4] x, float[2, 1, 1] k, float[3, 2, 1, 1] w) => (float[1, 3, 4, 4] y) {
            scaled = Mul(x, k)
            y = Conv(scaled, w)
        }"""
    )
    for name, shape in (("k", (2, 1, 1)), ("w", (3, 2, 1, 1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(RNG.standard_normal(shape).astype("f4"), name))
    onnx.checker.check_model(model, full_check=True)
    (layer,) = trace(save(model, tmp_path / "model.onnx")).layers
    assert [entry.reason for entry in layer.maps] == ["it is read from the graph input 'x'"] * 2


def test_a_layer_whose_weight_cannot_be_read_is_listed_without_maps(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 4, 4] x, float[3, 2, 1, 1] w) => (float[1, 2, 4, 4] y) {
            [fed] t = Conv(x, w)
            [stored] y = Conv(t, w2)
        }""",
        {"w2": conv_weight(RNG, 2, 3, 1, 1)},
    )
    fed, stored = trace(save(model, tmp_path / "model.onnx")).layers
    assert fed == LayerTrace("fed", None, (), "its weight is not stored in the file: 'w' is an input of the graph")
    reason = "node 'fed' (Conv) cannot be traced: its weight is not stored in the file: 'w' is an input of the graph"
    assert stored.maps == tuple(MapTrace(c, (), reason) for c in range(3))


def test_a_matrix_product_behind_what_cannot_be_traced_says_that_and_not_that_its_weight_cannot_be_read(
    tmp_path: Path,
) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 1, 3] x) => (float[1, 1, 1, 4] y) {
            [mixes] t = LSTM<hidden_size = 2>(x, a, r)
            [dense] y = MatMul(t, w)
        }""",
        {
            name: RNG.standard_normal(shape).astype("f4")
            for name, shape in {"a": (1, 8, 3), "r": (1, 8, 2), "w": (2, 4)}.items()
        },
    )
    path = save(model, tmp_path / "model.onnx")
    (dense,) = trace(path).layers
    assert (dense.weight, dense.maps) == ("w", ())
    assert dense.reason is not None
    assert dense.reason.startswith("the maps that it reads cannot be told apart: node 'mixes' (LSTM) cannot be traced")
    printed = io.StringIO()
    print_trace([dense], Console(file=printed, width=200))
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == ["dense", f"  {dense.reason}"]
    with pytest.raises(SelectionError, match="'dense' has no input maps to choose from: the maps that it reads"):
        trace(path, layer="dense", map_index=0)


def test_one_layer_and_one_map_can_be_asked_for(tmp_path: Path) -> None:
    path = save(models.chain(), tmp_path / "model.onnx")
    (layer,) = trace(path, layer="conv3").layers
    assert layer == trace(path).layers[2]
    (layer,) = trace(path, layer="conv3", map_index=4).layers
    path_of_map = (Step("a2", "LeakyRelu", (), (Step("conv2", "Conv", (4,), ()),)),)
    assert layer.maps == (MapTrace(4, (Producer("conv2", 4),), None, path_of_map),)


def test_the_path_of_a_map_shows_every_way_to_its_producers_and_no_other(tmp_path: Path) -> None:
    report = trace(save(models.dense(), tmp_path / "model.onnx"), layer="y", map_index=3)
    (entry,) = report.layers[0].maps
    steps, ends = list(entry.path), set()
    while steps:
        step = steps.pop()
        steps += step.sources
        ends |= {Producer(step.node, m) for m in step.filters}
    assert ends == set(entry.producers)


@pytest.mark.parametrize(
    ("layer", "map_index", "message"),
    [
        ("conv9", None, "the model has no layer 'conv9'; its layers are 'conv1', 'conv2', 'conv3', 'conv4'"),
        ("conv3", 6, "expected a map in 0 to 5, the input maps of 'conv3'; got 6"),
        ("conv3", -1, "expected a map in 0 to 5, the input maps of 'conv3'; got -1"),
    ],
)
def test_a_layer_or_map_that_is_not_there_is_refused(
    layer: str, map_index: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SelectionError, match=message):
        trace(save(models.chain(), tmp_path / "model.onnx"), layer=layer, map_index=map_index)


def test_a_model_without_layers_is_refused(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }""",
        {},
    )
    with pytest.raises(ModelFileError, match="has no layer to adapt: expected at least one Conv"):
        trace(save(model, tmp_path / "model.onnx"))
