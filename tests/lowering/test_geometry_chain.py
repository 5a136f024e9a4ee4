"""A decoder of all of them: its gradient, against central differences of the ONNX reference implementation in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.lowering.geometry_check import Array, gradients, relative_error
from tests.lowering.graphs import run
from tgdonnx.lowering.conv_transpose import LowerConvTranspose
from tgdonnx.lowering.einsum import LowerEinsum
from tgdonnx.lowering.grid_sample import LowerGridSample
from tgdonnx.lowering.resize import LowerResize

PASSES = (LowerConvTranspose(), LowerResize(), LowerEinsum(), LowerGridSample())

DECODER = """g ({x}, float[6, 2, 3, 3] w1, float[6, 8, 4, 4] w2, float[8] b2, float[2, 3] mix) => (float[N, 3, h, v] y) {{
    a = Conv<pads = [1, 1, 1, 1]>(x, w1)
    s = Sigmoid(a)
    d = SpaceToDepth<blocksize = 2>(s)
    part = Slice(d, zero, six, one)
    t = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(part, w2, b2)
    u = Tanh(t)
    r = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(u, , scales)
    n = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(r, , twice)
    p = DepthToSpace<blocksize = 2, mode = "CRD">(n)
    m = Einsum<equation = "nchw,cm->nmhw">(p, mix)
    y = Sigmoid(m)
}}"""
WEIGHTS = {"w1": (6, 2, 3, 3), "w2": (6, 8, 4, 4), "b2": (8,), "mix": (2, 3)}


def decoder(x: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{DECODER.format(x=x)}')
    constants = {
        "zero": np.array([0]),
        "six": np.array([6]),
        "one": np.array([1]),
        "scales": np.array([1, 1, 1.5, 2], np.float32),
        "twice": np.array([1, 1, 2, 2], np.float32),
    }
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    assert [lowering(copy).modified for lowering in PASSES] == [True, True, True, False]
    proto = ir.to_proto(copy)
    onnx.checker.check_model(proto, full_check=True)
    return proto


@pytest.mark.parametrize("x", ["float[2, 2, 4, 6] x", "float[N, 2, H, W] x"])
def test_a_decoder_has_the_gradient_of_the_original(x: str) -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in WEIGHTS.items()}
    wide: dict[str, Array] = {"x": rng.normal(size=(2, 2, 4, 6)), **weights}
    feeds = {name: array.astype(np.float32) for name, array in wide.items()}
    wide = {name: array.astype(np.float64) for name, array in feeds.items()}
    model = decoder(x)
    lower = lowered(model)
    expected = run(model, feeds)
    assert relative_error(run(lower, feeds), expected) <= 2e-6
    target = rng.normal(size=expected.shape).astype(np.float32)
    found = gradients(lower, feeds, target, feeds)
    reference = ReferenceEvaluator(model)
    assert relative_error(expected, reference.run(None, wide)[0]) <= 1e-6
    for name, gradient in found.items():
        for _ in range(3):
            direction = rng.normal(size=gradient.shape)
            up, down = (
                np.sum(target * reference.run(None, {**wide, name: wide[name] + step * direction})[0])
                for step in (1e-5, -1e-5)
            )
            slope = np.sum(gradient * direction)
            assert abs(slope - (up - down) / 2e-5) <= 1e-5 * np.linalg.norm(gradient) * np.linalg.norm(direction), name
