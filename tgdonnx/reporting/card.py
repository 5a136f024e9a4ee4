"""The record of a tuned model for machines: which files, what was selected, on which data, what it came to, and what is proved.

Format 1: one JSON object with the fields of `Card`. Numbers that are not finite are null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import Any, Optional

from tgdonnx.evaluating.evaluation import Output
from tgdonnx.evaluating.found import Values
from tgdonnx.evaluating.judging import Verdict
from tgdonnx.finetuning.metrics import MetricName
from tgdonnx.finetuning.run_record import RunRecord
from tgdonnx.reporting.facts import described_data
from tgdonnx.reporting.proof import FileFacts, Proof
from tgdonnx.reporting.study import Study

FORMAT = 1


@dataclass(frozen=True)
class DataFacts:
    """A data set: what it was for, its place, the hash of what was read and how, how much it is, and what was told of it."""

    role: str
    where: str
    fingerprint: str
    samples: int
    cases: int
    files: int
    told: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A measure of both files on data.

    Attributes:
        output: the output that it is of.
        metric: which.
        label: the class that it is of; None of all.
        data: what the data was.
        fingerprint: of the data.
        cases: how many.
        vendor: the vendor's number; None where it is not finite.
        tuned: the tuned model's.
    """

    output: str
    metric: str
    label: Optional[str]
    data: str
    fingerprint: str
    cases: int
    vendor: Optional[float]
    tuned: Optional[float]


@dataclass(frozen=True)
class Proved:
    """What verification found: `VerifyReport`, with the rows that changed as their number."""

    ok: bool
    form: Optional[str]
    evidence: str
    changed: Mapping[str, int]
    added: tuple[str, ...]
    violations: tuple[str, ...]
    gate: Optional[str]
    told: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A tuned model.

    Attributes:
        format: of this record.
        created: when it was written (UTC).
        tool: the version of tgdonnx.
        vendor: the vendor's file.
        tuned: the tuned one.
        external: files that these read.
        selection: how filters were chosen.
        of_run: whether the tuned file is, byte by byte, what the checkpoint of the run gives. Where it is not, selection, loss,
            versions and data are those of the run, which say nothing about the file.
        trained: the share of the weights that could train that did; None where the file is not of the run.
        loss: what was minimised.
        steps: after how many steps the checkpoint was written that is exported; None if no run wrote it, or the file is not of
            the run.
        started: when the run began; None if there is no record of it.
        versions: of what trained.
        data: what it was trained and validated on.
        measured: both files on data; none where there was none.
        not_measured: why not.
        proof: what is proved of the files.
        acceptance: criteria that were fixed before the run, and whether they are met.
    """

    format: int
    created: str
    tool: str
    vendor: FileFacts
    tuned: FileFacts
    external: tuple[FileFacts, ...]
    selection: Mapping[str, Any]
    of_run: bool
    trained: Optional[float]
    loss: str
    steps: Optional[int]
    started: Optional[str]
    versions: Mapping[str, str]
    data: tuple[DataFacts, ...]
    measured: tuple[Measured, ...]
    not_measured: str
    proof: Proved
    acceptance: Optional[Verdict]


def card_of(proof: Proof, run: Optional[RunRecord], known: Study) -> Card:
    """Returns the record of a tuned model.

    Args:
        proof: what was checked.
        run: what the run is; None if its record is gone.
        known: what is known of both files on data.
    """
    found, roles = proof.verify, {file.role: file for file in proof.files}
    return Card(
        format=FORMAT,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        tool=metadata.version("tgdonnx"),
        vendor=roles["vendor's model"],
        tuned=roles["tuned model"],
        external=tuple(file for file in proof.files if file.role == "its external data"),
        selection=proof.manifest.selection,
        of_run=proof.as_exported,
        trained=proof.manifest.rho if proof.as_exported else None,
        loss=proof.manifest.options.loss,
        steps=proof.step if proof.as_exported else None,
        started=None if run is None else run.started,
        versions={**proof.manifest.versions, **(run.versions if run is not None else {})},
        data=tuple(
            DataFacts(role, data.where, data.identity, data.samples, data.cases, len(data.files), data.remarks)
            for role, data in described_data(run)
        ),
        measured=_measured(known),
        not_measured=known.not_evaluated,
        proof=Proved(
            found.ok,
            None if found.proof is None else str(found.proof),
            found.evidence,
            {entry.name: len(entry.filters) for entry in found.changed},
            found.added,
            found.violations,
            found.gate,
            found.told,
        ),
        acceptance=known.verdict,
    )


def _measured(known: Study) -> tuple[Measured, ...]:
    evaluation = known.evaluation
    if evaluation is None:
        return ()
    found = []
    for output in evaluation.outputs:
        for metric in output.metrics:
            for number, label in ((None, None), *_labels(output)):
                vendor, tuned = (_score(file, metric, number) for file in (output.before, output.after))
                found.append(
                    Measured(
                        output.name,
                        metric,
                        label,
                        evaluation.data,
                        evaluation.fingerprint,
                        len(evaluation.cases),
                        vendor,
                        tuned,
                    )
                )
    return tuple(found)


def _labels(output: Output) -> tuple[tuple[int, str], ...]:
    return () if isinstance(output.after, Values) else tuple(enumerate(output.classes))


def _score(file: Any, metric: MetricName, number: Optional[int]) -> Optional[float]:
    value = file.score(metric, None, number)
    return value if math.isfinite(value) else None
