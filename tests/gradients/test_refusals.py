"""Where a gradient would have to pass an input that its rule does not know, the node is refused: nothing is dropped."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from tests.gradients.checking import run
from tests.support.training_models import text_model
from tgdonnx.errors import UntrainableError
from tgdonnx.gradients import differentiate

NODES = {
    "divisor of Mod": ("m = ReduceMax<keepdims = 0>(a) z = Mod<fmod = 1>(x, m)", "'B'"),
    "limit of Clip": ("m = ReduceMax<keepdims = 0>(a) z = Clip(x, , m)", "'max'"),
    "border of Pad": ("m = ReduceMax<keepdims = 0>(a) z = Pad(x, pads, m)", "'constant_value'"),
    "mean of a norm": (
        "m = ReduceMean<axes = [0], keepdims = 0>(a) z = BatchNormalization(x, s, s, m, s)",
        "'input_mean'",
    ),
    "values of OneHot": (
        "m = ReduceMax<keepdims = 0>(a) v = Unsqueeze(m, zero) n = Concat<axis = 0>(v, v) z = OneHot(i, two, n)",
        "OneHot",
    ),
    "probabilities of a loss": (
        "l, p = SoftmaxCrossEntropyLoss(a, i) m = ReduceSum<keepdims = 0>(p) z = Add(l, m)",
        "gives 'p'",
    ),
    "Hardmax": ("z = Hardmax(a)", "Hardmax"),
    "whole numbers by scale": (
        "q, by, zp = DynamicQuantizeLinear(a) r = Cast<to = 1>(q) z = Mul(r, by)",
        "DynamicQuantizeLinear",
    ),
}


def differentiated(nodes: str) -> tuple[ir.Model, ir.Value]:
    model = ir.from_proto(
        text_model(
            f"g (float[2, 3] x) => (float y) {{ a = Mul(x, w) {nodes} y = ReduceSum<keepdims = 0>(z) }}",
            opset=17,
            w=np.array([1, -2, 0.5], np.float32),
            s=np.ones(3, np.float32),
            pads=np.array([0, 1, 0, 0]),
            zero=np.array([0]),
            three=np.array([3]),
            i=np.array([1, 0]),
            two=np.array(2),
        )
    )
    ShapeInferencePass()(model)
    (gradient,) = differentiate(model, model.graph.outputs[0], [model.graph.initializers["w"]])
    return model, gradient


@pytest.mark.parametrize("name", NODES)
def test_a_gradient_that_no_rule_knows_is_refused(name: str) -> None:
    nodes, what = NODES[name]
    with pytest.raises(UntrainableError, match="has no gradient") as refused:
        differentiated(nodes)
    assert what in str(refused.value)
    assert "`last`" in str(refused.value)


@pytest.mark.parametrize(
    ("nodes", "share"),
    [
        ("k = Cast<to = 7>(a) r = Cast<to = 1>(k) z = Add(r, a)", 1),
        ("t, places = TopK(a, three) r = Cast<to = 1>(places) z = Add(r, t)", 1),
        ("t, places = TopK(a, three) r = Cast<to = 1>(places) z = Mul(r, x)", 0),
        ("f = Floor(a) z = Mul(f, x)", 0),
    ],
)
def test_whole_numbers_and_places_let_nothing_through(nodes: str, share: float) -> None:
    model, gradient = differentiated(nodes)
    model.graph.outputs[:] = [gradient]
    x = np.array([[1, 2, 3], [-4, 5, 6.5]], np.float32)
    np.testing.assert_array_equal(run(ir.to_proto(model), {"x": x})[0], share * x.sum(axis=0))
