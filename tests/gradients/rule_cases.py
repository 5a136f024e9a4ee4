"""Cases for every rule of the table, to be held against any oracle: one node, what it reads, how it is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tests.gradients.checking import KINDS

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A node between inputs and ``y``.

    Attributes:
        op_type: its operator.
        feeds: its inputs, in their order, and then those that a graph inside it reads; by those of floating point a gradient is
            wanted.
        constants: its inputs behind these; an array whose name begins with "_" stands for one that is left out.
        attributes: its attributes.
        opset: of the default domain.
        outputs: names of its outputs; of those that begin with "_" no loss is made.
        held: feeds whose sizes are always known.
        kinds: how sizes are declared.
    """

    op_type: str
    feeds: Mapping[str, Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: tuple[str, ...] = ("y",)
    held: tuple[str, ...] = ()
    kinds: tuple[str, ...] = KINDS

    @property
    def node(self) -> onnx.NodeProto:
        names = [*self.feeds, *("" if name.startswith("_") else name for name in self.constants)]
        if self.op_type == "If":
            names = names[:1]
        return helper.make_node(self.op_type, names, self.outputs, **self.attributes)

    @property
    def summed(self) -> list[str]:
        return [name for name in self.outputs if not name.startswith("_")]

    @property
    def stored(self) -> dict[str, Array]:
        return {name: array for name, array in self.constants.items() if not name.startswith("_")}


def _array(*shape: int) -> Array:
    return np.random.default_rng([17, *shape]).normal(size=shape) * 1.3


def _positive(*shape: int) -> Array:
    return np.abs(_array(*shape)) + 0.3


def _ints(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


X = _array(2, 3, 4)
INSIDE = np.tanh(X) * 0.9
IMAGE = _array(2, 3, 5, 6)
LEFT_OUT = np.zeros(0)


def _unary(op_type: str, x: Array = X, opset: int = 18, **attributes: Any) -> Case:
    return Case(op_type, {"x": x}, attributes=attributes, opset=opset)


def _binary(op_type: str, a: Array, b: Array, **attributes: Any) -> Case:
    return Case(op_type, {"a": a, "b": b}, attributes=attributes)


def _reduction(op_type: str) -> list[Case]:
    x = _positive(2, 3, 4)
    x[0, 1] *= -1 if op_type != "ReduceLogSum" else 1
    return [
        Case(op_type, {"x": x}, {"axes": _ints(1)}, {"keepdims": 0}),
        Case(op_type, {"x": x}, {"axes": _ints(0, -1)}),
        Case(op_type, {"x": x}),
    ]


def _if(threshold: float) -> Case:
    def branch(op_type: str, *inputs: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(op_type, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op_type, inputs, [op_type])], op_type, [], [value])

    return Case(
        "If",
        {"c": np.array(threshold > 0), "x": X, "w": _array(3, 4)},
        attributes={"then_branch": branch("Mul", "x", "w"), "else_branch": branch("Sub", "w", "x")},
        held=("x", "w"),
    )


def _likelihood(op_type: str) -> list[Case]:
    labels = np.array([[0, 2, 1], [1, 1, 3]])
    weights = {"weights": _positive(4)}
    return [
        Case(op_type, {"x": _array(2, 4, 3), "labels": labels}, weights),
        Case(op_type, {"x": _array(2, 4, 3), "labels": labels}, {}, {"reduction": "sum", "ignore_index": 1}),
        Case(op_type, {"x": _array(2, 4, 3), "labels": labels}, weights, {"reduction": "none"}),
    ]


_SMOOTH = (
    "Asinh",
    "Atan",
    "Cos",
    "Cosh",
    "Erf",
    "Exp",
    "Identity",
    "Mish",
    "Neg",
    "Sigmoid",
    "Sin",
    "Sinh",
    "Softplus",
)
_SMOOTH += ("Softsign", "Tanh")
_BENT = ("Abs", "Celu", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Selu", "Shrink", "ThresholdedRelu")
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_FILTERS = {"w": _array(4, 3, 3, 2), "b": _array(4)}
_GROUPED = {"x": _array(2, 4, 5, 6), "w": _array(6, 2, 3, 3), "b": _array(6)}

CASES: dict[str, list[Case]] = {
    **{op_type: [_unary(op_type)] for op_type in (*_SMOOTH, *_BENT)},
    **{op_type: [_unary(op_type, INSIDE)] for op_type in ("Acos", "Asin", "Atanh", "Tan")},
    **{op_type: [_unary(op_type, _positive(2, 3, 4))] for op_type in ("Log", "Reciprocal", "Sqrt")},
    **{f"Reduce{name}": _reduction(f"Reduce{name}") for name in _REDUCTIONS},
    **{
        op_type: [_binary(op_type, X, _array(3, 1)), _binary(op_type, _array(4), X)]
        for op_type in ("Add", "Max", "Mean", "Min", "Mul", "Sub", "Sum")
    },
    **{
        op_type: [
            Case(
                op_type,
                {"x": _array(3, 4), "places": np.array([[0, 1, 1], [2, 2, 0]]), "u": _array(2, 3)},
                attributes={"axis": 1, "reduction": "add"},
            ),
            Case(
                op_type, {"x": _array(3, 4), "places": np.array([[0, 1], [2, 3]]), "u": _array(2, 2)}, {}, {"axis": 1}
            ),
        ]
        for op_type in ("ScatterElements",)
    },
    **{op_type: [_unary(op_type, axis=1), _unary(op_type)] for op_type in ("LogSoftmax", "Softmax")},
    **{op_type: _likelihood(op_type) for op_type in ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")},
    **{op_type: [_unary(op_type, IMAGE)] for op_type in ("GlobalAveragePool", "GlobalMaxPool")},
    "Acosh": [_unary("Acosh", 1 + _positive(2, 3, 4))],
    "AveragePool": [
        _unary("AveragePool", IMAGE, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 1]),
        _unary("AveragePool", IMAGE, kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
    ],
    "BatchNormalization": [
        Case(
            "BatchNormalization",
            {"x": IMAGE, "s": _array(3), "b": _array(3)},
            {"m": _array(3), "v": _positive(3)},
            {"epsilon": 0.01},
            held=("s", "b"),
        )
    ],
    "Cast": [_unary("Cast", to=int(TensorProto.FLOAT))],
    "CastLike": [Case("CastLike", {"x": X}, {"like": np.zeros(1, np.float32)})],
    "Clip": [
        Case("Clip", {"x": X}, {"least": np.array(-0.5), "most": np.array(0.7)}),
        Case("Clip", {"x": X}, {"_least": LEFT_OUT, "most": np.array(0.4)}),
    ],
    "Concat": [_binary("Concat", X, _array(2, 5, 4), axis=1), _binary("Concat", X, _array(2, 3, 1), axis=-1)],
    "Conv": [
        Case("Conv", {"x": IMAGE, **_FILTERS}, {}, {"pads": [1, 0, 0, 1]}, held=("w", "b")),
        Case("Conv", {"x": IMAGE, **_FILTERS}, {}, {"strides": [2, 1], "dilations": [1, 2]}, held=("w", "b")),
        Case("Conv", _GROUPED, {}, {"group": 2, "pads": [1, 1, 1, 1], "strides": [1, 2]}, held=("w", "b")),
        Case("Conv", {"x": IMAGE, "w": _array(6, 1, 2, 3)}, {}, {"group": 3}, held=("w",)),
        Case("Conv", {"x": _array(1, 2, 3, 4, 3), "w": _array(3, 2, 2, 1, 2)}, held=("w",)),
    ],
    "ConvTranspose": [
        Case(
            "ConvTranspose",
            {"x": IMAGE, "w": _array(3, 2, 3, 3), "b": _array(2)},
            {},
            {"strides": [2, 2], "pads": [1, 0, 1, 1], "output_padding": [1, 0]},
            held=("w", "b"),
        ),
        Case(
            "ConvTranspose",
            {"x": _array(2, 4, 3), "w": _array(4, 3, 3)},
            {},
            {"group": 2, "dilations": [2]},
            held=("w",),
        ),
    ],
    "CumSum": [
        Case("CumSum", {"x": X}, {"axis": np.array(1)}),
        Case("CumSum", {"x": X}, {"axis": np.array(2)}, {"exclusive": 1, "reverse": 1}),
    ],
    "DepthToSpace": [
        _unary("DepthToSpace", _array(1, 8, 2, 3), blocksize=2),
        _unary("DepthToSpace", _array(1, 8, 2, 3), blocksize=2, mode="CRD"),
    ],
    "Div": [_binary("Div", X, _positive(3, 1)), _binary("Div", _array(4), _positive(2, 3, 4))],
    "Dropout": [_unary("Dropout")],
    "Expand": [Case("Expand", {"x": _array(3, 1)}, {"shape": _ints(2, 1, 4)})],
    "Flatten": [_unary("Flatten", axis=2)],
    "Gather": [
        Case("Gather", {"x": X}, {"places": np.array([[2, 0], [2, -1]])}, {"axis": 1}),
        Case("Gather", {"x": X, "places": _ints(1, 1, 0)}),
    ],
    "GatherElements": [
        Case(
            "GatherElements",
            {"x": _array(3, 4), "places": np.array([[0, 1, 1], [2, 2, -1], [3, 0, 3]])},
            {},
            {"axis": 1},
        )
    ],
    "GatherND": [Case("GatherND", {"x": X, "places": np.array([[0, 1], [1, 2], [0, 1]])})],
    "Gelu": [_unary("Gelu", opset=20), _unary("Gelu", opset=20, approximate="tanh")],
    "Gemm": [
        Case("Gemm", {"a": _array(3, 4), "b": _array(4, 5), "c": _array(5)}, {}, {"alpha": 0.7, "beta": 1.3}),
        Case("Gemm", {"a": _array(4, 3), "b": _array(5, 4)}, {}, {"transA": 1, "transB": 1}),
    ],
    "GroupNormalization": [
        Case(
            "GroupNormalization",
            {"x": _array(2, 6, 4), "s": _array(6), "b": _array(6)},
            {},
            {"num_groups": 2, "epsilon": 1e-3},
            opset=21,
            held=("s", "b"),
        )
    ],
    "If": [_if(1), _if(-1)],
    "InstanceNormalization": [
        Case(
            "InstanceNormalization",
            {"x": IMAGE, "s": _array(3), "b": _array(3)},
            {},
            {"epsilon": 1e-3},
            held=("s", "b"),
        )
    ],
    "LRN": [_unary("LRN", _array(2, 5, 2, 3), size=3, alpha=0.3, beta=0.6, bias=0.8)],
    "LayerNormalization": [
        Case("LayerNormalization", {"x": X, "s": _array(3, 4), "b": _array(3, 4)}, {}, {"axis": 1, "epsilon": 1e-3}),
        Case("LayerNormalization", {"x": X, "s": _array(4)}),
        Case("LayerNormalization", {"x": X, "s": _array(3, 4)}, {}, {"axis": 1}, outputs=("y", "m", "d")),
        Case("LayerNormalization", {"x": X, "s": _array(4)}, outputs=("_y", "_m", "d")),
    ],
    "LpNormalization": [_unary("LpNormalization", axis=1, p=p) for p in (1, 2)],
    "MatMul": [
        _binary("MatMul", X, _array(4, 5)),
        _binary("MatMul", _array(3, 4), _array(2, 4, 5)),
        _binary("MatMul", X, _array(4)),
    ],
    "MaxPool": [
        _unary("MaxPool", IMAGE, kernel_shape=[3, 2], strides=[1, 2], pads=[1, 0, 1, 1]),
        _unary("MaxPool", IMAGE, kernel_shape=[2, 2], dilations=[2, 1]),
    ],
    "MeanVarianceNormalization": [_unary("MeanVarianceNormalization", IMAGE, axes=[0, 2, 3])],
    "Mod": [Case("Mod", {"x": _positive(2, 3, 4)}, {"m": np.array(0.7)}, {"fmod": 1})],
    "PRelu": [Case("PRelu", {"x": X, "slope": _array(3, 1)}), Case("PRelu", {"x": X, "slope": _array(1)})],
    "Pad": [
        Case("Pad", {"x": X}, {"pads": _ints(0, 1, 2, 1, 0, 3), "value": np.array(0.5)}),
        Case("Pad", {"x": X}, {"pads": _ints(1, -1, 0, 0, 2, -2)}),
    ],
    "Pow": [
        _binary("Pow", _positive(2, 3, 4), _array(3, 1)),
        Case("Pow", {"x": X}, {"power": np.array(3.0)}),
        Case("Pow", {"x": X}, {"power": np.array(2, np.int64)}),
    ],
    "Reshape": [Case("Reshape", {"x": X}, {"shape": _ints(0, -1)}), Case("Reshape", {"x": X}, {"shape": _ints(4, 6)})],
    "ScatterND": [
        Case("ScatterND", {"x": X, "places": np.array([[0, 1], [1, 2]]), "u": _array(2, 4)}),
        Case("ScatterND", {"x": X, "places": np.array([[0, 1], [0, 1]]), "u": _array(2, 4)}, {}, {"reduction": "add"}),
    ],
    "Slice": [
        Case("Slice", {"x": _array(4, 5, 6)}, dict(zip(("starts", "ends", "axes", "steps"), map(_ints, *given))))
        for given in ([(1, 3, 0, 1), (-5, 4, 2, 2)], [(-1, -9, 1, -1), (4, 0, 2, -2)])
    ],
    "SpaceToDepth": [_unary("SpaceToDepth", _array(1, 3, 4, 6), blocksize=2)],
    "Split": [Case("Split", {"x": _array(2, 6)}, {"lengths": _ints(1, 5)}, {"axis": 1}, outputs=("y", "z"))],
    "Squeeze": [Case("Squeeze", {"x": _array(1, 3, 1)}, {"axes": _ints(0, -1)})],
    "Tile": [Case("Tile", {"x": X}, {"repeats": _ints(1, 2, 3)})],
    "TopK": [
        Case("TopK", {"x": X}, {"k": _ints(2)}, {"axis": 1, "largest": largest}, outputs=("y", "_places"))
        for largest in (0, 1)
    ],
    "Transpose": [_unary("Transpose"), _unary("Transpose", perm=[1, 2, 0])],
    "Trilu": [_unary("Trilu", upper=0), Case("Trilu", {"x": X}, {"k": np.array(1)})],
    "Unsqueeze": [Case("Unsqueeze", {"x": X}, {"axes": _ints(0, -1)})],
    "Where": [Case("Where", {"c": X > 0, "a": _array(3, 1), "b": _array(2, 3, 4)})],
}
"""For every standard operator that has a rule."""


def as_floats(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays as a model holds them: real numbers in float32."""
    return {
        name: a.astype(np.float32) if (a := np.asarray(given)).dtype.kind == "f" else a
        for name, given in arrays.items()
    }


def labelled() -> list[tuple[str, Case]]:
    return [(f"{op_type}-{place}", case) for op_type, cases in CASES.items() for place, case in enumerate(cases)]
