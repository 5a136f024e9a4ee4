"""Read a masked model, and take the vendor's file out of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.adapting import Adapted, adapt_as_recorded, narrow
from tgdonnx.errors import MaskedModelError, SelectionError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile, ModelSource, load_model, require_external_data
from tgdonnx.files.relocation import Entries, with_entries
from tgdonnx.layers import Layer, Network, open_network
from tgdonnx.layers.consistency import require_data
from tgdonnx.masked_model.additions import (
    ADAPTED,
    BASE_KEY,
    EXTERNAL_KEY,
    FORMAT_KEY,
    KEYS,
    MASKS,
    REGROWN,
    SELECTION_KEY,
    SET_SUFFIX,
    SUFFIX,
    VENDOR_KEY,
    VENDOR_SUFFIX,
    hash_of_values,
    without_additions,
)
from tgdonnx.masked_model.checks import require_apart, require_changes_within, require_fit, require_masks
from tgdonnx.overwriting import overwrite_values
from tgdonnx.selection.recorded import read_selection

Array = NDArray[Any]


@dataclass(frozen=True)
class MaskedModel:
    """A masked model, checked.

    Attributes:
        file: the masked file.
        base: the vendor's file, taken out of it; its hash is the recorded one. It names external data as the vendor does, which
            is not beside the masked file: see `runnable_vendor`.
        start: the file that training starts from: the vendor's, but for what was reinitialised, side paths, and for the names
            of external data, which are those of the masked file.
        network: the start, opened for analysis.
        selection: what was asked for.
        masks: for the name of each retrainable tensor its retrain mask, float32.
        set_masks: for names of tensors the mask of elements that keep the value of the start and do not train, float32.
        vendor_values: for the name of each tensor that does not start from the vendor's values, those, as stored.
        adapted: in mode ``adapter`` the side paths.
    """

    file: ModelFile
    base: ModelFile
    start: ModelFile
    network: Network = field(repr=False)
    selection: Mapping[str, Any]
    masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    set_masks: Mapping[str, NDArray[np.float32]] = field(repr=False)
    vendor_values: Mapping[str, Array] = field(repr=False)
    adapted: Optional[Adapted] = field(repr=False, default=None)

    def fractions(self, layer: Layer) -> NDArray[np.float64]:
        """Returns how much of each filter of a layer of the network trains: float64 of shape (filters,), in [0, 1]."""
        name = layer.weight.name if layer.weight is not None else ""
        if name not in self.masks:
            return np.zeros(layer.filters)
        # Both broadcast against the tensor; what neither tells apart counts once, so nothing of the tensor's size is made.
        trains, rows = np.broadcast_arrays(self.masks[name], self.network.filter_index(name))
        counts = np.bincount(rows.reshape(-1), minlength=layer.filters)
        return np.bincount(rows.reshape(-1), trains.reshape(-1), minlength=layer.filters) / np.maximum(counts, 1)


def read_masked(source: ModelSource) -> MaskedModel:
    """Reads a masked model and takes the vendor's file out of it.

    Raises:
        ModelFileError: no ONNX model.
        MaskedModelError: it has no masks, or they do not belong to it.
    """
    file = load_model(source)
    metadata = {entry.key: entry.value for entry in file.proto.metadata_props}
    keys = [entry.key for entry in file.proto.metadata_props if entry.key in (*KEYS[REGROWN], EXTERNAL_KEY)]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MaskedModelError(f"{file.path} has the metadata {twice!r} twice", remedy="mask the vendor's file again")
    if not all(key in metadata for key in KEYS[MASKS]):
        raise MaskedModelError(f"{file.path} has no retrain masks", remedy="make them with `tgdonnx.mask`")
    version = metadata[FORMAT_KEY]
    if version not in KEYS:
        raise MaskedModelError(
            f"{file.path} has masks of format {version}; this version reads formats {MASKS} to {ADAPTED}: update tgdonnx"
        )
    masks = _read_masks(file, SUFFIX)
    selection = _read_selection(metadata[SELECTION_KEY], file)
    data = without_additions(file.data, version)
    start = ModelFile(file.path, data, onnx.ModelProto.FromString(data))
    theirs = _read_entries(metadata.get(EXTERNAL_KEY), start)
    if version == MASKS:
        base = _with_names(start, theirs)
        _require_hash(base.data, metadata[BASE_KEY], file)
        network = open_network(start)
        require_masks(network, masks, SUFFIX)
        return MaskedModel(file, base, start, network, selection, masks, {}, {})
    if version == ADAPTED:
        return _read_adapted(file, start, _with_names(start, theirs), metadata[BASE_KEY], selection, masks)
    set_masks = _read_masks(file, SET_SUFFIX)
    vendor = {name: _read_tensor(tensor, file) for name, tensor in _tensors(file, VENDOR_SUFFIX).items()}
    network = open_network(start)
    require_external_data(start)
    require_fit(network, vendor, VENDOR_SUFFIX)
    require_masks(network, masks, SUFFIX)
    require_masks(network, set_masks, SET_SUFFIX)
    _require_writable(network, {*vendor, *set_masks})
    base = _with_names(with_vendor_values(network, vendor), theirs)
    _require_hash(base.data, metadata[BASE_KEY], file)
    if metadata.get(VENDOR_KEY) != hash_of_values(vendor):
        raise MaskedModelError(
            f"the vendor's values in {file.path} are not those that were put there",
            remedy="mask the vendor's file again",
        )
    require_apart(masks, set_masks)
    values = {name: network.stored_parameters[name].numpy() for name in vendor}
    require_changes_within(values, vendor, masks, set_masks)
    return MaskedModel(file, base, start, network, selection, masks, set_masks, vendor)


def _read_adapted(
    file: ModelFile,
    start: ModelFile,
    named: ModelFile,
    base_sha256: str,
    selection: Mapping[str, Any],
    masks: Mapping[str, NDArray[np.float32]],
) -> MaskedModel:
    """Takes the side paths out, and puts them in again: they must be those of the selection, to the bit.

    Args:
        file: the masked file.
        start: it, without masks.
        named: the same, saying of external data what the vendor's file says.
        base_sha256: of the vendor's file.
        selection: what was asked for.
        masks: the retrain masks.
    """
    try:
        asked = read_selection(selection)
        if asked.mode != "adapter":
            raise ValueError(f"the mode is {asked.mode}")
    except ValueError as error:
        raise MaskedModelError(
            f"{file.path} has side paths, but its selection is none of mode adapter: {error}", remedy="mask it again"
        ) from error
    base, vendor = (_parsed(file, narrow(each.data, asked.round)) for each in (named, start))
    _require_hash(base.data, base_sha256, file)
    try:
        adapted = adapt_as_recorded(open_network(vendor), asked)
    except SelectionError as error:
        raise MaskedModelError(
            f"the selection in {file.path} cannot be carried out: {error}", remedy="mask it again"
        ) from error
    if adapted.network.file.data != start.data:
        raise MaskedModelError(
            f"the side paths in {file.path} are not those of its selection", remedy="mask the vendor's file again"
        )
    network = adapted.network
    require_masks(network, masks, SUFFIX)
    for name, values in masks.items():
        if values.any() and name not in adapted.added:
            raise MaskedModelError(
                f"{name + SUFFIX!r} lets something train, but in mode adapter only side paths do",
                remedy="mask it again",
            )
    return MaskedModel(file, base, network.file, network, selection, masks, {}, {}, adapted)


def _parsed(file: ModelFile, data: bytes) -> ModelFile:
    return ModelFile(file.path, data, onnx.ModelProto.FromString(data))


def _require_writable(network: Network, names: Iterable[str]) -> None:
    for name in sorted(names):
        reason = network.why_untrainable(name)
        if reason is not None:
            raise MaskedModelError(
                f"{network.file.path} has other values than the vendor's for {name!r}, but it {reason}"
            )


def with_vendor_values(network: Network, vendor: Mapping[str, Array]) -> ModelFile:
    """Returns the start with the vendor's values in it again, but for those in external data."""
    parameters = network.stored_parameters
    data = overwrite_values(network.file, {parameters[name]: values for name, values in vendor.items()}).data
    return ModelFile(network.file.path, data, onnx.ModelProto.FromString(data))


def _read_entries(text: Optional[str], file: ModelFile) -> Mapping[wire.FieldPath, Entries]:
    """Returns what the vendor's file says of its external tensors; nothing if the masked file says the same.

    Raises:
        MaskedModelError: the record of it is damaged.
    """
    if text is None:
        return {}
    try:
        found = [[(str(key), str(value)) for key, value in entries] for entries in json.loads(text)]
        if len(found) != len(file.outside):
            raise ValueError(f"it has {len(found)} entries for {len(file.outside)} external tensors")
    except (ValueError, TypeError, RecursionError) as error:
        raise MaskedModelError(
            f"{EXTERNAL_KEY!r} in {file.path} is damaged ({error})", remedy="mask the vendor's file again"
        ) from error
    return {tensor.path: entries for tensor, entries in zip(file.outside, found)}


def _with_names(file: ModelFile, entries: Mapping[wire.FieldPath, Entries]) -> ModelFile:
    """Returns a file that says of its external tensors what it is told."""
    if not entries:
        return file
    data = with_entries(file.data, entries)
    return ModelFile(file.path, data, onnx.ModelProto.FromString(data))


def _require_hash(data: bytes, expected: str, file: ModelFile) -> None:
    if hashlib.sha256(data).hexdigest() != expected:
        raise MaskedModelError(f"{file.path} without its masks is not the file that was masked", remedy="mask it again")


def _tensors(file: ModelFile, suffix: str) -> dict[str, onnx.TensorProto]:
    """Returns the added tensors of a kind by the names of those that they are for."""
    found: dict[str, onnx.TensorProto] = {}
    for tensor in file.proto.graph.initializer:
        if not isinstance(tensor.name, str):  # protobuf gives bytes where a file does not hold text
            raise MaskedModelError(
                f"{file.path} holds {tensor.name!r} where a name should be", remedy="mask the vendor's file again"
            )
        name = tensor.name[: -len(suffix)]
        if tensor.name.endswith(suffix):
            if name in found:
                raise MaskedModelError(f"{file.path} has {tensor.name!r} twice", remedy="mask the vendor's file again")
            found[name] = tensor
    return found


def _read_masks(file: ModelFile, suffix: str) -> dict[str, NDArray[np.float32]]:
    masks = {}
    for name, tensor in _tensors(file, suffix).items():
        if tensor.data_type != onnx.TensorProto.FLOAT:
            names = onnx.TensorProto.DataType
            kind = names.Name(tensor.data_type) if tensor.data_type in names.values() else tensor.data_type
            raise MaskedModelError(f"{tensor.name!r} in {file.path} is of type {kind}; expected FLOAT")
        masks[name] = _read_tensor(tensor, file)
    return masks


def _read_tensor(tensor: onnx.TensorProto, file: ModelFile) -> Array:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise MaskedModelError(f"{tensor.name!r} in {file.path} is external data; expected it in the file")
    require_data(tensor, file)
    array: Array = ir.serde.deserialize_tensor(tensor).numpy()
    return array


def _read_selection(text: str, file: ModelFile) -> dict[str, Any]:
    try:
        selection = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MaskedModelError(
            f"{SELECTION_KEY!r} in {file.path} is no JSON: {error}", remedy="mask it again"
        ) from error
    if not isinstance(selection, dict):
        raise MaskedModelError(
            f"{SELECTION_KEY!r} in {file.path} is {text[:40]}; expected a JSON object; mask it again"
        )
    return selection
