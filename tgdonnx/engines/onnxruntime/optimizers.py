"""The optimizers, in plain ONNX nodes.

    sgd    u <- momentum u + g;                            p <- p - rate u   (momentum 0: no u, p <- p - rate g)
    adamw  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
           m' = m / (1 - b1^t);     v' = v / (1 - b2^t);   p <- p - rate m' / (sqrt(v') + epsilon)

at step t, with b1 = 0.9, b2 = 0.999 and epsilon = 1e-8 (Kingma and Ba, ICLR 2015). Weight decay is part of the gradient:
decoupled, it would move what is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.engines.protocol import OptimizerName
from tgdonnx.graphs.builder import Builder

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
DOMAIN, ADAMW = "tgdonnx", "AdamW"
MOST_MOMENTS = 2  # of all optimizers


@dataclass(frozen=True)
class Moments:
    """What an optimizer remembers of one parameter.

    Attributes:
        values: zero, one or two values of the shape of the parameter.
    """

    values: tuple[ir.Value, ...]


def moment_count(optimizer: OptimizerName, momentum: float) -> int:
    """Returns how many numbers an optimizer remembers for each that it moves."""
    return 2 if optimizer == "adamw" else int(momentum > 0)


def clipped(build: Builder, gradients: Sequence[ir.Value], limit: Optional[float]) -> list[ir.Value]:
    """Scales gradients down together, so that their Euclidean norm is at most ``limit``.

    The norm is summed in float64: of 800,000 numbers it is off by 5e-8 then, in float32 by up to 6e-6 (onnxruntime 1.32).
    """
    if limit is None:
        return list(gradients)
    squares = []
    for gradient in gradients:
        exact = build("Cast", gradient, to=ir.DataType.DOUBLE.value)
        squares.append(build("ReduceSumSquare", exact, keepdims=0))
    norm = build("Cast", build("Sqrt", build("Sum", *squares)), to=ir.DataType.FLOAT.value)
    most = build.constant(np.array(limit, np.float32))
    # Where nothing exceeds the limit the factor is exactly 1.
    factor = build("Div", most, build("Max", norm, most))
    return [build("Mul", gradient, factor) for gradient in gradients]


def sgd(
    build: Builder, parameter: ir.Value, gradient: ir.Value, moments: Moments, rate: ir.Value, momentum: float
) -> tuple[ir.Value, Moments]:
    """Returns the moved parameter, and what to remember."""
    if not moments.values:
        return build("Sub", parameter, build("Mul", gradient, rate)), moments
    kept = build("Mul", moments.values[0], build.scalar(momentum, parameter))
    moved = build("Add", kept, gradient)
    return build("Sub", parameter, build("Mul", moved, rate)), Moments((moved,))


@dataclass(frozen=True)
class Corrections:
    """Factors of AdamW that depend on the step alone.

    Attributes:
        rate: the learning rate over 1 - b1^t.
        scale: sqrt(1 - b2^t).
    """

    rate: ir.Value
    scale: ir.Value


def corrections(build: Builder, rate: ir.Value, step: ir.Value) -> Corrections:
    """Writes the factors of AdamW, in float64: in float32 1 - b2^t is off by up to 2e-5.

    Args:
        build: writes nodes.
        rate: the learning rate, float32.
        step: the number of this step, from 1, int64.
    """
    exact = build("Cast", step, to=ir.DataType.DOUBLE.value)
    one = build.scalar(1, exact)

    def left(beta: float) -> ir.Value:
        return build("Sub", one, build("Pow", build.scalar(beta, exact), exact))

    first = build("Div", build("Cast", rate, to=ir.DataType.DOUBLE.value), left(BETA1))
    return Corrections(build.cast(first, rate), build.cast(build("Sqrt", left(BETA2)), rate))


def adamw(
    build: Builder, parameter: ir.Value, gradient: ir.Value, moments: Moments, factors: Corrections
) -> tuple[ir.Value, Moments]:
    """Returns the moved parameter, and what to remember; the model needs `adamw_function`."""
    numbers = [build.scalar(number, parameter) for number in (BETA1, 1 - BETA1, BETA2, 1 - BETA2, EPSILON)]
    inputs = [parameter, gradient, *moments.values, factors.rate, factors.scale, *numbers]
    moved, mean, square = build.several(ADAMW, inputs, {}, 3, domain=DOMAIN)
    return moved, Moments((mean, square))


def adamw_function(opset: int) -> ir.Function:
    """Returns AdamW of one parameter as a function of a model, in operators of ONNX: a thousand parameters share its nodes.

    Args:
        opset: the version of the default operator set.
    """
    names = ("parameter", "gradient", "mean", "square", "rate", "scale", "b1", "1-b1", "b2", "1-b2", "epsilon")
    inputs = [ir.Value(name=name) for name in names]
    parameter, gradient, mean, square, rate, scale, b1, left1, b2, left2, epsilon = inputs
    graph = ir.Graph(inputs, [], nodes=[], opset_imports={"": opset}, name=ADAMW)
    build = Builder(graph, ADAMW)
    mean = build("Add", build("Mul", mean, b1), build("Mul", gradient, left1))
    square = build("Add", build("Mul", square, b2), build("Mul", build("Mul", gradient, gradient), left2))
    root = build("Div", build("Sqrt", square), scale)
    moved = build("Mul", build("Div", mean, build("Add", root, epsilon)), rate)
    graph.outputs.extend([build("Sub", parameter, moved), mean, square])
    graph.extend(build.nodes)
    return ir.Function(DOMAIN, ADAMW, graph=graph, attributes=[])
