"""Gated files taken apart, and proved by writing them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.branches import tuned_graph
from tgdonnx.gated_model.detector import Detector
from tgdonnx.gated_model.graph_bytes import graph_of, with_graph
from tgdonnx.gated_model.maps import without_factors
from tgdonnx.gated_model.names import prefix_for
from tgdonnx.gated_model.places import Place, places
from tgdonnx.gated_model.record import KEY, DetectorRecord, Gate, GateRecord, read_gate_record
from tgdonnx.gated_model.writing import OUTPUTS, choose_form, gated, recorded
from tgdonnx.layers import Network


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
    if detector is not None and found.record.detector != recorded(detector):
        return "the numbers of its detector are others than its record says"
    try:
        chosen = choose_form(network, found.tuned)
        if detector is not None and (reason := _why_cannot_look(detector, places(network, found.tuned, chosen))):
            return reason
        again = gated(network, found.tuned, found.gate, chosen, found.record.tgdonnx)
    except ModelFileError as error:
        return str(error)
    return "" if again.data == both.data else _difference(onnx.ModelProto.FromString(again.data), both.proto)


def _why_cannot_look(detector: Detector, where: Sequence[Place]) -> str:
    """Says why gate fits no such detector on this network; nothing if it does."""
    found = [place for place in where if (place.layer, place.value) == (detector.layer, detector.value)]
    if not found:
        return f"its detector looks at {detector.value!r}, in front of {detector.layer!r}, where none can look"
    features = 2 * found[0].maps
    if len(detector.mean) != features:
        return (
            f"its detector is of {len(detector.mean)} features, and in front of {detector.layer!r} there are {features}"
        )
    return ""


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
    if not all(np.isfinite(each).all() for each in (mean, basis, threshold, floor)):
        raise ValueError("the numbers of its detector are not finite")
    return Detector(record.layer, record.value, record.images, mean, basis, float(threshold[0, 0]), float(floor[0]))


def _is_record(field: wire.Field, data: wire.Buffer) -> bool:
    if field.number != wire.METADATA_PROPS:
        return False
    entry = onnx.StringStringEntryProto.FromString(bytes(data[field.value : field.end]))
    return bool(entry.key == KEY)
