"""Damage to models, seeded: whatever is done to attributes, tensors and names, a command answers or says what is wrong."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Optional

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.fuzzing import proto_fuzz
from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.errors import TgdonnxError


def geometry() -> onnx.ModelProto:
    """Operators whose attributes say where things go."""
    return text_model(
        """g (float[N,2,8,6] x) => (float[N,3,A,B] y) {
        a = Conv <pads=[1,1,1,1], strides=[1,1], dilations=[1,1], group=1, auto_pad="NOTSET"> (x, w1, b1)
        n = BatchNormalization <epsilon=0.001, momentum=0.9> (a, s, o, m, v)
        r = LeakyRelu <alpha=0.1> (n)
        c = Cast <to=1> (r)
        t = Transpose <perm=[0,1,3,2]> (c)
        t2 = Transpose <perm=[0,1,3,2]> (t)
        k = Concat <axis=1> (t2, r)
        sp, sq = Split <axis=1> (k, parts)
        g = Gather <axis=1> (sp, idx)
        p = MaxPool <kernel_shape=[2,2], strides=[2,2], ceil_mode=0> (sq)
        ap = AveragePool <kernel_shape=[2,2], strides=[2,2], count_include_pad=1> (g)
        j = Concat <axis=1> (p, ap)
        u = Resize <mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"> (j, roi, sc)
        q = ReduceMean <axes=[1], keepdims=1> (u)
        l = Mul (u, q)
        f = Softmax <axis=1> (l)
        d = ConvTranspose <strides=[1,1], pads=[1,1,1,1], output_padding=[0,0]> (f, w2)
        e = Pad <mode="reflect"> (d, pd)
        z = Slice (e, st, en, ax, stp)
        h = Conv <kernel_shape=[1,1], strides=[2,2]> (z, w3)
        y = Clip (h, lo, hi) }""",
        w1=(4, 2, 3, 3),
        **dict.fromkeys(("b1", "s", "o", "m", "v"), (4,)),
        parts=np.array([3, 5]),
        idx=np.array([2, 0, 1]),
        roi=np.zeros(0, np.float32),
        sc=np.array([1, 1, 2, 2], np.float32),
        w2=(8, 5, 3, 3),
        pd=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        st=np.array([1, 1]),
        en=np.array([9, 9]),
        ax=np.array([2, 3]),
        stp=np.array([1, 1]),
        w3=(3, 5, 1, 1),
        lo=np.array(-5, np.float32),
        hi=np.array(5, np.float32),
    )


def lowered() -> onnx.ModelProto:
    """Operators that are lowered for training."""
    return text_model(
        """g (float[N,2,8,6] x) => (float[N,3] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1)
        i = InstanceNormalization <epsilon=0.001> (a, s, o)
        e = Elu <alpha=0.5> (i)
        dts = DepthToSpace <blocksize=2, mode="DCR"> (e)
        sd = SpaceToDepth <blocksize=2> (dts)
        l = LRN <size=3, alpha=0.1, beta=0.7, bias=1.0> (sd)
        pr = PRelu (l, sl)
        hs = HardSigmoid <alpha=0.2, beta=0.5> (pr)
        ln = LayerNormalization <axis=-1> (hs, lw)
        tk, ti = TopK <axis=1, largest=1, sorted=1> (ln, kk)
        cv = Conv <group=2> (tk, w2)
        gap = GlobalAveragePool (cv)
        fl = Flatten <axis=1> (gap)
        g1 = Gemm <transB=1, alpha=1.0, beta=1.0> (fl, gw, gb)
        rs = Reshape <allowzero=0> (g1, shp)
        un = Unsqueeze (rs, ax)
        sq = Squeeze (un, ax)
        y = Add (sq, gb) }""",
        w1=(4, 2, 3, 3),
        s=(4,),
        o=(4,),
        sl=(4, 1, 1),
        lw=(6,),
        kk=np.array([4]),
        w2=(4, 2, 3, 3),
        gw=(3, 4),
        gb=(3,),
        shp=np.array([-1, 3]),
        ax=np.array([1]),
    )


def branching() -> onnx.ModelProto:
    """Branches, computed shapes, integers that stand for numbers."""
    return text_model(
        """g (float[N,2,8,6] x, float[N,1,1,1] n) => (float[N,3,8,6] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1)
        cond = Constant <value = bool {1}> ()
        shp = Shape <start=0> (a)
        rr = ConstantOfShape <value = float[1] {2.0}> (shp)
        ad = Add (a, rr)
        ad2 = Mul (ad, n)
        i = If (cond) <then_branch = tg () => (float[N,4,8,6] th) { th = Relu (ad2) },
                       else_branch = eg () => (float[N,4,8,6] el) { el = Neg (ad2) }>
        ex = Expand (i, shp)
        tl = Tile (ex, rep)
        w = Where (cond, tl, ex)
        ql = QuantizeLinear <axis=1> (w, qs, qz)
        dq = DequantizeLinear <axis=1> (ql, qs, qz)
        es = Einsum <equation="nchw,cd->ndhw"> (dq, em)
        y = Conv <auto_pad="SAME_UPPER"> (es, w3) }""",
        w1=(4, 2, 3, 3),
        rep=np.array([1, 1, 1, 1]),
        qs=np.full(4, 0.1, np.float32),
        qz=np.zeros(4, np.int8),
        em=(4, 4),
        w3=(3, 4, 3, 3),
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "geometry": geometry,
    "lowered": lowered,
    "branching": branching,
    "grouped": models.grouped,
    "constant nodes": models.constant_nodes,
}


@contextmanager
def ending_within(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: Optional[FrameType]) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answers(path: Path, what: str) -> None:
    """Runs what opens a model; anything but an answer or an error of ours fails."""
    masked, artifacts = path.with_name("masked.onnx"), path.with_name("artifacts")
    calls: dict[str, Callable[[], object]] = {
        "inspect": lambda: tgdonnx.inspect(path),
        "trace": lambda: tgdonnx.trace(path),
        "check": lambda: tgdonnx.check(path),
        "mask": lambda: tgdonnx.mask(path, masked, tgdonnx.AllLayers(), overwrite=True),
        "build": lambda: tgdonnx.build(masked, artifacts, overwrite=True),
    }
    for name, call in calls.items():
        try:
            with warnings.catch_warnings(), ending_within(120):
                warnings.simplefilter("ignore")  # of libraries, on numbers that are not finite
                call()
        except TgdonnxError:
            if name == "mask":
                return
        except Exception as error:
            raise AssertionError(f"{name} of {what}: {type(error).__name__}: {str(error)[:200]}") from error


@pytest.mark.parametrize("network", NETWORKS)
def test_a_damaged_model_is_answered_or_refused_with_a_sentence(network: str, tmp_path: Path) -> None:
    model = NETWORKS[network]()
    for damage in proto_fuzz.sample(model, 12, seed=7):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto_fuzz.damaged(model, damage).SerializeToString())
        answers(path, damage.what)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("network", NETWORKS)
def test_many_damaged_models_are_answered_or_refused_with_a_sentence(network: str, seed: int, tmp_path: Path) -> None:
    model = NETWORKS[network]()
    for damage in proto_fuzz.sample(model, 100, seed):
        path = tmp_path / "model.onnx"
        path.write_bytes(proto_fuzz.damaged(model, damage).SerializeToString())
        answers(path, damage.what)
