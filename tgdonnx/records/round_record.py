"""The record of a round as it is written: JSON in metadata, in one of five formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Optional, Union

import msgspec

from tgdonnx.records.encoding import SetPart
from tgdonnx.selection.recorded import read_strict

WHOLE, BLENDED, NAMED, PREPARED, FEDERATED = 1, 2, 3, 4, 5
"""The formats: what trained is as it came to be; what trained is blended with what it started from; either, with classes; any
of these, with how data was prepared; any of these, trained at several sites."""


class TrainedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a tensor trained: ``retrain`` and ``kernels`` as `encode_mask` gives them."""

    retrain: list[Annotated[int, msgspec.Meta(ge=0)]]
    kernels: Optional[str]


class ScalingPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an array was scaled; see `tgdonnx.data.scaling`."""

    offset: float
    divisor: Annotated[float, msgspec.Meta(gt=0)]
    how: Union[float, str]
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    mean: list[float] = []
    std: list[Annotated[float, msgspec.Meta(gt=0)]] = []


class PreparationPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How data was prepared that the round trained on.

    Attributes:
        scaling: of intensities, by array; ``target`` and names of outputs are what outputs were compared with.
        resize: of pictures, as the options of data have it; see `tgdonnx.data.options`. Likewise ``resample``, ``crop`` and
            ``colour``.
    """

    scaling: dict[str, ScalingPart] = {}
    resize: list[int] = []
    resample: str = "bilinear"
    crop: list[int] = []
    colour: Optional[str] = None


class SitePart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site gave to federated training: how many samples it trained on, and in how many rounds its numbers counted."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    samples: Annotated[int, msgspec.Meta(ge=1)]
    rounds: Annotated[int, msgspec.Meta(ge=1)]


class FederationPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a round was trained at several sites; see `tgdonnx.federated`.

    Attributes:
        rounds: of federated training, up to the one that was exported.
        sites: whose numbers counted in any of them, by their names.
    """

    rounds: Annotated[int, msgspec.Meta(ge=0)]
    sites: list[SitePart]


class RoundRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The record of a round as it is written.

    Attributes:
        format: 1, 2 with ``blend``, 3 with ``classes``, 4 with ``preparation``, or 5 with ``federation``.
        tgdonnx: the version that wrote it.
        base_sha256: of the file that the round started from.
        selection: as in the masked model; see `tgdonnx.selection.recorded`.
        options: of the build.
        checkpoint: the checkpoint that was exported.
        blend: how far what trained goes from what it started from (0) to what it came to; None for all the way, 1.
        classes: names of what the output tells apart, in its order; none where the data did not say.
        preparation: how data was prepared; None where it was taken as it was.
        federation: at which sites it trained; None where it trained in one place.
        external_data: the file, beside the model, that its external data was written to; None if it has none.
        trained: what trained, by tensor.
        reinitialized: what was reinitialised and did not train, by tensor.
        set: what was set, by tensor.
        merged: whether side paths are merged into the weights beside them.
    """

    format: Literal[1, 2, 3, 4, 5]
    tgdonnx: str
    base_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    selection: dict[str, Any]
    options: dict[str, Any]
    checkpoint: str
    trained: dict[str, TrainedPart]
    blend: Optional[Annotated[float, msgspec.Meta(ge=0, lt=1)]] = None
    classes: list[str] = []
    preparation: Optional[PreparationPart] = None
    federation: Optional[FederationPart] = None
    external_data: Optional[str] = None
    reinitialized: dict[str, TrainedPart] = msgspec.field(name="reborn", default_factory=dict)
    set: dict[str, SetPart] = {}
    merged: bool = False


def format_of(
    blend: Optional[float],
    classes: Sequence[str],
    preparation: Optional[object] = None,
    federation: Optional[object] = None,
) -> int:
    """Returns the format of a record.

    Args:
        blend: None: 1.
        classes: names of what the output tells apart.
        preparation: how data was prepared; None: not at all.
        federation: at which sites it trained; None: in one place.
    """
    if federation is not None:
        return FEDERATED
    if preparation is not None:
        return PREPARED
    if classes:
        return NAMED
    return WHOLE if blend is None else BLENDED


def parse_record(text: str) -> RoundRecord:
    """Returns a record, of which only the parts are not looked into.

    Raises:
        ValueError: it was not written by export.
    """
    record = msgspec.convert(read_strict(text), RoundRecord)
    if record.format != format_of(record.blend, record.classes, record.preparation, record.federation):
        prepared, trained = ("has no" if part is None else "has a" for part in (record.preparation, record.federation))
        raise ValueError(
            f"it is of format {record.format}, but `blend` is {record.blend} and classes are {len(record.classes)}, and it "
            f"{prepared} preparation; format 2 has a blend, format 3 classes, format 1 neither; format 4 has a preparation; "
            f"format 5 has a federation, and it {trained} federation"
        )
    if record.federation is not None:
        _check_federation(record.federation)
    return record


def _check_federation(federation: FederationPart) -> None:
    names = [site.name for site in federation.sites]
    if len(set(names)) < len(names):
        raise ValueError("its federation names a site twice")
    if any(site.rounds > federation.rounds for site in federation.sites):
        raise ValueError(
            f"a site of its federation is said to have trained in more than all {federation.rounds} rounds"
        )
    if bool(federation.rounds) != bool(names):
        raise ValueError("its federation has rounds without sites, or sites without rounds")
