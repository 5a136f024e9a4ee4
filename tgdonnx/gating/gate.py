"""The vendor's network and a tuned one in one file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Optional

import onnx

from tgdonnx.data import DataOptions, DataSource
from tgdonnx.errors import DataError, ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile, ModelSource, StrPath, load_model, require_external_data
from tgdonnx.files.model_writing import require_data_writable, write_model
from tgdonnx.files.outputs import Kind, Output, require_outputs
from tgdonnx.gated_model.places import Place, places
from tgdonnx.gated_model.reading import take_apart
from tgdonnx.gated_model.record import Form, Gate
from tgdonnx.gated_model.writing import Chosen, choose_form, gated, require_ungated
from tgdonnx.gating.features import Moments, moments_at
from tgdonnx.gating.fitting import ACCEPT, require_enough, require_share
from tgdonnx.gating.separation import Judged, Separation, first_that_separates
from tgdonnx.gating.telling import remarks_on
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import metadata_bytes, require_unmasked
from tgdonnx.presenting import Presented
from tgdonnx.records import earlier_rounds, record_key
from tgdonnx.runtime import CPU_NAME, Device, usable_device
from tgdonnx.sweeping.running import Samples, open_samples
from tgdonnx.verifying.allowed_changes import is_record_since, records_are_plain
from tgdonnx.verifying.verification import verify_files

_MOST = 512
"""So many inputs of a kind are looked at, spread evenly over the data."""
_FURTHEST = 8
"""How many places are looked at: a detector is to be cheap, and those further back cost more."""


@dataclass(frozen=True, repr=False)
class GateData(Presented):
    """What a detector is fitted on and judged by; a ``target`` in it is ignored.

    Attributes:
        new: inputs of the new kind.
        held_out: further ones, which only judge.
        retain: inputs of the vendor's kind, which only judge.
        reading: how all of them are read.
        accept: the share of the new inputs that the detector accepts, each judged by a detector of the others: above 0.5, at
            most 1. The threshold is the quantile of their residuals; at 1 it is the largest.

    Raises:
        DataError: ``accept`` is no such number.
    """

    new: DataSource
    held_out: Optional[DataSource] = None
    retain: Optional[DataSource] = None
    reading: DataOptions = field(default_factory=DataOptions)
    accept: float = ACCEPT

    def __post_init__(self) -> None:
        require_share(self.accept)


@dataclass(frozen=True, repr=False)
class GateReport(Presented):
    """What was written.

    Attributes:
        output: the file.
        form: how both networks are in it: ``maps``, reinitialised maps are multiplied by g, or ``branches``, an If.
        why_branches: why nothing is multiplied; empty where something is.
        input: the input that sets g; None if there is none.
        separation: how the detector tells inputs apart; None without one.
        threshold: of its residual; None without one.
        layer: the layer in front of which it looks; None without one.
        images: how many new inputs it was fitted on; None without one.
        remarks: what is worth knowing of the detector.
    """

    output: str
    form: Form
    why_branches: str
    input: Optional[str]
    separation: Optional[Separation] = None
    threshold: Optional[float] = None
    layer: Optional[str] = None
    images: Optional[int] = None
    remarks: tuple[str, ...] = ()


def gate(
    vendor: ModelSource,
    tuned: ModelSource,
    output: StrPath,
    *,
    input_name: Optional[str] = None,
    data: Optional[GateData] = None,
    layer: Optional[str] = None,
    detector_outputs: bool = False,
    device: str = CPU_NAME,
    overwrite: bool = False,
) -> GateReport:
    """Writes one file that answers as the vendor's or as the tuned model, by a number g: 0 is the vendor's, 1 the tuned one.

    Of a model of mode ``regrow`` the reinitialised maps are multiplied by g, which may lie between, and nothing is stored
    twice. Of others there are both networks as branches of an If, by whether g is more than a half; what is equal in both is
    stored once. Inputs, outputs, operator sets and IR version are the vendor's otherwise.

    Args:
        vendor: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        tuned: a tuned version of it, as export writes it.
        output: the file to write.
        input_name: the name of a model input that sets g, float32 of shape (1,), with the default 1 from IR version 4 on.
        data: what to fit a detector on, which sets g to 1 where an input is of the new kind, else to 0. With an input as well,
            g is their product.
        layer: the layer in front of which the detector looks; the earliest that separates, if None.
        detector_outputs: whether ``gate_is_new`` and ``gate_residual`` are outputs of the model.
        device: where features are computed; see `tgdonnx.TrainOptions`.
        overwrite: whether ``output`` may exist.

    Raises:
        ModelFileError: a file cannot be used, or ``tuned`` is no tuned version of ``vendor``.
        DataError: the data does not fit, is too little, or the detector does not separate well enough.
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: no onnxruntime is installed, or it cannot use the device.
    """
    output = Path(output)
    sources = () if data is None else (data.new, data.held_out, data.retain)
    before, after = load_model(vendor), load_model(tuned)
    require_outputs([Output(output, Kind.MODEL)], [before, after, *sources], overwrite=overwrite)
    if input_name is None and data is None:
        raise DataError(
            "nothing would set g", remedy="name an input with `input_name`, or give `data` to fit a detector on"
        )
    if data is None and (layer is not None or detector_outputs):
        raise DataError("without `data` there is no detector, so it has no layer and no outputs")
    network = _opened(before, after)
    require_data_writable(output, after, overwrite=overwrite)
    chosen = choose_form(network, after)
    judged = None if data is None else _detector(network, after, chosen, data, layer, usable_device(device))
    detector = None if judged is None else judged.detector
    wanted = Gate(input_name, detector, detector_outputs)
    version = metadata.version("tgdonnx")

    def both(name: Optional[str]) -> bytes:
        renamed = after if name is None else _with_data_in(network, after, name)
        return gated(network, renamed, wanted, chosen, version).data

    content = both(None)
    written = ModelFile(output, content, onnx.ModelProto.FromString(content))
    if take_apart(network.file, written).tuned.data != after.data:
        raise ModelFileError(
            f"{after.path} is written in a way that cannot be kept byte by byte when something is added",
            remedy="save the vendor's file again with onnx.save, and tune that",
        )
    write_model(after, output, both)
    report = GateReport(str(output), chosen.form, chosen.why_branches, input_name)
    if judged is None or detector is None:
        return report
    return replace(
        report,
        separation=judged.separation,
        threshold=detector.threshold,
        layer=detector.layer,
        images=detector.images,
        remarks=remarks_on(judged.separation),
    )


def _opened(before: ModelFile, after: ModelFile) -> Network:
    """Returns the vendor's network, of which the other file is a tuned version."""
    for file in (before, after):
        require_ungated(file)
        require_unmasked(file)
        require_external_data(file)
    network = open_network(before)
    if before.data != after.data and earlier_rounds(after.proto) <= earlier_rounds(before.proto):
        raise ModelFileError(
            f"{after.path} is no tuned version of {before.path}: it has no record of what was retrained from that",
            remedy="name the vendor's file, and what export made of it",
        )
    report = verify_files(network, after, None)
    if not report.ok:
        raise ModelFileError(
            f"{after.path} is no tuned version of {before.path}: {report.violations[0]}",
            remedy="name the vendor's file, and what export made of it",
        )
    return network


def _with_data_in(network: Network, tuned: ModelFile, name: str) -> ModelFile:
    """Returns the tuned file as export writes it with its external data in a file of another name."""
    base = network.file.proto
    assert records_are_plain(base, tuned)
    first = 1 + earlier_rounds(base)
    records = {entry.key: entry.value for entry in tuned.proto.metadata_props}
    own = [record_key(number) for number in range(first, 1 + earlier_rounds(tuned.proto))]
    entries = {key: records[key] for key in own}
    entries[own[-1]] = json.dumps({**json.loads(entries[own[-1]]), "external_data": name})
    body = wire.remove_fields(tuned.data, graph=lambda *_: False, model=is_record_since(base))
    data = tuned.with_external_data(name, body) + metadata_bytes(entries)
    return ModelFile(tuned.path, data, onnx.ModelProto.FromString(data))


def _detector(
    network: Network, tuned: ModelFile, chosen: Chosen, data: GateData, layer: Optional[str], device: Device
) -> Judged:
    everywhere = places(network, tuned, chosen)
    where = everywhere[:_FURTHEST]
    if layer is not None:
        known = ", ".join(repr(place.layer) for place in where)
        where = tuple(place for place in everywhere if place.layer == layer)
        if not where:
            raise DataError(f"no detector can look in front of {layer!r}; it can in front of {known or 'no layer'}")
    if not where:
        raise DataError("the network has no place for a detector", remedy="leave `data` out, and set g by an input")
    # What a detector of multiplied maps looks at is the tuned network's, that of branches the vendor's.
    looked_at = open_network(tuned) if chosen.form == "maps" else network

    def opened(source: DataSource) -> Samples:
        return open_samples(source, network, most=_MOST, options=data.reading)

    def moments(source: Optional[DataSource], what: str) -> Optional[dict[Place, Moments]]:
        return None if source is None else moments_at(looked_at, where, opened(source), device, what)

    samples = opened(data.new)
    require_enough(len(samples))
    new = moments_at(looked_at, where, samples, device, "data")
    held_out, retain = moments(data.held_out, "held_out"), moments(data.retain, "retain")
    return first_that_separates(where, new, held_out, retain, float(data.accept))
