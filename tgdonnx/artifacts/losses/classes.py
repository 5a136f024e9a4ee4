"""Class indices, as losses of them need them.

Places whose label is ``ignore`` count for nothing: neither for the sum nor for what it is divided by. Where no place counts,
the loss is 0, and so is its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.artifacts.losses.function import Compared, Sizes
from tgdonnx.artifacts.losses.logits import before
from tgdonnx.errors import ArtifactsError
from tgdonnx.graphs.builder import Builder


@dataclass(frozen=True)
class Labels:
    """Class indices as a loss needs them.

    Attributes:
        inside: the indices, 0 in place of what does not count; (N, ...).
        valid: 1 where a place counts, else 0; (N, ...).
        one_hot: 1 for the class of a place, else 0; (N, K, ...). Where a place does not count it is that of class 0.
    """

    inside: ir.Value
    valid: ir.Value
    one_hot: ir.Value


def labels_of(builder: Builder, x: ir.Value, t: ir.Value, ignore: Optional[int]) -> Labels:
    """Writes what a loss needs of class indices.

    Args:
        builder: writes nodes.
        x: the logits, with the axis of classes as axis 1; (N, K, ...).
        t: the indices; (N, ...).
        ignore: the index that does not count, if one does not.
    """
    if ignore is None:
        inside, valid = t, builder("Expand", builder.scalar(1), builder("Shape", t))
    else:
        ignored = builder("Equal", t, builder.constant(np.array(ignore, np.int64)))
        inside = builder("Where", ignored, builder.constant(np.array(0, np.int64)), t)
        valid = builder.cast(builder("Not", ignored), x)
    both = builder.constant(np.array([0, 1], np.float32))
    one_hot = builder("OneHot", inside, builder("Shape", x, start=1, end=2), both, axis=1)
    return Labels(inside, valid, one_hot)


def class_logits(builder: Builder, compared: Compared) -> ir.Value:
    """Returns the logits with the axis of classes as axis 1."""
    y, axis = compared.y, compared.class_axis
    x = before(y, "Softmax", axis)
    if axis == 1:
        return x
    assert y.shape is not None
    order = [0, axis, *(other for other in range(1, len(y.shape)) if other != axis)]
    first = builder("Transpose", x, perm=order)
    first.shape = ir.Shape([y.shape[place] for place in order])
    return first


def require_weights(weights: Sequence[float]) -> None:
    """Checks factors of classes.

    Raises:
        ArtifactsError: no class would count.
    """
    if weights and not any(weights):
        raise ArtifactsError(f"expected class_weights of which one at least is > 0, got {list(weights)}")


def class_problem(
    name: str, sizes: Sizes, class_axis: int, *, said: Optional[int] = None, weights: Sequence[float] = ()
) -> Optional[str]:
    """Returns why an output cannot be compared with class indices, with a remedy, or None.

    Args:
        name: of the loss.
        sizes: see `LossFunction.problem`.
        class_axis: the axis that counts classes.
        said: the same as the loss says it, perhaps counted from the end.
        weights: a factor per class.
    """
    if sizes is None:
        open_rank = bool(weights) or said is not None
        return (
            f"the loss {name} needs an output of known rank here; declare the shapes of the model's inputs"
            if open_rank
            else None
        )
    rank = len(sizes)
    if said is not None and not (-rank <= said < rank and said % rank):
        return (
            f"the loss {name} has axis={said}, and the output {rank} axes, of which the first counts samples; expected 1 to "
            f"{rank - 1}, or -1 for the last"
        )
    if weights and class_axis < rank and sizes[class_axis] not in (None, len(weights)):
        return (
            f"the loss {name} has {len(weights)} class_weights, and the output {sizes[class_axis]} classes "
            f"(axis {class_axis}); give one for each"
        )
    return None
