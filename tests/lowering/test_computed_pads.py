"""Pads that nodes compute from the size of the image that is padded, as TensorFlow pads, written by PyTorch."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.lowering.gradcheck import check_forward
from tests.support.training_models import text_model
from tgdonnx.artifacts.forward import forward_graph
from tgdonnx.errors import UntrainableError
from tgdonnx.layers import open_network
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.computed_pads import StoreKnownPads

SAME = """
    s{0} = Shape({1})
    n{0} = Slice(s{0}, two, four)
    m{0} = Sub(n{0}, one)
    o{0} = Div(m{0}, two)
    r{0} = Mul(o{0}, two)
    l{0} = Add(r{0}, three)
    t{0} = Sub(l{0}, n{0})
    b{0} = Div(t{0}, two)
    e{0} = Sub(t{0}, b{0})
    q{0} = Concat<axis = 0>(none, b{0}, none, e{0})
    p{0} = Pad<mode = "{2}">({1}, q{0})
"""
"""What pads to ceil(n / 2) windows of 3 at a stride of 2, in the middle, from the size n of each axis."""


def two_pads(height: str) -> onnx.ModelProto:
    """Two of them, the second of what the first and a Conv make of an image 5 wide."""
    nodes = (
        SAME.format(1, "x", "constant")
        + "h = Conv<strides = [2, 2]>(p1, w)"
        + SAME.format(2, "h", "edge")
        + "y = Conv<strides = [2, 2]>(p2, v)"
    )
    numbers = {"one": [1], "two": [2], "three": [3], "four": [4], "none": [0, 0]}
    return text_model(
        f"g (float[n,2,{height},5] x) => (float[n,3,h,w1] y) {{ {nodes} }}",
        w=(4, 2, 3, 3),
        v=(3, 4, 3, 3),
        **{name: np.array(each) for name, each in numbers.items()},
    )


def test_the_pads_behind_others_are_known_once_those_are() -> None:
    model = ir.from_proto(two_pads("7"))
    for rounds in (1, 2):
        InferShapes()(model)
        assert StoreKnownPads()(model).modified, rounds
    assert not StoreKnownPads()(model).modified
    pads = [node.inputs[1] for node in model.graph if node.op_type == "Pad"]
    assert [value.const_value.numpy().tolist() for value in pads if value is not None and value.const_value] == [
        [0, 0, 1, 1, 0, 0, 1, 1],
        [0, 0, 0, 1, 0, 0, 1, 1],
    ]


def test_a_model_with_them_trains_in_front_of_them_at_any_number_of_samples() -> None:
    vendor = two_pads("7")
    lower = ir.to_proto(forward_graph(open_network(vendor), ["w"]).model)
    assert not {"Shape", "Div"} & {node.op_type for node in lower.graph.node}
    check_forward(vendor, lower, {"x": np.random.default_rng(0).normal(size=(2, 2, 7, 5)).astype(np.float32)})


def test_of_an_image_of_any_height_they_are_refused() -> None:
    with pytest.raises(UntrainableError, match=r"node 'P2' \(Pad\) computes its pads from its input; make its pads"):
        forward_graph(open_network(two_pads("height")), ["w"])
