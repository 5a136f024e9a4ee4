"""The end: the tuned model where it shall be, read back and proved, the result of applying it, and the page."""

from __future__ import annotations

import os
from typing import Optional

from tgdonnx.applying import ApplyReport, apply
from tgdonnx.calls import call
from tgdonnx.files.model_file import load_model, write_bytes
from tgdonnx.files.model_writing import require_same_model
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.pipeline.checks import Job
from tgdonnx.pipeline.reports import FinetuneReport
from tgdonnx.pipeline.rounds import Proved, Rounds
from tgdonnx.reporting.card import card_of
from tgdonnx.reporting.card_file import write_card
from tgdonnx.reporting.history import read_history
from tgdonnx.reporting.page import PageReport, write_page
from tgdonnx.reporting.proof import proof_of
from tgdonnx.reporting.study import Study, study
from tgdonnx.verifying.verification import verify_files


def finish(job: Job, rounds: Rounds) -> FinetuneReport:
    """Writes what was asked for of rounds that proved themselves.

    Raises:
        TgdonnxError: as the stages do.
    """
    asked, last, only = job.asked, rounds.last, len(rounds.done) == 1
    if job.vendor is not None:
        write_bytes(job.vendor, asked.file.data)
    exported = last.tuned.write(asked.output)
    job.go_on_with_export(last.artifacts.directory, exported.blend, overwrite=True)
    require_same_model(asked.output, last.after)
    proof = last.reports.verify if only else verify_files(rounds.vendor, load_model(asked.output), None)
    applied = _apply(job, last)
    known = _study(job, rounds) if job.looks_at_data else None
    page = None if known is None else _write_pages(job, last, known, only=only)
    stages = last.reports
    return FinetuneReport(
        stages.mask,
        stages.build,
        stages.train,
        exported,
        proof,
        earlier=rounds.done[:-1],
        note=rounds.note,
        apply=applied,
        report=page,
        blend=stages.blend,
        vendor=None if job.vendor is None else str(job.vendor),
        acceptance=None if known is None else known.verdict,
    )


def _apply(job: Job, last: Proved) -> Optional[ApplyReport]:
    asked, image, applied = job.asked, job.asked.results.apply, job.applied
    if image is None or applied is None:
        return None
    # An array in memory has no command; the model is there.
    named = os.fspath(image) if isinstance(image, (str, os.PathLike)) else "DATA"
    options = {"data": named, "output": applied, **asked.results.overwriting}
    left = [each for each in job.others if each != applied]
    job.place.go_on_with(
        call("apply", asked.output, options=options), job.same_call(left, written=True) if left else ""
    )
    return apply(
        asked.output,
        image,
        applied,
        reading=asked.applied_reading(prepared=False),
        artifacts=last.artifacts.directory if asked.prepared else None,
        options=asked.applying,
        overwrite=asked.results.overwrite,
    )


def _study(job: Job, rounds: Rounds) -> Study:
    last = rounds.last
    directory, page = last.artifacts.directory, job.page or job.asked.output.with_suffix(".html")
    shown = last.shown.data
    named: dict[str, object] = {"data": os.fspath(shown)} if isinstance(shown, (str, os.PathLike)) else {}
    if job.card is not None:
        named["card"] = job.card
    job.place.go_on_with(call("report", directory, options={"output": page, **named, **job.asked.results.overwriting}))
    files = (rounds.vendor.file, last.after)
    return study(last.shown, last.runners, files, directory, read_record(directory), started_from=last.before.file)


def _write_pages(job: Job, last: Proved, known: Study, *, only: bool) -> Optional[PageReport]:
    directory = last.artifacts.directory
    # Of several rounds the file that the last one started from has no name of the user's.
    vendor = job.vendor or job.asked.file.path
    names = (vendor.name, job.asked.output.name) if only else ("", "")
    proof = proof_of(
        last.artifacts, last.tuned, last.before.file, last.after, last.reports.verify, names=names, as_exported=True
    )
    run = read_record(directory)
    if job.card is not None:
        write_card(job.card, card_of(proof, run, known))
    return None if job.page is None else write_page(directory, job.page, proof, read_history(directory), run, known)
