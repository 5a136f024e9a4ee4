"""Networks whose layers take side paths, and what is asked of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import tgdonnx
from tests.blending.runs import invented
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx import AllLayers

NORMED = "normed"
NETWORKS = {
    "conv": text_model(
        """g (float[N,3,H,W] x) => (float[N,4,H,W] y)
        { a = Conv <pads=[1,1,1,1]> (x, w, b)  r = Relu(a)  y = Conv(r, v) }""",
        w=(5, 3, 3, 3),
        b=(5,),
        v=(4, 5, 1, 1),
    ),
    NORMED: text_model(
        """g (float[N,3,H,W] x) => (float[N,4,H,W] y)
        { a = Conv <pads=[1,1,1,1]> (x, w)  n = BatchNormalization(a, s, o, m, q)  r = Relu(n)
          c = Conv <pads=[1,1,1,1]> (r, v)  y = Add(c, e) }""",
        w=(5, 3, 3, 3),
        s=(5,),
        o=(5,),
        m=(5,),
        q=(5,),
        v=(4, 5, 3, 3),
        e=(4, 1, 1),
    ),
    "groups": text_model(
        """g (float[N,4,H,W] x) => (float[N,6,K,L] y)
        { a = Conv <group=2, strides=[2,1], pads=[1,0,0,1]> (x, w)  r = Relu(a)
          d = Conv <group=6, auto_pad="SAME_UPPER"> (r, v)
          y = ConvTranspose <group=3, strides=[2,1], output_padding=[1,0]> (d, u, b) }""",
        w=(6, 2, 3, 2),
        v=(6, 1, 2, 2),
        u=(6, 2, 3, 3),
        b=(6,),
    ),
    "matrices": text_model(
        """g (float[N,3,8] x) => (float[N,2] y)
        { a = Conv <strides=[2]> (x, w)  r = Relu(a)  f = Flatten(r)  h = Gemm <transB=1, alpha=0.5> (f, m, b)
          t = Tanh(h)  z = MatMul(t, k)  y = Add(z, e) }""",
        w=(4, 3, 4),
        m=(5, 12),
        b=(5,),
        k=(5, 2),
        e=(2,),
    ),
    "volumes": text_model(
        """g (float[N,2,D,H,W] x) => (float[N,3,D,H,W] y) { y = Conv <pads=[1,1,1,1,1,1]> (x, w) }""", w=(3, 2, 3, 3, 3)
    ),
    "shared": text_model(
        """g (float[N,3,H,W] x) => (float[N,3,H,W] y)
        { a = Conv <pads=[1,1,1,1]> (x, w)  r = Relu(a)  y = Conv <pads=[1,1,1,1]> (r, w) }""",
        w=(3, 3, 3, 3),
    ),
    "old": text_model(
        "g (float[2,3,6,6] x) => (float[2,4,4,4] y) { y = Conv(x, w) }", opset=8, ir_version=3, w=(4, 3, 3, 3)
    ),
}
INPUTS = {"groups": (2, 4, 7, 6), "matrices": (2, 3, 8), "volumes": (2, 2, 4, 5, 3), "old": (2, 3, 6, 6)}
EVERYWHERE = AllLayers()


def input_of(name: str, seed: int = 0) -> Array:
    shape = INPUTS.get(name, (2, 3, 7, 6))
    return np.random.default_rng([seed, 3]).normal(size=shape).astype(np.float32)


def adapter(rank: int = 2, seed: int = 0) -> tgdonnx.MaskOptions:
    return tgdonnx.MaskOptions("adapter", adapter=tgdonnx.Adapter(rank, seed))


def tuned(model: onnx.ModelProto | Path, directory: Path, rank: int = 2) -> Path:
    """Artifacts of which every side path was moved at random."""
    return invented(model, directory, EVERYWHERE, adapter(rank))
