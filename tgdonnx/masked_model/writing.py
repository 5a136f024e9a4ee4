"""Write a masked model: masks, and for what is reinitialised the values that training starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from tgdonnx.errors import MaskedModelError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.model_writing import require_data_writable, write_model
from tgdonnx.files.relocation import entries_in, entries_of, require_reversible, with_entries
from tgdonnx.layers import Network
from tgdonnx.masked_model.additions import (
    ADAPTED,
    EXTERNAL_KEY,
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
from tgdonnx.masked_model.checks import require_apart, require_changes_within, require_fit, require_masks
from tgdonnx.overwriting import Overwritten, differing, overwrite_values
from tgdonnx.selection import RetrainMask

Array = NDArray[Any]
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_ANY = "masked.onnx.data"


def write_masked(
    network: Network,
    masks: Sequence[RetrainMask],
    selection: Mapping[str, Any],
    output: Path,
    *,
    values: Mapping[str, Array] = _NOTHING,
    set_masks: Mapping[str, NDArray[np.float32]] = _NOTHING,
    vendor: Optional[ModelFile] = None,
    overwrite: bool = False,
) -> None:
    """Writes a masked model, with external data of its own beside it if the vendor's has some.

    Args:
        network: the vendor's model, in mode ``adapter`` with side paths in it.
        masks: of all retrainable tensors.
        selection: what was asked for, for the record.
        output: the masked model to write.
        values: for the names of tensors that do not start from the vendor's values, what they start from: whole, of the
            stored type and shape. They may differ from the vendor's where a mask is 1.
        set_masks: for names of tensors, which of their elements keep the value of ``values``: float32, 0 or 1, broadcasting.
        vendor: in mode ``adapter`` the vendor's file, without side paths.
        overwrite: whether external data of an earlier ``output`` may be overwritten.

    Raises:
        MaskedModelError: the model uses a name that a mask would have; or values and masks do not go together.
        ModelFileError: external data is missing.
        OutputError: it cannot be written there.
    """
    additions, start = _masked(network, masks, selection, values, set_masks, vendor)
    require_data_writable(output, network.file, overwrite=overwrite)
    write_model(network.file, output, lambda name: additions.to(network.file, start.data, name), changes=start.external)


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
    additions, start = _masked(network, masks, selection, values, set_masks)
    return additions.to(network.file, start.data, _ANY if network.file.outside else None)


@dataclass(frozen=True)
class _Additions:
    """What a masked file has besides the vendor's: serialised fields of its graph, and its metadata."""

    graph: bytes
    metadata: Mapping[str, str]

    def to(self, vendor: ModelFile, start: bytes, location: Optional[str]) -> bytes:
        """Returns a masked file.

        Args:
            vendor: the vendor's file.
            start: its bytes, with the values to start from.
            location: the file for its external data; None if it has none.
        """
        if location is None:
            return wire.append_fields(start, graph=self.graph, model=metadata_bytes(self.metadata))
        require_reversible(vendor.data, vendor.proto, vendor.outside, vendor.path)
        moved = with_entries(start, entries_in(location, vendor.outside))
        theirs = list(entries_of(vendor.proto, vendor.outside).values())
        metadata = {**self.metadata, EXTERNAL_KEY: json.dumps(theirs)}
        return wire.append_fields(moved, graph=self.graph, model=metadata_bytes(metadata))


def _masked(
    network: Network,
    masks: Sequence[RetrainMask],
    selection: Mapping[str, Any],
    values: Mapping[str, Array],
    set_masks: Mapping[str, NDArray[np.float32]],
    without_paths: Optional[ModelFile] = None,
) -> tuple[_Additions, Overwritten]:
    """Returns what is added to the vendor's file, and that file with the values in it."""
    version = REGROWN if values or set_masks else MASKS if without_paths is None else ADAPTED
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
    entries = [version, json.dumps(selection), (without_paths or network.file).sha256]
    if version == REGROWN:
        entries.append(hash_of_values(vendor))
    start = overwrite_values(network.file, {network.stored_parameters[name]: values[name] for name in vendor})
    return _Additions(graph.SerializeToString(), dict(zip(KEYS[version], entries))), start


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
        vendor[name] = stored
    return vendor


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
            f"{network.file.path} has a value {name!r}, as a tensor of a masked model would be called",
            remedy="rename it",
        )
