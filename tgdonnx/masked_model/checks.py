"""What must hold of masks, and of values to start from, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network
from tgdonnx.masked_model.additions import SET_SUFFIX, SUFFIX
from tgdonnx.overwriting import differing

Masks = Mapping[str, NDArray[np.float32]]
Values = Mapping[str, NDArray[Any]]


def require_masks(network: Network, masks: Masks, suffix: str) -> None:
    """Checks that masks belong to tensors of a model, broadcast against them and hold 0 and 1 alone.

    Args:
        network: the model.
        masks: by the names of the tensors.
        suffix: what makes the name of the mask of the name of the tensor.

    Raises:
        MaskedModelError: one does not.
    """
    for name, values in masks.items():
        shape = _shape_of(network, name, suffix)
        if values.ndim != len(shape) or any(m not in (1, d) for m, d in zip(values.shape, shape)):
            raise MaskedModelError(
                f"{name + suffix!r} has shape {list(values.shape)}, which does not broadcast against {list(shape)}"
            )
        if not np.isin(values, (0, 1)).all():
            raise MaskedModelError(f"{name + suffix!r} holds {values[~np.isin(values, (0, 1))][0]}; expected 0 or 1")


def require_apart(masks: Masks, set_masks: Masks) -> None:
    """Checks that nothing trains that is to keep a value.

    Raises:
        MaskedModelError: both masks of a tensor are 1 for the same element.
    """
    for name in masks.keys() & set_masks.keys():
        both = masks[name] * set_masks[name]
        if both.any():
            index = [int(i) for i in np.argwhere(both)[0]]
            raise MaskedModelError(
                f"{name + SUFFIX!r} and {name + SET_SUFFIX!r} are both 1 at {index}; expected that what trains is not set"
            )


def require_fit(network: Network, values: Values, suffix: str = "") -> None:
    """Checks that values are of the type and shape of the tensors of a model that they are for.

    Args:
        network: the model.
        values: by the names of the tensors.
        suffix: what makes the name by which the values go of the name of the tensor.

    Raises:
        MaskedModelError: they are not.
    """
    for name, array in values.items():
        shape = _shape_of(network, name, suffix)
        dtype = network.stored_parameters[name].numpy().dtype
        if (array.shape, array.dtype) != (shape, dtype):
            raise MaskedModelError(
                f"{name + suffix!r} has type {array.dtype} and shape {list(array.shape)}; expected {dtype} and "
                f"{list(shape)}, as the vendor's file has {name!r}"
            )


def require_changes_within(start: Values, vendor: Values, masks: Masks, set_masks: Masks) -> None:
    """Checks that only what trains or was set has another value than the vendor's, to the bit.

    Args:
        start: the tensors that training starts from, by name.
        vendor: the same as the vendor has them.
        masks: retrain masks.
        set_masks: masks of elements that keep the value of ``start``.

    Raises:
        MaskedModelError: something else has.
    """
    nowhere = np.zeros((), np.float32)
    for name, values in vendor.items():
        allowed = (masks.get(name, nowhere) == 1) | (set_masks.get(name, nowhere) == 1)
        stray = differing(start[name], values) & ~allowed
        if stray.any():
            index = [int(i) for i in np.argwhere(stray)[0]]
            raise MaskedModelError(
                f"{np.count_nonzero(stray)} values of {name!r} are not the vendor's, though no mask lets them change, the "
                f"first at {index}",
                remedy="mask the vendor's file again",
            )


def _shape_of(network: Network, name: str, suffix: str) -> tuple[int, ...]:
    if name not in network.stored_parameters:
        raise MaskedModelError(f"{name + suffix!r} belongs to no tensor: there is no {name!r} in {network.file.path}")
    return network.stored_parameters[name].shape
