"""Losses that compare element by element. With ``weight``, an array of the data says what every element counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Optional, final

import msgspec
import onnx_ir as ir

from tgdonnx.artifacts.losses.function import Compared, LossFunction
from tgdonnx.artifacts.losses.logits import before
from tgdonnx.artifacts.losses.means import mean
from tgdonnx.files.typed import Above0, AtLeast0
from tgdonnx.graphs.builder import Builder

CHARBONNIER_EPSILON = 1e-3
"""In units of the range of the data, as in Lai et al. (LapSRN, CVPR 2017), whose images lie in [0, 1]."""

Inside01 = Annotated[float, msgspec.Meta(gt=0, lt=1)]


@final
@dataclass(frozen=True)
class Mse(LossFunction):
    """mean((y - t)^2)."""

    name = "mse"
    told = "mean of the squared differences"

    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        difference = builder("Sub", compared.y, compared.t)
        return mean(builder, builder("Mul", difference, difference), compared.weight)


@final
@dataclass(frozen=True)
class L1(LossFunction):
    """mean(|y - t|)."""

    name = "l1"
    told = "mean of the absolute differences"

    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        return mean(builder, builder("Abs", builder("Sub", compared.y, compared.t)), compared.weight)


@final
@dataclass(frozen=True)
class Huber(LossFunction):
    """mean(e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)), e = y - t (Huber, Ann. Math. Statist. 35, 1964)."""

    name = "huber"
    told = "half the squared difference up to delta (1), from there on as steep as at it"

    delta: Above0 = 1.0
    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        difference = builder("Sub", compared.y, compared.t)
        # c (e - c / 2), c the difference clipped, is both branches at once; its slope is c.
        clipped = builder("Clip", difference, builder.scalar(-self.delta), builder.scalar(self.delta))
        half = builder("Mul", clipped, builder.scalar(0.5))
        return mean(builder, builder("Mul", clipped, builder("Sub", difference, half)), compared.weight)


@final
@dataclass(frozen=True)
class Pinball(LossFunction):
    """mean(max(q (t - y), (q - 1) (t - y))); least where y is the quantile q (Koenker and Bassett, Econometrica 46, 1978)."""

    name = "pinball"
    told = "least where the output is the quantile q (0.5) of the targets"

    q: Inside01 = 0.5
    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        below = builder("Relu", builder("Sub", compared.t, compared.y))
        above = builder("Relu", builder("Sub", compared.y, compared.t))
        low = builder("Mul", below, builder.scalar(self.q))
        high = builder("Mul", above, builder.scalar(1 - self.q))
        return mean(builder, builder("Add", low, high), compared.weight)


@final
@dataclass(frozen=True)
class Charbonnier(LossFunction):
    """mean(sqrt((y - t)^2 + eps^2)): l1, but smooth where y meets t (Charbonnier et al., ICIP 1994)."""

    name = "charbonnier"
    told = "l1, but smooth near 0"
    is_ranged = True

    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        difference = builder("Sub", compared.y, compared.t)
        epsilon = builder.scalar((CHARBONNIER_EPSILON * compared.data_range) ** 2)
        squared = builder("Add", builder("Mul", difference, difference), epsilon)
        return mean(builder, builder("Sqrt", squared), compared.weight)


@final
@dataclass(frozen=True)
class Bce(LossFunction):
    """mean(log(1 + exp(x)) - x t), x the logits: binary cross-entropy."""

    name = "bce"
    told = "binary cross-entropy; targets lie in 0 to 1"
    targets = "probabilities"
    logits_of = "Sigmoid"

    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        x = before(compared.y, "Sigmoid")
        elements = builder("Sub", _softplus(builder, x), builder("Mul", x, compared.t))
        return mean(builder, elements, compared.weight)


@final
@dataclass(frozen=True)
class Focal(LossFunction):
    """mean(-a t (1 - p)^gamma log p - (1 - a) (1 - t) p^gamma log(1 - p)), p = sigmoid(x) (Lin et al., ICCV 2017, eq. 5).

    Without ``alpha`` both factors a and 1 - a are 1, and with gamma 0 it is bce. Targets between 0 and 1, of which the paper
    has none, mix both ends.
    """

    name = "focal"
    told = (
        "bce, with less weight on what is right already, by the power gamma (2); alpha weighs targets of 1, and 1 - "
        "alpha those of 0; targets lie in 0 to 1"
    )
    targets = "probabilities"
    logits_of = "Sigmoid"

    gamma: AtLeast0 = 2.0
    alpha: Optional[Inside01] = None
    weight: Optional[str] = None

    def write(self, builder: Builder, compared: Compared) -> ir.Value:
        """Writes the nodes."""
        x, t = before(compared.y, "Sigmoid"), compared.t
        plus = _softplus(builder, x)  # -log(1 - p)
        minus = builder("Sub", plus, x)  # -log p
        power = builder.scalar(-self.gamma)

        def end(target: ir.Value, loss: ir.Value, other: ir.Value, share: float) -> ir.Value:
            damped = builder("Mul", loss, builder("Exp", builder("Mul", other, power)))
            return builder("Mul", builder("Mul", target, builder.scalar(share)), damped)

        share = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        ones = end(t, minus, plus, share[0])
        zeros = end(builder("Sub", builder.scalar(1), t), plus, minus, share[1])
        return mean(builder, builder("Add", ones, zeros), compared.weight)


def _softplus(builder: Builder, x: ir.Value) -> ir.Value:
    """Writes log(1 + exp(x)), in a form that does not overflow."""
    # (x + |x|) / 2 - log(sigmoid(|x|)). The usual max(x, 0) has the wrong derivative at x = 0.
    size = builder("Abs", x)
    half = builder("Div", builder("Add", x, size), builder.scalar(2))
    return builder("Sub", half, builder("Log", builder("Sigmoid", size)))
