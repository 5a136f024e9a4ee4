"""Nodes that ONNX refuses with the sizes that were tried, and whether it would with any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import shape_inference

Inference = Callable[[Mapping[str, Sequence[Optional[int]]], Mapping[str, NDArray[Any]]], Mapping[str, onnx.TypeProto]]


@dataclass(frozen=True)
class Refusal:
    """Why a node cannot be as it is, with the sizes that were tried.

    Attributes:
        why: what ONNX says.
        infer: infers the node's outputs from the types and contents of its inputs; None if sizes do not matter.
        shapes: of the inputs, by name.
        contents: of inputs that do not depend on the data.
    """

    why: str
    infer: Optional[Inference] = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    contents: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def is_certain(refusals: Sequence[Refusal]) -> bool:
    """Whether a node that was refused with all sizes that were tried is so with any: those that differed are open."""
    first, infer = refusals[0], refusals[0].infer
    if infer is None:
        return True
    shapes: dict[str, Sequence[Optional[int]]] = {}
    for name in first.shapes:
        tried = [each.shapes[name] for each in refusals]
        if len({len(shape) for shape in tried}) > 1:
            return False
        shapes[name] = [axis[0] if len(set(axis)) == 1 else None for axis in zip(*tried)]
    contents = {
        name: array
        for name, array in first.contents.items()
        if all(name in each.contents and np.array_equal(each.contents[name], array) for each in refusals)
    }
    try:
        infer(shapes, contents)
    except shape_inference.InferenceError:
        return True
    except Exception:  # as where it was refused
        return False
    return False
