"""What nodes and values are called: told apart, and refused where nothing can be told by it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.support import models
from tests.support.models import conv_weight, parse, save
from tgdonnx.errors import ModelFileError
from tgdonnx.layers import Network, open_network

RNG = np.random.default_rng(7)


def opened(model: onnx.ModelProto, directory: Path) -> Network:
    return open_network(save(model, directory / "model.onnx"))


def test_names_in_both_branches_of_an_if_are_told_apart(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[n, c, h, w] y) <bool yes = {1}> {
            t = Conv(x, w)
            y = If<then_branch = p () => (float[n, c, h, w] u) { u = Conv(t, v) },
                   else_branch = q () => (float[n, c, h, w] u) { u = Conv(t, v2) }>(yes)
        }""",
        {"w": conv_weight(RNG, 3, 2, 1, 1), "v": conv_weight(RNG, 3, 3, 1, 1), "v2": conv_weight(RNG, 3, 3, 1, 1)},
    )
    network = opened(model, tmp_path)
    assert [(layer.name, layer.weight.name) for layer in network.layers if layer.weight] == [
        ("t", "w"),
        ("u", "v"),
        ("u#2", "v2"),
    ]
    assert len(set(network.node_names.values())) == len(network.node_names) == 4


def test_a_node_without_a_name_goes_by_its_first_output(tmp_path: Path) -> None:
    network = opened(models.dense(), tmp_path)
    assert list(network.node_names.values()) == ["t1", "a1", "c1", "t2", "a2", "c2", "n2", "a3", "t3", "y"]


def test_names_that_several_nodes_have_give_way_to_outputs(tmp_path: Path) -> None:
    model = models.chain()
    for node in model.graph.node:
        node.name = "conv" if node.op_type == "Conv" else node.name
    model.graph.node[2].name = "conv2"
    network = opened(model, tmp_path)
    assert [layer.name for layer in network.layers] == ["t1", "conv2", "t3", "y"]
    assert len(set(network.node_names.values())) == len(model.graph.node)


def test_names_are_unique_also_when_a_node_is_called_like_the_output_of_another(tmp_path: Path) -> None:
    model = models.dense()  # nodes without names
    model.graph.node[0].name = "t2"  # makes t1
    network = opened(model, tmp_path)
    assert len(set(network.node_names.values())) == len(model.graph.node)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            "no layer",
            "no layer to adapt: expected at least one Conv, ConvTranspose, Gemm or MatMul with weights in the file",
        ),
        ("ConvInteger", "with weights in the file, found 1 ConvInteger, which compute with whole numbers"),
        ("QLinearConv", "quantised with QuantizeLinear and DequantizeLinear around Conv"),
        ("missing value", "reads 'nowhere', which nothing makes"),
        ("output without a name", "gives out '', which nothing makes"),
        ("cycle", "node 'a1' (Relu)"),
        ("value made twice", "uses the name 'a1' twice"),
        ("constant without a name", "makes a value without a name"),
        ("tensor stored twice", "stores 2 tensors under the name 'w1'; expected one"),
    ],
)
def test_a_graph_that_cannot_be_worked_with_is_refused(breakage: str, message: str, tmp_path: Path) -> None:
    model = models.chain()
    relu = model.graph.node[1]
    if breakage == "no layer":
        model = parse(
            '<ir_version: 8, opset_import: ["": 17]> g (float[1, 2] x) => (float[1, 2] y) { y = Relu(x) }', {}
        )
    elif breakage == "ConvInteger":
        model = parse(
            """<ir_version: 8, opset_import: ["": 17]> g (uint8[1, 2, 4] x) => (int32[1, 3, 4] y)
            { y = ConvInteger(x, w) }""",
            {"w": np.ones((3, 2, 1), np.int8)},
        )
    elif breakage == "QLinearConv":
        model = parse(
            """<ir_version: 8, opset_import: ["": 17]> g (uint8[1, 2, 4] x) => (uint8[1, 3, 4] y)
            <float s = {0.1}, uint8 z = {1}> { y = QLinearConv(x, s, z, w, s, z, s, z) }""",
            {"w": np.ones((3, 2, 1), np.uint8)},
        )
    elif breakage == "constant without a name":
        model.graph.node.insert(0, helper.make_node("Constant", [], [""], value_float=1.0))
    elif breakage == "missing value":
        relu.input[0] = "nowhere"
    elif breakage == "output without a name":
        model.graph.output[0].name = ""
    elif breakage == "cycle":
        relu.input[0] = "a2"
    elif breakage == "value made twice":
        model.graph.node.append(relu)
    else:
        model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(ModelFileError, match=re.escape(message)) as caught:
        opened(model, tmp_path)
    assert str(tmp_path / "model.onnx") in str(caught.value)
    if re.match("node '", str(caught.value)):
        assert str(caught.value).startswith(f"node {caught.value.node!r} ({caught.value.op_type}) of ")


def test_a_branch_may_make_a_value_of_the_name_that_its_node_gives_out(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 15]>
        agraph (float[1,2,4,4] x, bool c, float[3,2,1,1] w) => (float[1,3,4,4] y) {
            y = If (c) <then_branch = a () => (float[1,3,4,4] y) { y = Conv (x, w) },
                        else_branch = b () => (float[1,3,4,4] y) { z = Conv (x, w)  y = Neg (z) }>
        }
        """
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w"))
    del model.graph.input[2]
    onnx.save(model, tmp_path / "model.onnx")
    assert [layer.op_type for layer in open_network(tmp_path / "model.onnx").layers] == ["Conv", "Conv"]
