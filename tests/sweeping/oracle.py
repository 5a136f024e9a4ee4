"""Filters set to zero by hand, in a ModelProto, and run by onnx.reference or ONNX Runtime without any optimisation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.oracles.independent import tensors_of
from tests.support.models import Array
from tests.tracing.oracle import session


def zeroed(model: onnx.ModelProto, where: Mapping[str, NDArray[np.bool_]]) -> onnx.ModelProto:
    """A copy in which elements of tensors are zero."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, elements in where.items():
        tensor = tensors_of(copy)[name]
        values = np.where(elements, 0, numpy_helper.to_array(tensor)).astype(numpy_helper.to_array(tensor).dtype)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copy


def outputs(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    found: list[Array] = session(model).run(None, dict(feeds))
    return found


def relative_change(before: Array, after: Array) -> float:
    """TGD's reading here, in one line: RMS of the change by the standard deviation of what was."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    return float(np.sqrt(np.mean((after - before) ** 2)) / np.std(before))
