"""Small networks of every kind in which filters are reinitialised, each with filters to drop.

Their activations hand on something of everything (LeakyRelu, PRelu), so that a gradient of 0 means that none can arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from tests.support.models import with_constant_nodes
from tests.support.quantized_models import Kind, quantized
from tests.support.training_models import text_model

Filters = dict[str, list[int]]


@dataclass(frozen=True)
class Topology:
    """A network, and filters to drop: all of them can be reinitialised."""

    build: Callable[[], onnx.ModelProto]
    filters: Filters
    trains: bool = True  # whether the gradient test looks at it


def batch_norms() -> onnx.ModelProto:
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv<pads = [1,1,1,1]>(x, w1, b1) an = BatchNormalization(a, s1, o1, m1, v1) ar = LeakyRelu(an)
            b = Conv<pads = [1,1,1,1]>(ar, w2) bn = BatchNormalization<epsilon = 0.001>(b, s2, o2, m2, v2) br = PRelu(bn, slope)
            y = Conv<pads = [1,1,1,1]>(br, w3, b3)
        }""",
        w1=(6, 2, 3, 3), b1=(6,), s1=(6,), o1=(6,), m1=(6,), v1=(6,), w2=(5, 6, 3, 3), s2=(5,), o2=(5,), m2=(5,), v2=(5,),
        slope=(5, 1, 1), w3=(3, 5, 3, 3), b3=(3,),
    )  # fmt: skip


def arithmetic_norms() -> onnx.ModelProto:
    """Norms written as Sub, Div, Mul and Add."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv<pads = [1,1,1,1]>(x, w1)
            ac = Sub(a, mean) ad = Div(ac, deviation) am = Mul(scale, ad) ao = Add(am, offset) ar = LeakyRelu(ao)
            b = Conv(ar, w2, b2) br = LeakyRelu(b)
            y = Conv(br, w3)
        }""",
        w1=(6, 2, 3, 3), mean=(1, 6, 1, 1), deviation=np.linspace(0.5, 2, 6, dtype=np.float32).reshape(6, 1, 1),
        scale=(1, 6, 1, 1), offset=(6, 1, 1), w2=(4, 6, 1, 1), b2=(4,), w3=(3, 4, 1, 1),
    )  # fmt: skip


def computed_norms() -> onnx.ModelProto:
    """A norm whose root the graph computes, over maps of which two have hardly any variance."""
    variance = np.array([1, 1e-12, 2, 0.5, 1e-12, 1.5], np.float32).reshape(6, 1, 1)
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) <float eps = {0.00001}> {
            a = Conv<pads = [1,1,1,1]>(x, w1)
            e = Add(var, eps) root = Sqrt(e)
            ac = Sub(a, mean) ad = Div(ac, root) am = Mul(ad, scale) ao = Add(am, offset) ar = LeakyRelu(ao)
            y = Conv(ar, w2)
        }""",
        w1=(6, 2, 3, 3), mean=(6, 1, 1), var=variance, scale=(6, 1, 1), offset=(6, 1, 1), w2=(3, 6, 1, 1),
    )  # fmt: skip


def residual() -> onnx.ModelProto:
    """Map 1 of the trunk is made by filters of two layers, and has three readers."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            s = Conv<pads = [1,1,1,1]>(x, w0, b0)
            a = Conv<pads = [1,1,1,1]>(s, w1) ar = LeakyRelu(a)
            b = Conv(ar, w2, b2)
            t = Add(s, b) tn = BatchNormalization(t, scale, offset, mean, var) tr = LeakyRelu(tn)
            c = Conv<pads = [1,1,1,1]>(tr, w3) cr = LeakyRelu(c)
            u = Concat<axis = 1>(t, cr)
            y = Conv(u, w4)
        }""",
        w0=(5, 2, 3, 3), b0=(5,), w1=(6, 5, 3, 3), w2=(5, 6, 1, 1), b2=(5,), scale=(5,), offset=(5,), mean=(5,), var=(5,),
        w3=(4, 5, 3, 3), w4=(3, 9, 1, 1),
    )  # fmt: skip


def concat() -> onnx.ModelProto:
    """Every layer reads all earlier ones, and the input; one norm spans maps of several layers and of the input."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv<pads = [1,1,1,1]>(x, w1, b1) ar = LeakyRelu(a)
            j = Concat<axis = 1>(x, ar) b = Conv<pads = [1,1,1,1]>(j, w2) br = LeakyRelu(b)
            k = Concat<axis = -3>(br, x, ar) n = BatchNormalization(k, scale, offset, mean, var) r = LeakyRelu(n)
            y = Conv<pads = [1,1,1,1]>(r, w3)
        }""",
        w1=(4, 2, 3, 3), b1=(4,), w2=(5, 6, 3, 3), scale=(11,), offset=(11,), mean=(11,), var=(11,), w3=(3, 11, 3, 3),
    )  # fmt: skip


def grouped() -> onnx.ModelProto:
    return text_model(
        """g (float[N,4,H,W] x) => (float[N,3,H,W] y) {
            a = Conv<pads = [1,1,1,1], group = 2>(x, w1, b1) ar = LeakyRelu(a)
            b = Conv<pads = [1,1,1,1], group = 3>(ar, w2) br = LeakyRelu(b)
            y = Conv(br, w3)
        }""",
        w1=(6, 2, 3, 3), b1=(6,), w2=(9, 2, 3, 3), w3=(3, 9, 1, 1),
    )  # fmt: skip


def depthwise() -> onnx.ModelProto:
    """Reinitialised filters behind reinitialised filters that they alone read, once and twice."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1, b1) an = BatchNormalization(a, s1, o1, m1, v1) ar = LeakyRelu(an)
            b = Conv<pads = [1,1,1,1], group = 6>(ar, w2) bn = BatchNormalization(b, s2, o2, m2, v2) br = LeakyRelu(bn)
            c = Conv<pads = [1,1,1,1], group = 6>(br, w3, b3) cr = LeakyRelu(c)
            y = Conv(cr, w4)
        }""",
        w1=(6, 2, 1, 1), b1=(6,), s1=(6,), o1=(6,), m1=(6,), v1=(6,), w2=(6, 1, 3, 3), s2=(6,), o2=(6,), m2=(6,), v2=(6,),
        w3=(12, 1, 3, 3), b3=(12,), w4=(3, 12, 1, 1),
    )  # fmt: skip


def conv_transpose() -> onnx.ModelProto:
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H2,W2] y) {
            a = Conv<strides = [2,2]>(x, w1, b1) ar = LeakyRelu(a)
            b = ConvTranspose<strides = [2,2], group = 2>(ar, w2, b2) bn = BatchNormalization(b, s2, o2, m2, v2)
            br = LeakyRelu(bn)
            c = ConvTranspose(br, w3) cr = LeakyRelu(c)
            y = Conv(cr, w4)
        }""",
        w1=(6, 2, 2, 2), b1=(6,), w2=(6, 3, 2, 2), b2=(6,), s2=(6,), o2=(6,), m2=(6,), v2=(6,), w3=(6, 5, 2, 2),
        w4=(3, 5, 1, 1),
    )  # fmt: skip


def matrix_products() -> onnx.ModelProto:
    """A Gemm that reads six elements of each map, and a MatMul."""
    return text_model(
        """g (float[N,2,6,5] x) => (float[N,3] y) {
            a = Conv<strides = [2,2]>(x, w1, b1) ar = LeakyRelu(a)
            f = Flatten(ar)
            h = Gemm<transB = 1>(f, w2, b2) hr = LeakyRelu(h)
            m = MatMul(hr, w3) ma = Add(m, b3) mr = LeakyRelu(ma)
            y = Gemm(mr, w4, b4)
        }""",
        w1=(4, 2, 2, 2), b1=(4,), w2=(7, 24), b2=(7,), w3=(7, 6), b3=(6,), w4=(6, 3), b4=(3,),
    )  # fmt: skip


def stored_otherwise() -> onnx.ModelProto:
    """Weights as HWIO behind Transpose, biases behind Reshape, float16 behind Cast."""
    rng = np.random.default_rng(4)
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            w1 = Transpose<perm = [3,2,0,1]>(q1) w2 = Cast<to = 1>(q2)
            a = Conv<pads = [1,1,1,1]>(x, w1, b1) ar = LeakyRelu(a)
            b = Conv<pads = [1,1,1,1]>(ar, w2) br = LeakyRelu(b)
            y = Conv(br, w3)
        }""",
        q1=(3, 3, 2, 5), b1=(5,), q2=(rng.standard_normal((4, 5, 3, 3)) / 7).astype(np.float16), w3=(3, 4, 1, 1),
    )  # fmt: skip


def volumes() -> onnx.ModelProto:
    return text_model(
        """g (float[N,1,6,5,7] x) => (float[N,2,6,5,7] y) {
            a = Conv<pads = [1,1,1,1,1,1]>(x, w1, b1) an = BatchNormalization(a, s1, o1, m1, v1) ar = LeakyRelu(an)
            y = Conv<pads = [1,1,1,1,1,1]>(ar, w2)
        }""",
        w1=(5, 1, 3, 3, 3), b1=(5,), s1=(5,), o1=(5,), m1=(5,), v1=(5,), w2=(2, 5, 3, 3, 3),
    )  # fmt: skip


TOPOLOGIES: dict[str, Topology] = {
    "batch norms": Topology(batch_norms, {"w1": [1, 4], "w2": [0, 3]}),
    "norms in arithmetic": Topology(arithmetic_norms, {"w1": [0, 5], "w2": [2]}),
    "norms with computed roots": Topology(computed_norms, {"w1": [1, 4]}),
    "residual": Topology(residual, {"w0": [1], "w1": [0, 5], "w2": [1], "w3": [2]}),
    "concat": Topology(concat, {"w1": [0, 2], "w2": [1, 4]}),
    "grouped": Topology(grouped, {"w1": [1, 3], "w2": [0, 4, 5, 8]}),
    "depthwise": Topology(depthwise, {"w1": [1, 4], "w2": [1, 4], "w3": [2, 3, 8, 9]}),
    "transposed convolutions": Topology(conv_transpose, {"w1": [1, 5], "w2": [0, 3, 4], "w3": [2]}),
    "matrix products": Topology(matrix_products, {"w1": [1], "w2": [0, 4], "w3": [3, 5]}),
    "constant nodes": Topology(lambda: with_constant_nodes(batch_norms()), {"w1": [1, 4], "w2": [0, 3]}),
    "stored otherwise": Topology(stored_otherwise, {"q1": [1, 4], "q2": [0]}),
    "volumes": Topology(volumes, {"w1": [1, 3]}),
    "integer weights": Topology(
        lambda: quantized(Kind(activations=np.int8)), {"a.w": [1, 4], "c.w": [0]}, trains=False
    ),
}
