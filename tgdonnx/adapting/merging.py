"""A side path as a change of the weight beside it.

A side path has no nonlinearity, so what it adds is what the layer would compute of another weight, and in real numbers

    conv(x, W0) + conv1x1(conv(x, down), up) = conv(x, W0 + D)        D[m] = sum over r of up[m, r] down[g R + r] / s[m]

where filter m is of group g, and s is what the BatchNormalization between the layer and the sum multiplies by, scale /
sqrt(variance + epsilon); 1 where there is none. Gemm divides by its alpha. D is computed in float64 and W0 + D rounded once, to
the type that is stored; so the outputs are equal to rounding, not to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.adapting.side_paths import SidePath
from tgdonnx.errors import ArtifactsError
from tgdonnx.layers import Layer, Network, Parameter
from tgdonnx.selection.plan import uses

Array = NDArray[Any]
_REMEDY = "export without merging"


def merge(path: SidePath, down: Array, up: Array, network: Network) -> tuple[Parameter, Array]:
    """Returns the weight of a layer with its side path in it, as it is stored.

    Args:
        path: the side path.
        down: its first weight.
        up: its second weight, scaled if need be.
        network: the vendor's model, for which the path was planned.

    Raises:
        ArtifactsError: the weight cannot change so, or the result does not fit its type.
    """
    weight = path.layer.weight
    assert weight is not None
    whose = f"the side path of {path.layer.name!r} cannot be merged into {weight.name!r}"
    if uses(weight.value) != {(path.layer.node, 1)}:
        raise ArtifactsError(f"{whose}, which other nodes read as well", remedy=_REMEDY)
    reason = network.why_untrainable(weight.name)
    if reason is not None:
        raise ArtifactsError(f"{whose}, which {reason.problem}", remedy=_REMEDY)
    change = _change(path, down.astype(np.float64), up.astype(np.float64))
    with np.errstate(all="ignore"):  # what comes of it is looked at
        change = change / _factors(path, network, whose).reshape(-1, *(1,) * (change.ndim - 1))
        stored = weight.numpy()
        moved = weight.restore(_as_read(path.layer, change))
        merged = np.where(moved == 0, stored, stored.astype(np.float64) + moved).astype(stored.dtype)
        if not np.isfinite(merged.astype(np.float64)).all():
            raise ArtifactsError(
                f"{whose}: numbers would not fit {stored.dtype}, or the norm behind it multiplies by 0", remedy=_REMEDY
            )
    return weight, merged


def _change(path: SidePath, down: Array, up: Array) -> Array:
    """Returns the change of the weight, (filters, maps of a group, *kernel), or (filters, maps) of a matrix."""
    layer = path.layer
    if path.is_matrix:
        alpha = layer.node.attributes.get_float("alpha", 1.0) if layer.op_type == "Gemm" else 1.0
        product: Array = (down @ up).T / alpha
        return product
    if layer.op_type == "ConvTranspose":
        down = _exchanged(down, layer.group)
    kernels = down.reshape(layer.group, path.rank, -1)
    filters = up.reshape(layer.group, -1, path.rank)
    return (filters @ kernels).reshape(layer.filters, *down.shape[1:])


def _as_read(layer: Layer, change: Array) -> Array:
    """Returns a change of a weight as the layer reads it."""
    if layer.op_type == "ConvTranspose":
        return _exchanged(change, layer.group)
    if layer.op_type in ("Gemm", "MatMul"):
        filters_first = layer.op_type == "Gemm" and layer.node.attributes.get_int("transB", 0) == 1
        return change if filters_first else change.T
    return change


def _exchanged(weight: Array, group: int) -> Array:
    """Returns a weight with its first two axes exchanged within each group: of ConvTranspose to that of Conv, and back."""
    first, second, *kernel = weight.shape
    grouped = weight.reshape(group, first // group, second, *kernel).swapaxes(1, 2)
    exchanged: Array = grouped.reshape(group * second, first // group, *kernel)
    return exchanged


def _factors(path: SidePath, network: Network, whose: str) -> Array:
    """Returns what the norm multiplies the maps by: float64 of shape (filters,)."""
    if path.norm is None:
        return np.ones(path.layer.filters)
    found = [network.parameter(path.norm.inputs[place]) for place in (1, 4)]
    scale, variance = (each.read().astype(np.float64) if isinstance(each, Parameter) else None for each in found)
    if scale is None or variance is None:
        raise ArtifactsError(f"{whose}: the norm behind it computes its scale or variance", remedy=_REMEDY)
    factors: Array = scale / np.sqrt(variance + _epsilon(path.norm))
    return factors


def _epsilon(norm: ir.Node) -> float:
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    return epsilon if math.isfinite(epsilon) else 1e-5
