"""The record of a gate: the metadata ``tgdonnx.gate``, JSON, the last entry of a gated file.

It says what was asked for. What of the file follows from that, `tgdonnx.gated_model.writing` writes again; only the numbers of
the detector are nobody's but the file's own, and of them the record has the hash.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal, Optional

import msgspec
import onnx

from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.typed import Above0, Positive, Sha256
from tgdonnx.gated_model.detector import Detector
from tgdonnx.masked_model import GATE_KEY
from tgdonnx.selection.recorded import read_strict

KEY = GATE_KEY
Form = Literal["maps", "branches"]


class DetectorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded of a detector.

    Attributes:
        layer: the layer in front of which it looks.
        value: what it looks at.
        images: how many new inputs it was fitted on.
        threshold: of the residual.
        sha256: of its numbers.
    """

    layer: str
    value: str
    images: Positive
    threshold: Above0
    sha256: Sha256


class GateRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record as it is written.

    Attributes:
        format: 1.
        tgdonnx: the version that wrote it.
        base_sha256: of the vendor's file.
        tuned_sha256: of the tuned file.
        form: ``maps`` (reinitialised maps, or those of side paths, are multiplied by g) or ``branches`` (an If between both
            networks).
        input: the model input that sets g; None if there is none.
        detector: what decides on g; None if nothing does.
        outputs: whether decision and residual are outputs of the model.
    """

    format: Literal[1]
    tgdonnx: Annotated[str, msgspec.Meta(min_length=1)]
    base_sha256: Sha256
    tuned_sha256: Sha256
    form: Form
    input: Optional[Annotated[str, msgspec.Meta(min_length=1)]]
    detector: Optional[DetectorRecord]
    outputs: bool

    def text(self) -> str:
        """Returns it as JSON."""
        return json.dumps(msgspec.to_builtins(self))


@dataclass(frozen=True)
class Gate:
    """What sets g.

    Attributes:
        input: the name of a model input; None for none.
        detector: what decides; None for none. With both, g is the input times the decision, 0 or 1.
        outputs: whether decision and residual of the detector are outputs of the model.
    """

    input: Optional[str]
    detector: Optional[Detector] = None
    outputs: bool = False


def is_gated(proto: onnx.ModelProto) -> bool:
    """Whether a model says of itself that it is gated."""
    return any(entry.key == KEY for entry in proto.metadata_props)


def describe_gate(record: GateRecord) -> str:
    """Says in short how both networks are in a file, and what chooses."""
    form = (
        "the tuned network, with its reinitialised maps or side paths multiplied by g"
        if record.form == "maps"
        else "the vendor's network and the tuned one as branches"
    )
    setters = [] if record.input is None else [f"the input {record.input!r}"]
    if record.detector is not None:
        setters.append(f"a detector in front of {record.detector.layer!r}, whose numbers are the file's own word")
    return f"{form}; g is set by {' and '.join(setters)}"


def read_gate_record(proto: onnx.ModelProto) -> GateRecord:
    """Returns the record in a gated model.

    Raises:
        ValueError: it has none, or several, or one that was not written by gate.
    """
    found = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    if len(found) != 1:
        raise ValueError(f"it has {len(found)} records {KEY!r}, expected one")
    record = msgspec.convert(read_strict(found[0]), GateRecord)
    if record.input is None and record.detector is None:
        raise ValueError("it names neither an input nor a detector, and one of them sets g")
    if record.outputs and record.detector is None:
        raise ValueError("it has outputs of a detector, and no detector")
    return record


def record_of(file: ModelFile) -> GateRecord:
    """Returns the record of a gated file.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        return read_gate_record(file.proto)
    except ValueError as error:
        raise ModelFileError(
            f"{file.path} is not as gate writes it: {error}", remedy="gate the models again"
        ) from error
