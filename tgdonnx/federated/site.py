"""A round at a site: training, and evaluation, in a copy of its artifacts that belongs to the run.

The copy keeps what the optimizer remembers, the order of the data and the logs from round to round; only the numbers that train
are those of the server at the start of each. So one site alone does what a plain run does, bit for bit.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import open_artifacts, read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER, MANIFEST
from tgdonnx.engines.onnxruntime.anchoring import pull_to
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.exporting import preparation_of
from tgdonnx.federated.plan import RoundPlan
from tgdonnx.federated.site_file import Site
from tgdonnx.federated.travelling import Fingerprint, Numbers, Travelling, fingerprint, travelling
from tgdonnx.files.access import writing
from tgdonnx.files.leftovers import temporary_beside
from tgdonnx.files.outputs import require_no_link
from tgdonnx.files.staging import copy_directory
from tgdonnx.files.typed import decode, encode, read_bytes
from tgdonnx.finetuning import RunData, TrainOptions, Watch
from tgdonnx.finetuning.opening import fitting_batch, open_data
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState
from tgdonnx.finetuning.training import train_session, training_device
from tgdonnx.records import PreparationPart

_OWNER = "site.json"  # in the directory of a run


@dataclass(frozen=True)
class _Owner:
    """Whose run it is."""

    name: str


class NotTheServersError(ArtifactsError):
    """A site has other artifacts than the server; to say so gives nothing of its data away."""


@dataclass(frozen=True)
class Trained:
    """What a site came to in a round.

    Attributes:
        numbers: those that travel.
        samples: how many it trained on.
        loss: the mean over the steps of the round, each before its update.
        steps: how many steps it did.
        classes: names of what the output tells apart; none where the data did not say.
        preparation: how data was prepared; None where it was taken as it was.
    """

    numbers: Numbers = field(repr=False)
    samples: int
    loss: float
    steps: int
    classes: tuple[str, ...] = ()
    preparation: Optional[PreparationPart] = None


@dataclass(frozen=True)
class Evaluated:
    """How the server's numbers do at a site.

    Attributes:
        samples: of the validation data; 0 without any.
        loss: over these; None without any.
        metrics: of these; None in place of a number that is infinite.
        retained: samples of the vendor's own task; 0 without any.
        retain: metrics of these, the guarded one first.
    """

    samples: int
    loss: Optional[float]
    metrics: Mapping[str, Optional[float]]
    retained: int
    retain: Mapping[str, Optional[float]]


def train_at(site: Site, run: str, plan: RoundPlan, numbers: Numbers, wanted: Fingerprint) -> Trained:
    """Trains for a round.

    Args:
        site: where.
        run: the name of the run, which its rounds share.
        plan: how.
        numbers: the server's.
        wanted: what artifacts the server has.

    Raises:
        TgdonnxError: as `tgdonnx.train`; or the artifacts are not the server's.
    """
    with _run(site, run, wanted) as (directory, numbers_of):
        values = _put(numbers_of, numbers, directory)
        if plan.proximal:
            pull_to(directory, values)
        session = Session(directory, device=training_device(read_manifest(directory).runtime, site.device))
        session.set_parameters(values)
        state = session.run_state
        before = 0 if state is None else state.step
        # Held out by a split, data stays held out; what is a set of its own is looked at in `evaluate_at` alone.
        data = RunData(site.data.data, reading=site.data.reading)
        options = _up_to_here(replace(plan.options, metrics=()), state)
        report = train_session(session, data, options, resume=state is not None, watch=Watch())
        steps = report.steps - before
        record = read_record(directory)
        assert record is not None, "a run has a record"
        return Trained(
            numbers_of.taken(session.parameters()),
            record.data.samples,
            math.fsum(report.loss[-steps:]) / steps,
            steps,
            record.data.options.classes,
            preparation_of(record.data),
        )


def evaluate_at(site: Site, run: str, plan: RoundPlan, numbers: Numbers, wanted: Fingerprint) -> Evaluated:
    """Evaluates the server's numbers on what the site does not train on; nothing is trained, and no checkpoint changes.

    Raises:
        TgdonnxError: as `train_at`.
    """
    if site.data.retain is None and not site.data.validated:
        return Evaluated(0, None, {}, 0, {})
    with _run(site, run, wanted) as (directory, numbers_of):
        session = Session(directory, device=training_device(read_manifest(directory).runtime, site.device))
        session.set_parameters(_put(numbers_of, numbers, directory))
        options = fitting_batch(session.manifest, plan.options)
        _, validating, retention = open_data(session, site.data, options)
        found = None if validating is None else validating(session, _nothing)
        retain = {} if retention is None else retention.evaluate(session, _nothing)
        return Evaluated(
            0 if validating is None else len(validating.dataset),
            None if found is None else found.loss,
            {} if found is None else found.metrics,
            0 if retention is None else len(retention.dataset),
            retain,
        )


@contextmanager
def _run(site: Site, run: str, wanted: Fingerprint) -> Iterator[tuple[Path, Travelling]]:
    """Gives the copy of a site's artifacts that belongs to a run, with its lock held, and which of its numbers travel."""
    directory = site.runs / run
    require_no_link(directory)
    if not (directory / MANIFEST).is_file():
        _copy(site, directory, wanted)
    _require_own(site, directory)
    with locked(directory):
        artifacts = open_artifacts(directory)
        _require_same(fingerprint(artifacts), wanted)
        yield directory, travelling(artifacts)


def _copy(site: Site, directory: Path, wanted: Fingerprint) -> None:
    """Makes the copy of a run, whole or not at all. What is only ever replaced as a whole is shared where that can be."""
    artifacts = open_artifacts(site.artifacts)
    _require_same(fingerprint(artifacts), wanted)
    engine = artifacts.manifest.runtime
    if artifacts.checkpoint(engine.checkpoint).run is not None:
        raise ArtifactsError(f"{site.artifacts} holds a run", remedy="build the artifacts again for this site")
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(directory)
        try:
            # A lock that is shared would lock both, and the owner is written in place.
            copy_directory(site.artifacts, temporary, _linked, left_out=(LOCK, LOCK_OWNER, _OWNER))
            (temporary / _OWNER).write_bytes(encode(_Owner(site.name)))
            try:
                temporary.rename(directory)
            except OSError:
                # Else somebody was faster: this site, or another that keeps its runs here, as `_require_own` tells.
                if not (directory / MANIFEST).is_file():
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _require_own(site: Site, directory: Path) -> None:
    """Checks that a run is of this site: two that trained in one directory would take each other's state.

    Raises:
        ArtifactsError: it is of another one, or what says so is damaged.
    """
    path, remedy = directory / _OWNER, "delete the directory of the run"
    owner = decode(read_bytes(path, remedy=remedy), _Owner, str(path), remedy=remedy).name
    if owner != site.name:
        raise ArtifactsError(
            f"{directory} is the run of site {owner!r}, and site {site.name!r} keeps its runs in the same directory",
            remedy="give each its own `runs`",
        )


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _require_same(found: Fingerprint, wanted: Fingerprint) -> None:
    other = wanted.difference(found)
    if other:
        raise NotTheServersError(
            f"the site's artifacts are not the server's: {other}", remedy="give the site a copy of the server's"
        )


def _put(numbers_of: Travelling, numbers: Numbers, directory: Path) -> dict[str, NDArray[np.float32]]:
    problem = numbers_of.problem(numbers)
    if problem:
        raise DataError(f"the server sent {problem}")
    return numbers_of.put(numbers, read_parameters(directory, read_manifest(directory).runtime.checkpoint))


def _up_to_here(options: TrainOptions, state: Optional[RunState]) -> TrainOptions:
    """Returns options whose epochs or steps are those of the whole run up to the end of this round."""
    if state is None:
        return options
    if options.steps is not None:
        return replace(options, steps=state.step + options.steps)
    return replace(options, epochs=state.epoch + (options.epochs or 1))


def _nothing() -> None:
    """Nobody interrupts."""
