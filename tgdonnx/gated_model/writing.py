"""Gated files written, and taken apart again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.branches import outer_names, tuned_graph, why_no_branches, with_branches
from tgdonnx.gated_model.detector import IS_NEW, RESIDUAL, Detector
from tgdonnx.gated_model.detector_copy import copied_up_to
from tgdonnx.gated_model.graph_bytes import OUTPUT, graph_of, info_part, node_parts, tensor_parts, with_graph
from tgdonnx.gated_model.maps import Multiplied, multiplied_maps, with_factors, without_factors
from tgdonnx.gated_model.names import names_in, prefix_for
from tgdonnx.gated_model.paths import multiplied_paths
from tgdonnx.gated_model.record import KEY, DetectorRecord, Form, Gate, GateRecord, is_gated, read_gate_record
from tgdonnx.graphs.operators import STANDARD_DOMAINS
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import metadata_bytes
from tgdonnx.records import earlier_rounds, read_record, round_of, side_paths_of
from tgdonnx.selection.recorded import reinitialization_of
from tgdonnx.tracing import trace_network

OUTPUTS = ("gate_is_new", "gate_residual")
"""The outputs with the detector's decision (bool, one per sample) and residual (float32, one per sample)."""
_OLDEST = 7  # operator set: arithmetic broadcasts


@dataclass(frozen=True)
class Chosen:
    """In which form two networks go into one file.

    Attributes:
        places: what is multiplied by g; empty where there are branches.
        why_branches: why nothing is multiplied; empty where something is.
    """

    places: tuple[Multiplied, ...] = field(repr=False)
    why_branches: str

    @property
    def form(self) -> Form:
        """Its name."""
        return "maps" if self.places else "branches"


def choose_form(network: Network, tuned: ModelFile) -> Chosen:
    """Finds the form: reinitialised maps or side paths are multiplied by g where nothing else is new.

    Else both networks are branches.

    Args:
        network: of the vendor's file.
        tuned: a tuned version of it, with its records.

    Raises:
        ModelFileError: a record of the tuned file cannot be read, or neither form is possible.
    """
    rows: dict[str, list[int]] = {}
    other = ""
    with_paths: list[int] = []
    first = earlier_rounds(network.file.proto)
    for entry in tuned.proto.metadata_props:
        number = round_of(entry.key)
        if number is None or number <= first:
            continue
        try:
            if side_paths_of(entry.value) is not None:
                with_paths.append(number)
                continue
            selection = read_record(entry.value, open_network(tuned) if with_paths else network).selection
        except ValueError as error:
            raise ModelFileError(f"{entry.key!r} in {tuned.path} is no record that tgdonnx wrote: {error}") from error
        told = reinitialization_of(selection)
        if told is None:
            other = f"round {number} is of mode {selection.mode}"
        else:
            for name, some in told.rows.items():
                rows[name] = sorted({*rows.get(name, ()), *some})
    if with_paths and not other and not rows:
        paths = multiplied_paths(open_network(tuned), with_paths)
        if not isinstance(paths, str):
            return Chosen(paths, "")
        other = paths
    elif with_paths:
        other = other or "it has side paths and reinitialised maps"
    if not other and rows:
        found = multiplied_maps(trace_network(network), open_network(tuned), rows)
        if isinstance(found, str):
            other = found
        elif found:
            return Chosen(found, "")
        else:
            other = "nothing reads the reinitialised maps"
    if reason := why_no_branches(network.file.proto, tuned.proto):
        raise ModelFileError(f"{tuned.path} cannot be gated: {reason}", remedy="use both files, one or the other")
    return Chosen((), other or "there is no record of a round")


@dataclass(frozen=True)
class Gated:
    """A gated file that is not written yet.

    Attributes:
        data: its bytes.
        form: how both networks are in it.
    """

    data: bytes = field(repr=False)
    form: Form


def gated(network: Network, tuned: ModelFile, gate: Gate, chosen: Chosen, version: str) -> Gated:
    """Returns the file with both networks.

    Args:
        network: of the vendor's file.
        tuned: a tuned version of it.
        gate: what sets g.
        chosen: the form, for these two files.
        version: of the package that first wrote it, for the record.

    Raises:
        ModelFileError: a name is taken, or the operator set is too old.
    """
    vendor = network.file
    _require_usable(vendor.proto, gate)
    prefix = prefix_for(vendor.proto)
    record = GateRecord(
        1, version, vendor.sha256, tuned.sha256, chosen.form, gate.input, _recorded(gate.detector), gate.outputs
    )
    tensors: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    infos: list[bytes] = []
    g = str(gate.input)
    if gate.input is not None:
        infos.append(
            info_part(wire.GRAPH_INPUT, helper.make_tensor_value_info(gate.input, onnx.TensorProto.FLOAT, [1]))
        )
        if vendor.proto.ir_version >= 4:  # before, an initializer is a constant, and nothing could be given
            tensors.append(numpy_helper.from_array(np.ones(1, np.float32), gate.input))
    graph = graph_of(tuned.data)
    detector = gate.detector
    if detector is not None:
        copies: list[onnx.NodeProto] = []
        looking = detector
        if chosen.form == "branches":
            outer = outer_names(graph_of(vendor.data), graph, prefix)
            looking, copies, more = copied_up_to(vendor.proto.graph, detector, outer, prefix)
            tensors += more
        nodes += [*copies, *looking.nodes(prefix)]
        tensors += [*detector.tensors(prefix), detector.ones(prefix)]
        g = prefix + IS_NEW
        if gate.outputs:
            nodes += _output_nodes(prefix)
            tensors.append(numpy_helper.from_array(np.array([-1], np.int64), prefix + "flat"))
            kinds = (onnx.TensorProto.BOOL, onnx.TensorProto.FLOAT)
            infos += [
                info_part(OUTPUT, helper.make_tensor_value_info(name, kind, [None]))
                for name, kind in zip(OUTPUTS, kinds)
            ]
        if chosen.form == "branches":  # one decision for all samples: the tuned network, if all are new
            nodes.append(helper.make_node("ReduceMin", [g], [prefix + "all_new"], prefix + "all_new", keepdims=0))
            g = prefix + "all_new"
        if gate.input is not None:
            nodes.append(helper.make_node("Mul", [gate.input, g], [prefix + "g"], prefix + "g"))
            g = prefix + "g"
    if chosen.form == "maps":
        fields = with_factors(graph, chosen.places, g, nodes, prefix)
    else:
        condition = prefix + "is_tuned"
        nodes.append(helper.make_node("Greater", [g, prefix + "half"], [condition], condition))
        tensors.append(numpy_helper.from_array(np.array([0.5], np.float32), prefix + "half"))
        around, choice = with_branches(graph_of(vendor.data), graph, condition, prefix)
        fields = [*around, *node_parts(nodes), choice]
    fields += [*tensor_parts(tensors), *infos]
    data = with_graph(tuned.data, fields, metadata_bytes({KEY: record.text()}))
    return Gated(data, chosen.form)


def _output_nodes(prefix: str) -> list[onnx.NodeProto]:
    """Returns nodes that give out decision and residual, one of each for every sample."""
    is_new, residual = OUTPUTS
    flat = prefix + "flat"
    return [
        helper.make_node("Reshape", [prefix + "is_less", flat], [is_new], is_new),
        helper.make_node("Reshape", [prefix + RESIDUAL, flat], [residual], residual),
    ]


def _recorded(detector: Optional[Detector]) -> Optional[DetectorRecord]:
    if detector is None:
        return None
    threshold = float(np.float32(detector.threshold))
    return DetectorRecord(detector.layer, detector.value, detector.images, threshold, detector.sha256)


def _require_usable(proto: onnx.ModelProto, gate: Gate) -> None:
    taken = names_in(proto)
    wanted = [] if gate.input is None else [gate.input]
    wanted += OUTPUTS if gate.outputs else ()
    for name in wanted:
        if name in taken:
            raise ModelFileError(f"the model has a value {name!r} already", remedy="choose another name for the input")
    opset = max((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), default=1)
    if opset < _OLDEST:
        raise ModelFileError(
            f"the model is of operator set {opset}; a gate needs {_OLDEST} or newer", remedy="export the model again"
        )


@dataclass(frozen=True)
class TakenApart:
    """What a gated file consists of.

    Attributes:
        record: what it says of itself.
        gate: what sets g.
        tuned: the tuned file, at the gated one's path.
    """

    record: GateRecord
    gate: Gate
    tuned: ModelFile


def take_apart(vendor: ModelFile, both: ModelFile) -> TakenApart:
    """Returns the tuned file and what was added to it; whether the file is nothing but that, `why_not_gated` says.

    Args:
        vendor: the vendor's file.
        both: the gated one.

    Raises:
        ValueError: it was not written by gate for this vendor's file.
        ModelFileError: it is damaged.
    """
    record = read_gate_record(both.proto)
    if record.base_sha256 != vendor.sha256:
        raise ValueError(f"its record is of another file than {vendor.path}")
    prefix = prefix_for(vendor.proto)
    detector = None if record.detector is None else _read_detector(both.proto, record.detector, prefix)
    graph = graph_of(both.data)
    if record.form == "maps":
        added = {record.input, *(OUTPUTS if record.outputs else ())} - {None}
        fields = without_factors(graph, prefix, {str(name) for name in added})
    else:
        fields = tuned_graph(graph_of(vendor.data), graph, prefix)
    data = wire.remove_fields(with_graph(both.data, fields), graph=lambda *_: False, model=_is_record)
    try:
        tuned = ModelFile(both.path, data, onnx.ModelProto.FromString(data))
    except DecodeError as error:
        raise ValueError("what is left without its additions is no model") from error
    return TakenApart(record, Gate(record.input, detector, record.outputs), tuned)


def why_not_gated(network: Network, both: ModelFile, found: TakenApart) -> str:
    """Says why a file is not what `gated` writes of its parts; nothing if it is, byte for byte.

    Args:
        network: of the vendor's file.
        both: the gated file.
        found: its parts; the tuned file in it is proved to be one.
    """
    if found.tuned.sha256 != found.record.tuned_sha256:
        return "the tuned network in it is another than its record says"
    detector = found.gate.detector
    if detector is not None and found.record.detector != _recorded(detector):
        return "the numbers of its detector are others than its record says"
    try:
        again = gated(network, found.tuned, found.gate, choose_form(network, found.tuned), found.record.tgdonnx)
    except ModelFileError as error:
        return str(error)
    return "" if again.data == both.data else _difference(onnx.ModelProto.FromString(again.data), both.proto)


def _difference(expected: onnx.ModelProto, found: onnx.ModelProto) -> str:
    """Says in words where a gated file is not what it should be."""
    for kind in ("node", "initializer", "input", "output"):
        wanted, there = ({_label(each): each for each in getattr(m.graph, kind)} for m in (expected, found))
        for name in {**wanted, **there}:
            if wanted.get(name) != there.get(name):
                how = "is missing" if name not in there else "was added" if name not in wanted else "was changed"
                return f"the {kind} {name!r} {how}"
    if expected.graph != found.graph:
        return "the graph is not the one that follows from both networks"
    return "the file is not the one that follows from both networks and its record"


def _label(each: Union[onnx.NodeProto, onnx.TensorProto, onnx.ValueInfoProto]) -> str:
    return str(each.name or (each.output[0] if isinstance(each, onnx.NodeProto) and each.output else ""))


def _read_detector(proto: onnx.ModelProto, record: DetectorRecord, prefix: str) -> Detector:
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    try:
        mean, basis, threshold, floor = (
            numpy_helper.to_array(stored[prefix + name]) for name in ("mean", "basis", "threshold", "floor")
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"a number of its detector is missing or damaged ({error})") from error
    shapes_fit = basis.ndim == 2 and mean.shape == basis.shape[:1] and threshold.shape == (1, 1) and floor.shape == (1,)
    if not shapes_fit or any(each.dtype != np.float32 for each in (mean, basis, threshold, floor)):
        raise ValueError("the numbers of its detector are of other shapes or types than gate writes")
    return Detector(record.layer, record.value, record.images, mean, basis, float(threshold[0, 0]), float(floor[0]))


def _is_record(field: wire.Field, data: wire.Buffer) -> bool:
    if field.number != wire.METADATA_PROPS:
        return False
    entry = onnx.StringStringEntryProto.FromString(bytes(data[field.value : field.end]))
    return bool(entry.key == KEY)


def require_ungated(file: ModelFile) -> None:
    """Checks that a model is not gated.

    Raises:
        ModelFileError: it is.
    """
    if is_gated(file.proto):
        raise ModelFileError(
            f"{file.path} is gated already: it holds two networks", remedy="use the files it was made of"
        )
