"""One or more cases for every operator that trains: as it is, lowered, or as part of what another is lowered to.

A case is what stands between two Convs: it reads ``a`` of shape [N, 4, H, W] and gives ``b``; or another graph altogether.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from tests.support.training_models import text_model


@dataclass(frozen=True)
class Case:
    """What an operator is tried in.

    Attributes:
        lines: nodes from ``a`` to ``b``, in ONNX's text.
        channels: of ``b``.
        opset: version of the default operator set.
        sizes: of H and W in the model; empty where they are open.
        tensors: initializers that the nodes read.
        straight: whether what it rounds passes gradients all the same, so that finite differences do not apply.
    """

    lines: str
    channels: int = 4
    opset: int = 18
    sizes: tuple[int, int] | None = None
    tensors: Mapping[str, Any] = field(default_factory=dict)
    straight: bool = False

    def model(self) -> onnx.ModelProto:
        """Returns the graph: a strided Conv, the nodes, and another Conv."""
        height, width = self.sizes or ("H", "W")
        return text_model(
            f"g (float[N, 3, {height}, {width}] x) => (float[N, 2, h, w] y) "
            f"{{ a = Conv<pads = [1, 1, 0, 0], strides = [1, 2]>(x, w1, b1)\n {self.lines}\n y = Conv(b, w2, b2) }}",
            opset=self.opset,
            w1=(4, 3, 2, 2),
            b1=(4,),
            w2=(2, self.channels, 1, 1),
            b2=(2,),
            **self.tensors,
        )


def between(
    lines: str, channels: int = 4, opset: int = 18, sizes: tuple[int, int] | None = None, **tensors: Any
) -> Case:
    return Case(lines, channels, opset, sizes, tensors)


def _reduced(op_type: str, opset: int) -> Case:
    if opset >= 18 or op_type == "ReduceSum":
        return between(f"p = Softplus(a)\n r = {op_type}(p, axes)\n b = Mul(a, r)", opset=opset, axes=np.array([2, 3]))
    return between(f"p = Softplus(a)\n r = {op_type}<axes = [2, 3]>(p)\n b = Mul(a, r)", opset=opset)


_UNARY = ("Abs", "Cos", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Relu")
_UNARY += ("Selu", "Celu", "Shrink", "Sigmoid", "Sin", "Softplus", "Softsign", "Tanh", "ThresholdedRelu")
_UNARY += ("Asinh", "Atan", "Cosh", "Sinh")
_WITHIN_ONE = ("Acos", "Asin", "Atanh", "Tan")
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMin", "ReduceSumSquare")
_REDUCTIONS += ("ReduceMean", "ReduceSum")
_INDEX = np.array([2, 0, 3, 1])


def _recurrent(op_type: str, outputs: str, gates: int) -> Case:
    """Over the six places of an image of 3 by 2, forwards and backwards."""
    return between(
        f"f = Reshape(a, flat)\n t = Transpose<perm = [2, 0, 1]>(f)\n "
        f'{outputs} = {op_type}<hidden_size = 3, direction = "bidirectional">(t, wx, wh, wb)\n '
        "u = Transpose<perm = [2, 1, 3, 0]>(states)\n b = Reshape(u, image)",
        channels=6,
        sizes=(3, 4),
        flat=np.array([0, 4, 6]),
        image=np.array([0, 6, 3, 2]),
        wx=(2, 3 * gates, 4),
        wh=(2, 3 * gates, 3),
        wb=(2, 6 * gates),
    )


CASES: dict[str, list[Case]] = {
    "LSTM": [_recurrent("LSTM", "states, last, cell", 4)],
    "GRU": [_recurrent("GRU", "states, last", 3)],
    **{op_type: [between(f"b = {op_type}(a)")] for op_type in _UNARY},
    **{op: [between(f"t = Tanh(a)\n s = Mul(t, k)\n b = {op}(s)", k=np.float32(0.9))] for op in _WITHIN_ONE},
    **{op_type: [_reduced(op_type, 13), _reduced(op_type, 18)] for op_type in _REDUCTIONS},
    **{op: [between(f"m = {op}(a, v)\n b = {op}(m, a)", v=(4, 1, 1))] for op in ("Add", "Mul", "Sub")},
    **{op: [between(f"d = Softplus(a)\n m = {op}(v, d)\n b = {op}(m, d)", v=(4, 1, 1))] for op in ("Div",)},
    **{op: [between(f"b = {op}(a, v, z)", v=(4, 1, 1), z=(1,))] for op in ("Max", "Min", "Mean", "Sum")},
    **{op: [between(f"s = {op}(a)\n b = Mul(a, s)")] for op in ("Ceil", "Floor", "Round", "Sign")},
    "Acosh": [between("p = Softplus(a)\n s = Add(p, k)\n b = Acosh(s)", k=np.float32(1.1))],
    "AveragePool": [
        between("b = AveragePool<kernel_shape = [2, 3], strides = [1, 2], pads = [0, 1, 1, 0]>(a)"),
        between("b = AveragePool<kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]>(a)", sizes=(7, 8)),
    ],
    "BatchNormalization": [
        between("b = BatchNormalization(a, s, o, m, v)", s=(4,), o=(4,), m=(4,), v=(4,)),
        between("r = Relu(a)\n b = BatchNormalization<epsilon = 0.1>(r, s, o, m, v)", s=(4,), o=(4,), m=(4,), v=(4,)),
    ],
    "Cast": [between("d = Cast<to = 11>(a)\n b = Cast<to = 1>(d)")],
    "CastLike": [between("b = CastLike(a, v)", v=(1,))],
    "Clip": [
        between("b = Clip(a, l, h)", l=np.float32(-0.4), h=np.float32(0.5)),
        between("b = Clip<min = -0.4, max = 0.5>(a)", opset=9),
    ],
    "Concat": [between("r = Relu(a)\n b = Concat<axis = 1>(a, r, a)", 12)],
    "Conv": [
        between("b = Conv<group = 2, pads = [1, 1, 1, 1]>(a, v, c)", 6, v=(6, 2, 3, 3), c=(6,)),
        between('b = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(a, v)', 5, v=(5, 4, 3, 3)),
        between(
            "e = Unsqueeze(a, t)\n f = Conv<group = 2>(e, v)\n b = Squeeze(f, t)", 6, t=np.array([2]), v=(6, 2, 1, 2, 2)
        ),
    ],
    "ConvTranspose": [
        between("b = ConvTranspose<strides = [2, 2]>(a, v, c)", 3, v=(4, 3, 2, 2), c=(3,)),
        between(
            "b = ConvTranspose<strides = [2, 1], pads = [1, 0, 0, 1], output_padding = [1, 0]>(a, v)", 3, v=(4, 3, 3, 2)
        ),
    ],
    "CumSum": [between("b = CumSum(a, n)", n=np.array(1)), between("b = CumSum<reverse = 1>(a, n)", n=np.array(-1))],
    "DepthToSpace": [
        between("b = DepthToSpace<blocksize = 2>(a)", 1),
        between('b = DepthToSpace<blocksize = 2, mode = "CRD">(a)', 1, sizes=(7, 8)),
    ],
    "DequantizeLinear": [
        Case(
            "q = QuantizeLinear(a, s, z)\n b = DequantizeLinear(q, s, z)",
            opset=19,
            tensors={"s": np.float32(0.05), "z": np.uint8(120)},
            straight=True,
        )
    ],
    "QuantizeLinear": [],
    "Dropout": [between("b = Dropout(a)"), between("b = Dropout<ratio = 0.3>(a)", opset=11)],
    "Einsum": [between('b = Einsum<equation = "nchw,cd->ndhw">(a, v)', 5, v=(4, 5))],
    "Expand": [between("r = ReduceMean<keepdims = 1, axes = [2, 3]>(a)\n s = Shape(a)\n b = Expand(r, s)", opset=17)],
    "Flatten": [
        between(
            "f = Flatten<axis = 2>(a)\n m = MatMul(f, v)\n u = Reshape(m, s)\n b = Mul(a, u)",
            sizes=(7, 8),
            v=(28, 1),
            s=np.array([-1, 4, 1, 1]),
        )
    ],
    "Gather": [between("b = Gather<axis = 1>(a, i)", 3, i=np.array([3, 0, 0]))],
    "GatherElements": [
        between(
            "b = GatherElements<axis = 0>(a, i)",
            i=np.array([2, 0, 1]).reshape(3, 1, 1, 1).repeat(4, 1).repeat(7, 2).repeat(4, 3),
        )
    ],
    "GatherND": [
        between(
            "t = Transpose<perm = [1, 0, 2, 3]>(a)\n g = GatherND(t, i)\n b = Transpose<perm = [1, 0, 2, 3]>(g)",
            3,
            i=np.array([[3], [0], [2]]),
        )
    ],
    "Gelu": [between("b = Gelu(a)", opset=20), between('b = Gelu<approximate = "tanh">(a)', opset=20)],
    "Gemm": [
        between(
            "f = ReduceMean<axes = [2, 3], keepdims = 0>(a)\n "
            "g = Gemm<transB = 1, alpha = 0.7, beta = 1.3>(f, v, c)\n u = Unsqueeze(g, s)\n "
            "b = Mul(a, u)",
            opset=17,
            v=(4, 4),
            c=(4,),
            s=np.array([2, 3]),
        ),
        between(
            "f = ReduceMean<axes = [2, 3], keepdims = 0>(a)\n g = Gemm(f, v)\n u = Unsqueeze(g, s)\n b = Mul(a, u)",
            opset=17,
            v=(4, 4),
            s=np.array([2, 3]),
        ),
    ],
    "GlobalAveragePool": [between("g = GlobalAveragePool(a)\n b = Mul(a, g)")],
    "GlobalLpPool": [between("g = GlobalLpPool(a)\n b = Mul(a, g)")],
    "GlobalMaxPool": [between("g = GlobalMaxPool(a)\n b = Mul(a, g)")],
    "GridSample": [
        between(
            "b = GridSample(a, i)",
            opset=16,
            i=np.random.default_rng(5).uniform(-1.2, 1.2, (3, 5, 4, 2)).astype(np.float32),
        ),
    ],
    "GroupNormalization": [
        between("b = GroupNormalization<num_groups = 2>(a, s, o)", opset=21, s=(4,), o=(4,)),
    ],
    "If": [
        between(
            "m = ReduceMax<keepdims = 0>(x)\n c = Greater(m, z)\n "
            "b = If(c) <then_branch = t () => (float[N, 4, h, w] p) { p = Sin(a) }, "
            "else_branch = e () => (float[N, 4, h, w] q) { q = Conv(a, v) }>",
            v=(4, 4, 1, 1),
            z=np.float32(bound),
        )
        for bound in (-100, 100)
    ],
    "InstanceNormalization": [between("b = InstanceNormalization<epsilon = 0.01>(a, s, o)", s=(4,), o=(4,))],
    "LRN": [between("b = LRN<size = 3, alpha = 0.3>(a)"), between("b = LRN<size = 2, alpha = 0.3>(a)")],
    "LayerNormalization": [
        between(
            "t = Transpose<perm = [0, 2, 3, 1]>(a)\n l = LayerNormalization(t, s, o)\n "
            "b = Transpose<perm = [0, 3, 1, 2]>(l)",
            s=(4,),
            o=(4,),
        ),
        between(
            "t = Transpose<perm = [0, 2, 3, 1]>(a)\n l = LayerNormalization<epsilon = 0.1>(t, s)\n "
            "b = Transpose<perm = [0, 3, 1, 2]>(l)",
            opset=17,
            s=(4,),
        ),
        between("b = LayerNormalization<axis = 1>(a, s, o)", sizes=(7, 8), s=(4, 7, 4), o=(4, 7, 4)),
        between("b = LayerNormalization<axis = -2, stash_type = 1>(a, s)", sizes=(7, 8), s=(7, 4)),
        between(
            "l, m, d = LayerNormalization<axis = 2>(a, s, o)\n k = Mul(m, d)\n b = Add(l, k)",
            sizes=(7, 8),
            s=(7, 4),
            o=(7, 4),
        ),
    ],
    "Log": [between("p = Softplus(a)\n b = Log(p)")],
    "LogSoftmax": [between("b = LogSoftmax<axis = 1>(a)"), between("b = LogSoftmax(a)", opset=11)],
    "LpNormalization": [
        between("b = LpNormalization<axis = 1>(a)"),
        between("b = LpNormalization<axis = 1, p = 1>(a)"),
    ],
    "MatMul": [
        between(
            "t = Transpose<perm = [0, 1, 3, 2]>(a)\n m = MatMul(a, t)\n s = Softmax<axis = -1>(m)\n b = MatMul(s, a)"
        ),
        between(
            "t = Transpose<perm = [0, 2, 3, 1]>(a)\n m = MatMul(t, v)\n b = Transpose<perm = [0, 3, 1, 2]>(m)",
            5,
            v=(4, 5),
        ),
    ],
    "MaxPool": [
        between("b = MaxPool<kernel_shape = [2, 3], strides = [1, 2], pads = [0, 1, 1, 0]>(a)"),
        between("b = MaxPool<kernel_shape = [2, 2], ceil_mode = 1, strides = [2, 2]>(a)", sizes=(7, 8)),
    ],
    "MeanVarianceNormalization": [
        between("b = MeanVarianceNormalization<axes = [0, 2, 3]>(a)"),
        between("b = MeanVarianceNormalization<axes = [1, 2]>(a)", opset=9),
    ],
    "Mod": [between("b = Mod<fmod = 1>(a, k)", k=np.float32(1.7))],
    "PRelu": [between("b = PRelu(a, s)", s=(4, 1, 1))],
    "Pad": [
        between("b = Pad(a, p)", p=np.array([0, 0, 1, 2, 0, 0, 0, 1])),
        between('b = Pad<mode = "reflect">(a, p)', p=np.array([0, 0, 1, 2, 0, 0, 0, 1])),
        between('b = Pad<mode = "edge">(a, p)', p=np.array([0, 0, 1, 2, 0, 0, 0, 1])),
    ],
    "Pow": [
        between("p = Softplus(a)\n b = Pow(p, e)", e=np.float32(1.7)),
        between("p = Softplus(a)\n b = Pow(e, p)", e=np.full((4, 1, 1), 1.3, np.float32)),
        between("p = Softplus(a)\n b = Pow(p, a)"),
    ],
    "RMSNormalization": [
        between(
            "t = Transpose<perm = [0, 2, 3, 1]>(a)\n l = RMSNormalization<epsilon = 0.1>(t, s)\n "
            "b = Transpose<perm = [0, 3, 1, 2]>(l)",
            opset=23,
            s=(4,),
        ),
        between("b = RMSNormalization<axis = 2>(a, s)", opset=23, sizes=(7, 8), s=(7, 4)),
    ],
    "Swish": [between("b = Swish(a)", opset=24), between("b = Swish<alpha = 1.7>(a)", opset=24)],
    "Reciprocal": [between("p = Softplus(a)\n b = Reciprocal(p)")],
    "ReduceProd": [between("p = Softplus(a)\n r = ReduceProd(p, n)\n b = Mul(a, r)", n=np.array([3]))],
    "Reshape": [between("r = Reshape(a, s)\n b = Relu(r)", 2, s=np.array([0, 2, -1, 1]))],
    "Resize": [
        between(
            'b = Resize<mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(a, , k)',
            k=np.array([1, 1, 2, 2], np.float32),
        ),
        between(
            'b = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel">(a, , k)',
            k=np.array([1, 1, 2, 1.5], np.float32),
        ),
        between(
            'b = Resize<mode = "cubic", coordinate_transformation_mode = "align_corners">(a, , , k)',
            sizes=(7, 8),
            k=np.array([3, 4, 5, 9]),
        ),
    ],
    "ScatterElements": [
        between("b = ScatterElements<axis = 1>(a, i, u)", i=np.array([2]).reshape(1, 1, 1, 1), u=(1, 1, 1, 1)),
        between(
            'b = ScatterElements<axis = 1, reduction = "add">(a, i, u)',
            i=np.array([2, 2]).reshape(1, 2, 1, 1),
            u=(1, 2, 1, 1),
        ),
    ],
    "ScatterND": [
        between(
            "t = Transpose<perm = [1, 0, 2, 3]>(a)\n r = Gather<axis = 0>(t, j)\n "
            "g = ScatterND(t, i, r)\n b = Transpose<perm = [1, 0, 2, 3]>(g)",
            i=np.array([[3], [0]]),
            j=np.array([1, 2]),
        )
    ],
    "Slice": [
        between(
            "b = Slice(a, s, e, j, p)",
            3,
            s=np.array([3, 1]),
            e=np.array([0, 100]),
            j=np.array([1, 2]),
            p=np.array([-1, 2]),
        ),
        between("b = Slice<starts = [1], ends = [3], axes = [1]>(a)", 2, opset=9),
    ],
    "Softmax": [between("b = Softmax<axis = 1>(a)"), between("b = Softmax(a)", opset=11)],
    "SpaceToDepth": [
        between(
            "p = Pad(a, q)\n b = SpaceToDepth<blocksize = 2>(p)", 16, sizes=(7, 8), q=np.array([0, 0, 0, 0, 0, 0, 1, 0])
        )
    ],
    "Split": [
        between("p, q = Split<axis = 1>(a, s)\n b = Concat<axis = 1>(q, p)", s=np.array([1, 3])),
        between("p, q = Split<axis = 1, split = [1, 3]>(a)\n b = Relu(q)", 3, opset=11),
    ],
    "Sqrt": [between("p = Softplus(a)\n b = Sqrt(p)")],
    "Squeeze": [
        between("u = Unsqueeze(a, t)\n r = Relu(u)\n b = Squeeze(r, t)", t=np.array([2])),
        between("u = Unsqueeze<axes = [2]>(a)\n r = Relu(u)\n b = Squeeze<axes = [2]>(r)", opset=11),
    ],
    "Tile": [between("b = Tile(a, r)", 8, r=np.array([1, 2, 1, 3]))],
    "TopK": [between("v, i = TopK<axis = 1>(a, k)\n b = Relu(v)", 2, k=np.array([2]))],
    "Transpose": [between("t = Transpose(a)\n r = Relu(t)\n u = Transpose(r)\n b = Transpose<perm = [0, 1, 3, 2]>(u)")],
    "Trilu": [between("b = Trilu<upper = 0>(a)")],
    "Unsqueeze": [
        between("u = Unsqueeze(a, t)\n s = Softplus(u)\n b = ReduceSum<keepdims = 0>(s, t)", t=np.array([1]))
    ],
    "Upsample": [
        between('b = Upsample<mode = "nearest">(a, k)', opset=9, k=np.array([1, 1, 2, 2], np.float32)),
        between('b = Upsample<mode = "linear", scales = [1.0, 1.0, 2.0, 2.0]>(a)', opset=7, sizes=(7, 8)),
    ],
    "Where": [
        between("c = Greater(a, z)\n b = Where(c, a, v)", z=np.float32(0.1), v=(4, 1, 1)),
        between("c = Greater(v, z)\n b = Where(c, a, v)", z=np.float32(0), v=(4, 1, 1)),
    ],
}

# As exporters write what has no operator of its own in their set; the runtime puts some of it together again.
_SPELLED = (
    "t = Transpose<perm = [0, 2, 3, 1]>(a)\n m = {mean}\n d = Sub(t, m)\n p = Pow(d, two)\n "
    "v = {variance}\n e = Add(v, eps)\n"
    "q = Sqrt(e)\n n = Div(d, q)\n k = Mul(n, s)\n l = Add(k, o)\n b = Transpose<perm = [0, 3, 1, 2]>(l)"
)
_NORM = {"two": np.float32(2), "eps": np.float32(1e-3), "s": (4,), "o": (4,)}
_ERF = {"r": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5)}
_HEADS = (
    "f = Reshape(a, flat)\n t = Transpose<perm = [0, 2, 1]>(f)\n q = MatMul(t, wq)\n "
    "k0 = MatMul(t, wk)\n u = MatMul(t, wv)\n"
    "k = Transpose<perm = [0, 2, 1]>(k0)\n s0 = MatMul(q, k)\n s = Mul(s0, c)\n "
    "p = Softmax<axis = -1>(s)\n m = MatMul(p, u)\n"
    "r = Add(m, t)\n n = LayerNormalization(r, g)\n back = Transpose<perm = [0, 2, 1]>(n)\n "
    "shape = Shape(a)\n b = Reshape(back, shape)"
)

PATTERNS: dict[str, Case] = {
    **{
        f"layer norm in words, opset {opset}": between(
            _SPELLED.format(mean="ReduceMean<axes = [-1]>(t)", variance="ReduceMean<axes = [-1]>(p)"),
            opset=opset,
            **_NORM,
        )
        for opset in (11, 13, 16)
    },
    "layer norm in words, opset 18": between(
        _SPELLED.format(mean="ReduceMean(t, ax)", variance="ReduceMean(p, ax)"), ax=np.array([-1]), **_NORM
    ),
    "layer norm in words, squared by Mul": between(
        _SPELLED.format(mean="ReduceMean<axes = [-1]>(t)", variance="ReduceMean<axes = [-1]>(p)").replace(
            "Pow(d, two)", "Mul(d, d)"
        ),
        opset=17,
        **{name: value for name, value in _NORM.items() if name != "two"},
    ),
    "channel norm in words": between(
        "m = ReduceMean<axes = [1]>(a)\n d = Sub(a, m)\n p = Pow(d, two)\n "
        "v = ReduceMean<axes = [1]>(p)\n e = Add(v, eps)\n"
        "q = Sqrt(e)\n n = Div(d, q)\n k = Mul(s1, n)\n b = Add(k, o1)",
        opset=14,
        two=np.float32(2),
        eps=np.float32(1e-6),
        s1=(4, 1, 1),
        o1=(4, 1, 1),
    ),
    "root mean square norm in words": between(
        "t = Transpose<perm = [0, 2, 3, 1]>(a)\n p = Pow(t, two)\n "
        "v = ReduceMean<axes = [-1]>(p)\n e = Add(v, eps)\n q = Sqrt(e)\n"
        "n = Div(t, q)\n l = Mul(n, s)\n b = Transpose<perm = [0, 3, 1, 2]>(l)",
        opset=14,
        **{name: value for name, value in _NORM.items() if name != "o"},
    ),
    "Gelu in words": between(
        "d = Div(a, r)\n e = Erf(d)\n f = Add(e, one)\n g = Mul(a, f)\n b = Mul(g, half)", opset=14, **_ERF
    ),
    "Gelu in words, the other order": between(
        "d = Div(a, r)\n e = Erf(d)\n f = Add(e, one)\n g = Mul(a, half)\n b = Mul(g, f)", opset=11, **_ERF
    ),
    "fast Gelu in words": between(
        "p = Pow(a, three)\n q = Mul(p, c)\n i = Add(a, q)\n j = Mul(i, k)\n t = Tanh(j)\n "
        "u = Add(t, one)\n h = Mul(a, half)\n"
        "b = Mul(h, u)",
        opset=13,
        three=np.float32(3),
        c=np.float32(0.044715),
        k=np.float32(np.sqrt(2 / np.pi)),
        one=np.float32(1),
        half=np.float32(0.5),
    ),
    "quick Gelu in words": between("m = Mul(a, c)\n s = Sigmoid(m)\n b = Mul(a, s)", c=np.float32(1.702)),
    "swish": between("s = Sigmoid(a)\n b = Mul(a, s)", opset=11),
    "hard swish in words": between(
        "p = Add(a, three)\n c = Clip(p, zero, six)\n m = Mul(a, c)\n b = Div(m, six)",
        opset=13,
        three=np.float32(3),
        zero=np.float32(0),
        six=np.float32(6),
    ),
    "attention": between(
        _HEADS,
        opset=17,
        flat=np.array([0, 4, -1]),
        wq=(4, 4),
        wk=(4, 4),
        wv=(4, 4),
        c=np.float32(0.5),
        g=(4,),
    ),
    "squeeze and excite": between(
        "p = GlobalAveragePool(a)\n c = Conv(p, u, k)\n r = Relu(c)\n e = Conv(r, v)\n "
        "g = HardSigmoid(e)\n b = Mul(a, g)",
        u=(3, 4, 1, 1),
        k=(3,),
        v=(4, 3, 1, 1),
    ),
    "bias behind a product and a dropout": between(
        "t = Transpose<perm = [0, 2, 3, 1]>(a)\n m = MatMul(t, v)\n c = Add(m, k)\n d = Dropout(c)\n r = Add(d, t)\n"
        "l = LayerNormalization(r, s, o)\n b = Transpose<perm = [0, 3, 1, 2]>(l)",
        v=(4, 4),
        k=(4,),
        s=(4,),
        o=(4,),
    ),
}
