"""Write a masked model: masks, and for what is reborn the values that training starts from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from tgdonnx import wire
from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network, Parameter
from tgdonnx.masked.additions import (
    KEYS,
    MASKS,
    REGROWN,
    SET_SUFFIX,
    SUFFIX,
    SUFFIXES,
    VENDOR_SUFFIX,
    hash_of_values,
    metadata_bytes,
)
from tgdonnx.masked.checks import require_apart, require_changes_within, require_fit, require_masks
from tgdonnx.modelfile import copy_external_data, write_bytes
from tgdonnx.overwriting import Overwritten, differing, overwrite_values
from tgdonnx.selection import RetrainMask

Array = NDArray[Any]
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def write_masked(
    network: Network,
    masks: Sequence[RetrainMask],
    selection: Mapping[str, Any],
    output: Path,
    *,
    values: Mapping[str, Array] = _NOTHING,
    set_masks: Mapping[str, NDArray[np.float32]] = _NOTHING,
    overwrite: bool = False,
) -> None:
    """Writes a masked model, with its external data beside it.

    Args:
        network: the vendor's model.
        masks: of all retrainable tensors.
        selection: what was asked for, for the record.
        output: the masked model to write.
        values: for the names of tensors that do not start from the vendor's values, what they start from: whole, of the
            stored type and shape. They may differ from the vendor's where a mask is 1.
        set_masks: for names of tensors, which of their elements keep the value of ``values``: float32, 0 or 1, broadcasting.
        overwrite: whether external data may be overwritten; the vendor's never is.

    Raises:
        MaskedModelError: the model uses a name that a mask would have; or values and masks do not go together.
        ModelFileError: external data is missing.
        OutputError: it cannot be written there.
    """
    data, written = _masked(network, masks, selection, values, set_masks)
    copy_external_data(network.file, output, changes=written.external, overwrite=overwrite)
    write_bytes(output, data)


def masked_bytes(
    network: Network,
    masks: Sequence[RetrainMask],
    selection: Mapping[str, Any],
    values: Mapping[str, Array] = _NOTHING,
    set_masks: Mapping[str, NDArray[np.float32]] = _NOTHING,
) -> bytes:
    """Returns the bytes of a masked model; the arguments are those of `write_masked`.

    Raises:
        MaskedModelError: as `write_masked`.
    """
    return _masked(network, masks, selection, values, set_masks)[0]


def _masked(
    network: Network,
    masks: Sequence[RetrainMask],
    selection: Mapping[str, Any],
    values: Mapping[str, Array],
    set_masks: Mapping[str, NDArray[np.float32]],
) -> tuple[bytes, Overwritten]:
    """Returns the bytes of the masked file, and the vendor's file with the values in it."""
    version = REGROWN if values or set_masks else MASKS
    retrain = {m.parameter.name: m.values for m in masks}
    vendor = _vendor_values(network, values)
    require_masks(network, set_masks, SET_SUFFIX)
    require_apart(retrain, set_masks)
    require_changes_within(values, vendor, retrain, set_masks)
    tensors = [numpy_helper.from_array(m.values, m.parameter.name + SUFFIX) for m in masks]
    tensors += [_stored(network, name, array) for name, array in vendor.items()]
    tensors += [
        numpy_helper.from_array(np.asarray(array, np.float32), name + SET_SUFFIX) for name, array in set_masks.items()
    ]
    _require_free_names(network, tensors, version)
    graph = onnx.GraphProto()
    for tensor in tensors:
        graph.initializer.append(tensor)
        if network.file.proto.ir_version < 4:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    entries = [version, json.dumps(selection), network.file.sha256]
    if version == REGROWN:
        entries.append(hash_of_values(vendor))
    start = overwrite_values(network.file, {network.stored_parameters[name]: values[name] for name in vendor})
    metadata = metadata_bytes(dict(zip(KEYS[version], entries)))
    return wire.append_fields(start.data, graph=graph.SerializeToString(), model=metadata), start


def _vendor_values(network: Network, values: Mapping[str, Array]) -> dict[str, Array]:
    """Returns what the vendor has where other values shall be; only of tensors that differ.

    Raises:
        MaskedModelError: a tensor cannot be overwritten, or the new values do not fit it.
    """
    require_fit(network, values)
    vendor = {}
    for name, array in values.items():
        parameter = network.stored_parameters[name]
        stored = parameter.numpy()
        if not differing(array, stored).any():
            continue
        reason = network.why_untrainable(name)
        if reason is not None:
            raise MaskedModelError(f"{name!r} would get new values, but it {reason}")
        _require_own_place(network, parameter)
        vendor[name] = stored
    return vendor


def _require_own_place(network: Network, parameter: Parameter) -> None:
    """Checks that no other tensor lies in the same bytes of an external file, and would change too."""
    if not isinstance(parameter.tensor, ir.ExternalTensor):
        return
    place, begin, end = _extent(parameter.tensor)
    for other in _external_tensors(network):
        if other is not parameter.tensor:
            other_place, other_begin, other_end = _extent(other)
            if other_place == place and other_begin < end and begin < other_end:
                raise MaskedModelError(
                    f"{parameter.name!r} would get new values, but lies in the same bytes of {place!r} as {other.name!r}; "
                    "save the model again with onnx.save, which stores each on its own"
                )


def _external_tensors(network: Network) -> Iterator[ir.ExternalTensor]:
    for value in network.places:
        tensor = ir.convenience.get_const_tensor(value)
        if isinstance(tensor, ir.ExternalTensor):
            yield tensor


def _extent(tensor: ir.ExternalTensor) -> tuple[str, int, int]:
    begin = tensor.offset or 0
    return os.path.normpath(tensor.location), begin, begin + tensor.nbytes


def _stored(network: Network, name: str, array: Array) -> onnx.TensorProto:
    tensor = ir.to_proto(ir.tensor(array, dtype=network.stored_parameters[name].dtype))
    tensor.name = name + VENDOR_SUFFIX
    return tensor


def _require_free_names(network: Network, tensors: Sequence[onnx.TensorProto], version: str) -> None:
    graphs = network.model.graphs()
    taken = {str(v.name) for graph in graphs for v in (*graph.inputs, *graph.initializers.values())}
    strange = [name for name in sorted(taken) if name.endswith(SUFFIXES[REGROWN])] if version == REGROWN else []
    taken.update(str(value.name) for node in network.graph.all_nodes() for value in node.outputs)
    for name in (*(tensor.name for tensor in tensors if tensor.name in taken), *strange):
        raise MaskedModelError(
            f"{network.file.path} has a value {name!r}, as a tensor of a masked model would be called; rename it"
        )
