"""What side paths start with: ``down`` uniform in ±1 / sqrt(fan in), ``up`` 0, so that the network computes what it did.

The same bits everywhere: they are made of the raw numbers of PCG64, whose stream numpy promises to keep, by operations that
are exact.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.adapting.side_paths import SidePath


def initial_tensors(path: SidePath, seed: int) -> tuple[onnx.TensorProto, onnx.TensorProto]:
    """Returns the weights of a side path, ``down`` and ``up``."""
    down = _uniform(path.down_shape, seed, path.layer.index) / math.sqrt(path.fan_in)
    tensors = []
    for name, values in ((path.down, down), (path.up, np.zeros(path.up_shape))):
        tensor = ir.to_proto(ir.tensor(values.astype(path.dtype.numpy()), dtype=path.dtype))
        tensor.name = name
        tensors.append(tensor)
    return tensors[0], tensors[1]


def _uniform(shape: tuple[int, ...], seed: int, index: int) -> NDArray[np.float64]:
    """Returns numbers in [-1, 1), float64."""
    raw = np.random.PCG64(np.random.SeedSequence([seed, index])).random_raw(math.prod(shape))
    values: NDArray[np.float64] = (raw >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1
    return values.reshape(shape)
