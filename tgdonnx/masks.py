"""The masked model: the vendor's file with retrain masks in it.

Format 1. To the bytes of the vendor's file are added, and nothing else changes:

- at the end of the graph, for every retrainable tensor ``p`` an initializer ``p.retrain_mask``: float32, 1 where ``p``
  trains and 0 where it is frozen, of a shape that broadcasts against ``p``: ``[M, 1, ...]`` for the weight of a layer with
  M filters, ``[M, C / group, 1, ...]`` where masks are per kernel, ``[M]`` for one number per map. No node reads them. In
  files of IR version 3, which want every initializer among the graph's inputs, they are listed there too.
- at the end of the file, the metadata ``tgdonnx.format`` ("1"), ``tgdonnx.selection`` (JSON: what was asked for) and
  ``tgdonnx.base_sha256`` (of the vendor's file, in hex).

Taking these away gives the vendor's file back, byte for byte. A masked model is invalid if that does not give
``base_sha256``, if a mask belongs to no tensor, does not broadcast against it or holds anything but 0 and 1, or if the
format is newer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tgdonnx import wire
from tgdonnx.errors import MaskedModelError
from tgdonnx.layers import Network, open_network
from tgdonnx.modelfile import ModelFile, StrPath, copy_external_data, load_model, require_writable, write_bytes
from tgdonnx.provenance import earlier_rounds, trained_before
from tgdonnx.selection import Mode, RetrainMask, Strategy, plan_masks, protect_trained, select
from tgdonnx.tracing import trace_network

FORMAT = 1
SUFFIX = ".retrain_mask"
_KEYS = ("tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256")
_TENSOR_NAME, _VALUE_INFO_NAME = 8, 1


@dataclass(frozen=True)
class ParameterMask:
    """What of one tensor trains.

    Attributes:
        name: the tensor, by its name in the vendor's file.
        node: the node that it belongs to.
        filters: how many filters (rows) it has.
        retrain: the filters that train whole.
        maps: the input maps whose kernels train in every row.
        note: why filters that were selected stay frozen; empty if none do.
    """

    name: str
    node: str
    filters: int
    retrain: tuple[int, ...]
    maps: tuple[int, ...]
    note: str


@dataclass(frozen=True)
class MaskReport:
    """What a masked model trains.

    Attributes:
        selection: the strategy, its parameters and the mode.
        params: every retrainable tensor.
        rho: the fraction of the elements of the retrainable tensors that train, in [0, 1].
    """

    selection: Mapping[str, Any]
    params: tuple[ParameterMask, ...]
    rho: float


@dataclass(frozen=True)
class MaskedModel:
    """A masked model, checked.

    Attributes:
        file: the masked file.
        base: the vendor's file, taken out of it; its hash is the recorded one.
        selection: what was asked for.
        network: the same, opened for analysis.
        masks: for the name of each retrainable tensor its retrain mask, float32.
    """

    file: ModelFile
    base: ModelFile
    network: Network = field(repr=False)
    selection: Mapping[str, Any]
    masks: Mapping[str, NDArray[np.float32]] = field(repr=False)


def mask(
    model: StrPath,
    output: StrPath,
    strategy: Strategy,
    *,
    mode: Mode = "paper",
    protect: bool = False,
    overwrite: bool = False,
) -> MaskReport:
    """Selects filters and writes a masked model.

    Args:
        model: the vendor's file.
        output: the masked model to write.
        strategy: which filters to retrain.
        mode: ``paper``: masks per filter; ``readers``: also the kernels that read a meaningless map, in every filter.
        protect: whether what an earlier round trained stays as it is; the records in ``model`` say what that is.
        overwrite: whether ``output`` may exist.

    Raises:
        ModelFileError: no usable model.
        MaskedModelError: it is masked already, or uses the name that a mask would have, or a record of an earlier round that
            is to be protected is damaged.
        SelectionError: the selection is wrong or selects nothing.
        OutputError: ``output`` cannot be written.
    """
    output = require_writable(output, overwrite=overwrite, keep=model)
    network = open_network(model)
    require_unmasked(network.file)
    provenance = trace_network(network)
    selection = select(provenance, strategy)
    masks = plan_masks(provenance, selection, mode)
    if protect:
        masks = protect_trained(masks, trained_before(network), network)
    _require_free_names(network, masks)
    record = {**selection.strategy, "mode": mode, "round": 1 + earlier_rounds(network.file.proto)}
    if protect:
        record["protect"] = True
    copy_external_data(network.file, output, overwrite=overwrite)
    write_bytes(output, masked_bytes(network, masks, record))
    return describe(masks, record)


def describe(masks: Sequence[RetrainMask], selection: Mapping[str, Any]) -> MaskReport:
    """Returns what the masks train, as a report."""
    params = tuple(
        ParameterMask(
            m.parameter.name,
            m.node,
            len(m.filters),
            tuple(int(i) for i in np.flatnonzero(m.filters)),
            tuple(int(i) for i in np.flatnonzero(m.maps)),
            m.note or "",
        )
        for m in masks
    )
    total = sum(int(np.prod(m.parameter.shape)) for m in masks)
    return MaskReport(selection, params, sum(m.trained_elements for m in masks) / total)


def masked_bytes(network: Network, masks: Sequence[RetrainMask], selection: Mapping[str, Any]) -> bytes:
    """Returns the vendor's file with the masks in it."""
    graph = onnx.GraphProto()
    for m in masks:
        tensor = numpy_helper.from_array(m.values, m.parameter.name + SUFFIX)
        graph.initializer.append(tensor)
        if network.file.proto.ir_version < 4:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    values = (str(FORMAT), json.dumps(selection), network.file.sha256)
    return wire.append_fields(
        network.file.data, graph=graph.SerializeToString(), model=metadata_bytes(dict(zip(_KEYS, values)))
    )


def metadata_bytes(entries: Mapping[str, str]) -> bytes:
    """Returns serialised metadata, to be added at the end of a model."""
    model = onnx.ModelProto()
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def is_masked(file: ModelFile) -> bool:
    """Whether a file says of itself that it is a masked model."""
    return any(entry.key in _KEYS for entry in file.proto.metadata_props)


def require_unmasked(file: ModelFile) -> None:
    """Checks that a model is no masked one.

    Raises:
        MaskedModelError: it is.
    """
    names = [tensor.name for tensor in file.proto.graph.initializer if tensor.name.endswith(SUFFIX)]
    if names or any(entry.key in _KEYS for entry in file.proto.metadata_props):
        raise MaskedModelError(f"{file.path} has retrain masks already; start from the vendor's file")


def read_masked(path: StrPath) -> MaskedModel:
    """Reads a masked model and takes the vendor's file out of it.

    Raises:
        ModelFileError: no ONNX model.
        MaskedModelError: it has no masks, or they do not belong to it.
    """
    file = load_model(path)
    metadata = {entry.key: entry.value for entry in file.proto.metadata_props}
    if not all(key in metadata for key in _KEYS):
        raise MaskedModelError(f"{file.path} has no retrain masks; make them with `tgdonnx mask`")
    if metadata[_KEYS[0]] != str(FORMAT):
        raise MaskedModelError(
            f"{file.path} has masks of format {metadata[_KEYS[0]]}; this version reads format {FORMAT}: update tgdonnx"
        )
    masks = {
        tensor.name[: -len(SUFFIX)]: _read_mask(tensor, file)
        for tensor in file.proto.graph.initializer
        if tensor.name.endswith(SUFFIX)
    }
    selection = _read_selection(metadata[_KEYS[1]], file)
    data = wire.remove_fields(file.data, graph=_is_mask, model=_is_mask_metadata)
    if hashlib.sha256(data).hexdigest() != metadata[_KEYS[2]]:
        raise MaskedModelError(f"{file.path} without its masks is not the file that was masked; mask it again")
    base = ModelFile(file.path, data, onnx.ModelProto.FromString(data))
    network = open_network(base)
    _check_masks(network, masks)
    return MaskedModel(file, base, network, selection, masks)


def _read_mask(tensor: onnx.TensorProto, file: ModelFile) -> NDArray[np.float32]:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        names = onnx.TensorProto.DataType
        kind = names.Name(tensor.data_type) if tensor.data_type in names.values() else tensor.data_type
        raise MaskedModelError(f"{tensor.name!r} in {file.path} is of type {kind}; expected FLOAT")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise MaskedModelError(f"{tensor.name!r} in {file.path} is external data; expected it in the file")
    try:
        return numpy_helper.to_array(tensor)
    except ValueError as error:
        raise MaskedModelError(f"{tensor.name!r} in {file.path} cannot be read: {error}; mask it again") from error


def _read_selection(text: str, file: ModelFile) -> dict[str, Any]:
    try:
        selection = json.loads(text)
    except ValueError as error:
        raise MaskedModelError(f"{_KEYS[1]!r} in {file.path} is no JSON: {error}; mask it again") from error
    if not isinstance(selection, dict):
        raise MaskedModelError(f"{_KEYS[1]!r} in {file.path} is {text[:40]}; expected a JSON object; mask it again")
    return selection


def _require_free_names(network: Network, masks: Sequence[RetrainMask]) -> None:
    graphs = network.model.graphs()
    taken = {v.name for graph in graphs for v in (*graph.inputs, *graph.initializers.values())}
    taken.update(value.name for node in network.graph.all_nodes() for value in node.outputs)
    for m in masks:
        if m.parameter.name + SUFFIX in taken:
            name = m.parameter.name + SUFFIX
            raise MaskedModelError(
                f"{network.file.path} has a value {name!r}, as the mask of {m.parameter.name!r} would be called; rename it"
            )


def _check_masks(network: Network, masks: Mapping[str, NDArray[np.float32]]) -> None:
    shapes = {name: parameter.shape for name, parameter in network.stored_parameters.items()}
    for name, values in masks.items():
        if name not in shapes:
            raise MaskedModelError(
                f"{name + SUFFIX!r} belongs to no tensor: there is no {name!r} in {network.file.path}"
            )
        if values.ndim != len(shapes[name]) or any(m not in (1, d) for m, d in zip(values.shape, shapes[name])):
            raise MaskedModelError(
                f"{name + SUFFIX!r} has shape {list(values.shape)}, which does not broadcast against {list(shapes[name])}"
            )
        if not np.isin(values, (0, 1)).all():
            raise MaskedModelError(f"{name + SUFFIX!r} holds {values[~np.isin(values, (0, 1))][0]}; expected 0 or 1")


def _is_mask(field: wire.Field, data: wire.Buffer) -> bool:
    number = {wire.INITIALIZER: _TENSOR_NAME, wire.GRAPH_INPUT: _VALUE_INFO_NAME}.get(field.number)
    return number is not None and _text(field, data, number).endswith(SUFFIX)


def _is_mask_metadata(field: wire.Field, data: wire.Buffer) -> bool:
    return field.number == wire.METADATA_PROPS and _text(field, data, wire.ENTRY_KEY) in _KEYS


def _text(message: wire.Field, data: wire.Buffer, number: int) -> str:
    inner = wire.fields(data, wire.Span(message.value, message.end))
    return next((bytes(data[f.value : f.end]).decode("utf-8", "replace") for f in inner if f.number == number), "")
