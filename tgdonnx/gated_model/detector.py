"""What decides whether an input is of the new kind, as plain nodes.

    f = (mean, log(variance + floor)) over space, of every map of a value      2 C features of a sample
    r = |(I - B B')(f - mu)|^2                                                 how far they are from those of new inputs
    new if r < t

mu is the mean of the features on the new inputs, the columns of B are their first principal components, and t is a quantile of
the residuals r of new inputs (`tgdonnx.gating.fitting`). NaN is less than nothing, so what cannot be judged is not new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tgdonnx.overwriting import little_endian

Floats = NDArray[np.float32]
FEATURES, RESIDUAL, IS_NEW = "features", "residual", "is_new"
"""The names, behind the prefix, of features (N, 2 C), of the residual (N, 1) and of the decision (N, 1), float 0 or 1."""
_NUMBERS = ("mean", "basis", "threshold", "floor")


@dataclass(frozen=True)
class Detector:
    """A detector and its numbers.

    Attributes:
        layer: the layer in front of which it looks.
        value: what it looks at: that layer's input, (N, C, ...).
        images: how many new inputs it was fitted on.
        mean: mu, float32 of shape (2 C,).
        basis: B, float32 of shape (2 C, k), with orthonormal columns.
        threshold: t, > 0.
        floor: of the variance, > 0.
    """

    layer: str
    value: str
    images: int
    mean: Floats = field(repr=False)
    basis: Floats = field(repr=False)
    threshold: float
    floor: float

    @property
    def sha256(self) -> str:
        """Of its numbers, in hex."""
        digest = hashlib.sha256()
        for tensor in self.tensors(""):
            digest.update(tensor.name.encode() + b"\0" + little_endian(numpy_helper.to_array(tensor)))
        return digest.hexdigest()

    def tensors(self, prefix: str) -> list[onnx.TensorProto]:
        """Returns its numbers as initializers."""
        floats = (self.mean, self.basis, np.array([[self.threshold]], np.float32), np.array([self.floor], np.float32))
        return [numpy_helper.from_array(np.asarray(a, np.float32), prefix + name) for name, a in zip(_NUMBERS, floats)]

    def nodes(self, prefix: str) -> list[onnx.NodeProto]:
        """Returns what computes residual and decision, from the value to the decision."""

        def node(op_type: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
            return helper.make_node(op_type, inputs, [prefix + output], prefix + output)

        p = prefix
        return [
            *feature_nodes(self.value, prefix),
            node("Sub", [p + FEATURES, p + "mean"], "centred"),
            node("MatMul", [p + "centred", p + "basis"], "components"),
            helper.make_node("Transpose", [p + "basis"], [p + "basis_t"], p + "basis_t", perm=[1, 0]),
            node("MatMul", [p + "components", p + "basis_t"], "explained"),
            node("Sub", [p + "centred", p + "explained"], "left"),
            node("Mul", [p + "left", p + "left"], "left_squares"),
            node("MatMul", [p + "left_squares", p + "ones"], RESIDUAL),
            node("Less", [p + RESIDUAL, p + "threshold"], "is_less"),
            helper.make_node("Cast", [p + "is_less"], [p + IS_NEW], p + IS_NEW, to=onnx.TensorProto.FLOAT),
        ]

    def ones(self, prefix: str) -> onnx.TensorProto:
        """Returns what sums squares."""
        return numpy_helper.from_array(np.ones((len(self.mean), 1), np.float32), prefix + "ones")


def feature_nodes(value: str, prefix: str) -> list[onnx.NodeProto]:
    """Returns what computes the features of a value (N, C, ...): nodes that are the same in all operator sets from 7 on.

    They read ``floor``, float32 of shape (1,), behind the prefix.
    """

    def node(op_type: str, inputs: Sequence[str], output: str) -> onnx.NodeProto:
        return helper.make_node(
            op_type, [i if i == value else prefix + i for i in inputs], [prefix + output], prefix + output
        )

    return [
        helper.make_node("Cast", [value], [prefix + "value"], prefix + "value", to=onnx.TensorProto.FLOAT),
        node("GlobalAveragePool", ["value"], "means"),
        node("Mul", ["value", "value"], "squares"),
        node("GlobalAveragePool", ["squares"], "mean_squares"),
        node("Mul", ["means", "means"], "squared_means"),
        node("Sub", ["mean_squares", "squared_means"], "differences"),
        node("Relu", ["differences"], "variances"),  # rounding can make them negative
        node("Add", ["variances", "floor"], "raised"),
        node("Log", ["raised"], "logarithms"),
        helper.make_node(
            "Concat", [prefix + "means", prefix + "logarithms"], [prefix + "both"], prefix + "both", axis=1
        ),
        helper.make_node("Flatten", [prefix + "both"], [prefix + FEATURES], prefix + FEATURES, axis=1),
    ]
