"""Weights of a loss: what every element of a target counts, float32 of 0 and more, however they are stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tgdonnx.data.lazy_arrays import Array, LazyArray, Region, read_finite
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

_FLOAT32 = np.dtype(np.float32)


def as_weights(stored: LazyArray, spec: TensorSpec) -> LazyArray:
    """Returns an array as weights; unchanged where the input is for something else, or it holds no numbers.

    Args:
        stored: the array.
        spec: the input.

    Raises:
        DataError: when it is read: a weight is negative.
    """
    if spec.role != "weights" or stored.dtype.kind not in "biuf":
        return stored

    def read(region: Region) -> Array:
        values = read_finite(stored, region, spec.name)
        if values.size and values.min() < 0:
            at = np.argwhere(values < 0)[0]
            index = [int(i) + part.start for i, part in zip(at, region)]
            raise DataError(
                f"{stored.place}: {spec.name}{index} is {values[tuple(at)]:g}; expected weights of 0 (does not count) and more"
            )
        with np.errstate(over="ignore"):  # infinity is looked for by whoever reads
            return values.astype(_FLOAT32)

    remark = f"{spec.name}: {stored.dtype} to float32, every value as it is"
    remarks = stored.remarks if stored.dtype == _FLOAT32 else (*stored.remarks, remark)
    return replace(stored, dtype=_FLOAT32, read=read, remarks=remarks)
