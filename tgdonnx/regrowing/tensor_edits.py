"""Edits of tensors: numbers are set element by element, and stored as the vendor's file stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.layers import Layer, Parameter

Array = NDArray[Any]
Floats = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class TensorEdit:
    """A tensor of which some elements get new numbers.

    Attributes:
        parameter: the tensor.
        real: float64 of the stored shape: the numbers that it stands for.
        changed: bool of the stored shape: which of them were set.
    """

    parameter: Parameter
    real: Floats = field(repr=False)
    changed: NDArray[np.bool_] = field(repr=False)

    @staticmethod
    def of(parameter: Parameter) -> TensorEdit:
        """Returns an edit in which nothing is set yet."""
        stored = parameter.numpy() if parameter.quantization is None else parameter.dequantized()
        return TensorEdit(parameter, stored.astype(np.float64), np.zeros(parameter.shape, bool))

    def get(self, index: Index) -> Floats:
        """Returns the numbers at flat places of the stored tensor."""
        return self.real.reshape(-1)[index]

    def set(self, index: Index, numbers: Floats) -> None:
        """Sets the numbers at flat places of the stored tensor."""
        self.real.reshape(-1)[index] = numbers
        self.changed.reshape(-1)[index] = True

    def stored(self) -> Array:
        """Returns the tensor as it is to be stored: what was not set has the vendor's bits."""
        vendor = self.parameter.numpy()
        real = self.real.astype(np.float32) if self.parameter.quantization is not None else self.real
        new = self.parameter.quantized(real) if self.parameter.quantization is not None else real.astype(vendor.dtype)
        return np.where(self.changed, new, vendor)


class TensorEdits:
    """The tensors that change, by name."""

    def __init__(self) -> None:
        self._edits: dict[str, TensorEdit] = {}

    def of(self, parameter: Parameter) -> TensorEdit:
        """Returns the edit of a tensor."""
        if parameter.name not in self._edits:
            self._edits[parameter.name] = TensorEdit.of(parameter)
        return self._edits[parameter.name]

    def changed(self) -> Iterator[TensorEdit]:
        """Yields the edits in which anything is set."""
        for edit in self._edits.values():
            if edit.changed.any():
                yield edit


def kernel_index(layer: Layer) -> Index:
    """Returns where in its stored weight a layer's kernels are: int64 of shape (filters, maps of a group, *kernel)."""
    assert layer.weight is not None
    places = np.arange(int(np.prod(layer.weight.shape))).reshape(layer.weight.shape)
    return layer.layout.kernels(layer.weight.rearrange(places))


def channel_index(parameter: Parameter) -> Index:
    """Returns where in a stored tensor with one number per channel the channels are: int64 of shape (channels,)."""
    places = np.arange(int(np.prod(parameter.shape))).reshape(parameter.shape)
    return parameter.rearrange(places).reshape(-1)


def reads(layer: Layer, maps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which kernels read some input maps: bool of shape (filters, maps of a group).

    Args:
        layer: the layer.
        maps: bool of shape (maps,), over all groups.
    """
    per_group = maps.reshape(layer.group, -1)
    return np.repeat(per_group, layer.filters // layer.group, axis=0)
