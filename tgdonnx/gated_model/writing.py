"""Gated files written; `tgdonnx.gated_model.reading` takes them apart again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.branches import outer_names, side_paths_added, why_no_branches, with_branches
from tgdonnx.gated_model.detector import IS_NEW, RESIDUAL, Detector
from tgdonnx.gated_model.detector_copy import copied_up_to
from tgdonnx.gated_model.graph_bytes import OUTPUT, graph_of, info_part, node_parts, tensor_parts, with_graph
from tgdonnx.gated_model.maps import Multiplied, multiplied_maps, with_factors
from tgdonnx.gated_model.names import names_in, prefix_for
from tgdonnx.gated_model.paths import multiplied_paths
from tgdonnx.gated_model.record import KEY, DetectorRecord, Form, Gate, GateRecord, is_gated
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
    if side_paths_added(network.file.proto, tuned.proto):
        raise ModelFileError(
            f"{tuned.path} cannot be gated: {other}; both networks would become branches, which must have the same layers, and "
            "the tuned one has side paths besides",
            remedy="name as the vendor's the file that has the side paths, or export these merged before further rounds",
        )
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
    prefix = prefix_for(vendor.proto)
    _require_usable(vendor.proto, tuned.proto, gate, prefix)
    record = GateRecord(
        1, version, vendor.sha256, tuned.sha256, chosen.form, gate.input, recorded(gate.detector), gate.outputs
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


def recorded(detector: Optional[Detector]) -> Optional[DetectorRecord]:
    """Returns what a record says of a detector."""
    if detector is None:
        return None
    threshold = float(np.float32(detector.threshold))
    return DetectorRecord(detector.layer, detector.value, detector.images, threshold, detector.sha256)


def _require_usable(proto: onnx.ModelProto, tuned: onnx.ModelProto, gate: Gate, prefix: str) -> None:
    taken = names_in(proto) | names_in(tuned)
    outputs = OUTPUTS if gate.outputs else ()
    if gate.input is not None:
        reason = ""
        if not gate.input:
            reason = "an input without a name cannot be given"
        elif gate.input in taken:
            reason = f"the model has a value {gate.input!r} already"
        elif gate.input in outputs or gate.input.startswith(prefix):
            reason = f"{gate.input!r} is a name of what gate adds itself"
        if reason:
            raise ModelFileError(reason, remedy="choose another name for the input")
    for name in outputs:
        if name in taken:
            raise ModelFileError(f"the model has a value {name!r} already", remedy="leave out the detector's outputs")
    opset = max((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), default=1)
    if opset < _OLDEST:
        raise ModelFileError(
            f"the model is of operator set {opset}; a gate needs {_OLDEST} or newer", remedy="export the model again"
        )


def require_ungated(file: ModelFile) -> None:
    """Checks that a model is not gated.

    Raises:
        ModelFileError: it is.
    """
    if is_gated(file.proto):
        raise ModelFileError(
            f"{file.path} is gated already: it holds two networks", remedy="use the files it was made of"
        )
