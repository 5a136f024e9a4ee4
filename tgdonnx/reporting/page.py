"""A run as one HTML page that needs nothing else: no network, no scripts, no fonts; to be read, filed and printed.

Whatever comes from files or options is escaped by the template; figures hold numbers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.data import DataOptions, DataSource
from tgdonnx.evaluating.judging import Verdict
from tgdonnx.evaluating.running import Runners, needs_batches_of_one
from tgdonnx.evaluating.shown import ShownData
from tgdonnx.files.model_file import ModelSource, StrPath, require_writable, write_bytes
from tgdonnx.files.outputs import Output, optional, require_outputs
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning.run_record import RunRecord, read_record
from tgdonnx.presenting import Presented
from tgdonnx.reporting import facts
from tgdonnx.reporting.blends import NOTHING_USED
from tgdonnx.reporting.card import card_of
from tgdonnx.reporting.card_file import require_card, write_card
from tgdonnx.reporting.curves import constant_rate, loss_curve, part_curve, rate_curve
from tgdonnx.reporting.evaluated import view_of
from tgdonnx.reporting.figures import require_matplotlib
from tgdonnx.reporting.filters import APART_UP_TO, filter_strips
from tgdonnx.reporting.histograms import notes_of, score_histograms
from tgdonnx.reporting.history import History, read_history
from tgdonnx.reporting.metric_figures import Exported, blend_figures, chosen_rows, metric_figures
from tgdonnx.reporting.pictures import Answer, Sample
from tgdonnx.reporting.png import label_colour
from tgdonnx.reporting.proof import Proof, prove
from tgdonnx.reporting.rendering import environment
from tgdonnx.reporting.study import Study, study
from tgdonnx.reporting.tables import ranges
from tgdonnx.reporting.verdict import sentences
from tgdonnx.runtime import CPU_NAME, parse_device, usable_device
from tgdonnx.scoring import score_layers
from tgdonnx.tracing import trace_network


@dataclass(frozen=True, repr=False)
class PageReport(Presented):
    """What was written.

    Attributes:
        output: the page.
        size: of the page, in bytes.
        verified: whether nothing but retrained filters changed in the tuned model.
        as_exported: whether the tuned model is, byte by byte, what the checkpoint of the run gives.
        left_out: why which section has nothing to show.
        acceptance: whether the criteria that the run recorded are met; None if it recorded none, or no data was handed in.
    """

    output: str
    size: int
    verified: bool
    as_exported: bool
    left_out: tuple[str, ...]
    acceptance: Optional[Verdict] = None


def require_page(output: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a page can be made and written, before any work is done for it.

    Raises:
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: jinja2 or matplotlib is not installed.
    """
    environment()
    require_matplotlib()
    return require_writable(output, overwrite=overwrite)


def report(
    directory: StrPath,
    output: StrPath,
    *,
    model: Optional[ModelSource] = None,
    tuned: Optional[ModelSource] = None,
    data: Optional[DataSource] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008  # frozen
    blend: float = 1.0,
    card: Optional[StrPath] = None,
    overwrite: bool = False,
    device: str = CPU_NAME,
) -> PageReport:
    """Writes what was done in an artifacts directory as one self-contained HTML page.

    The tuned model is verified anew for it. Nothing in the directory changes.

    Args:
        directory: the artifacts directory.
        output: the page to write.
        model: the vendor's file, to be named and verified against; the one in the masked model, if None.
        tuned: the tuned file, to be verified; what the checkpoint gives, if None.
        data: data on which both models are compared; the first samples are shown. It is scaled as the training data was, where
            the record of the run says how. Criteria that the run recorded are judged on it.
        reading: how the data is read; augmentation is ignored, and patches unless the model takes samples of one size only.
        blend: of the checkpoint, where ``tuned`` is None; see `tgdonnx.export`.
        card: a record of the tuned model for machines to write besides, as JSON, or where its name ends in ``.cdx.json`` as
            CycloneDX 1.6; see `tgdonnx.reporting.card`.
        overwrite: whether ``output`` and ``card`` may exist.
        device: where models run on the samples; see `tgdonnx.TrainOptions`.

    Raises:
        ArtifactsError: the directory is not usable, or ``model`` is another file than it was built from.
        DataError: the data does not fit.
        ModelFileError: ``model`` or ``tuned`` is no model.
        OutputError: the page cannot be written.
        RuntimeMissingError: jinja2, matplotlib or onnxruntime-training is not installed; or there is no such device.
    """
    output, directory = Path(output), Path(directory)
    require_outputs([Output(output), *optional(card)], [directory, model, tuned, data], overwrite=overwrite)
    require_page(output, overwrite=overwrite)
    if card is not None:
        require_card(card, overwrite=overwrite)
    read_manifest(directory)
    runs_on = parse_device(device) if data is None else usable_device(device)
    with scratch_directory() as work:
        with locked(directory, reading=True):
            history, run = read_history(directory), read_record(directory)
            proof = prove(directory, work, model=model, tuned=tuned, blend=blend)
        shown = ShownData(data, reading, "data that was handed in")
        files = (proof.base, proof.tuned)
        known = study(shown, Runners(proof.manifest, runs_on), files, directory, run)
        if card is not None:
            write_card(card, card_of(proof, run, known))
        return write_page(directory, output, proof, history, run, known)


def write_page(
    directory: Path, output: Path, proof: Proof, history: History, run: Optional[RunRecord], known: Study
) -> PageReport:
    """Writes the page of a run whose files are open.

    Args:
        directory: the artifacts directory.
        output: the page to write.
        proof: what was checked.
        history: what the log says.
        run: what the run is; None if its record is gone.
        known: what is known of both files on data.

    Raises:
        OutputError: the page cannot be written.
        RuntimeMissingError: jinja2 or matplotlib is not installed.
    """
    content = _content(proof, history, run, known)
    name = proof.files[0].name or directory.resolve().name
    page = environment().get_template("report.html.j2").render(name=name, **content)
    encoded = page.encode("utf-8", "replace")
    write_bytes(output, encoded)
    left_out = tuple(dict.fromkeys(content["left_out"].values()))
    return PageReport(str(output), len(encoded), proof.verify.ok, proof.as_exported, left_out, known.verdict)


def _content(proof: Proof, history: History, run: Optional[RunRecord], known: Study) -> dict[str, Any]:
    """Returns what the template shows, by the names that it uses."""
    left_out = {"pictures": known.no_samples} if known.no_samples else {}
    if known.evaluation is None:
        left_out["cases"] = known.not_evaluated
    if known.left_out:
        left_out["trained"] = known.left_out
    phi = _phi(proof)
    histograms = _histograms(proof, phi)
    if not histograms:
        left_out["scores"] = "Filters were not chosen by their scores, so none were computed."
    if not len(history.steps) and not history.evaluations:
        left_out["training"] = "The artifacts have not been trained, or their log is gone."
    curve = run.blend if run is not None and run.blend is not None and run.blend.step == proof.step else None
    exported = Exported(proof.step, proof.blend, curve)
    retained = metric_figures(history, history.retain_names(), lambda e: e.retain, exported, "retain", old=True)
    if not retained:
        left_out["retention"] = "The vendor's own task was not evaluated, so how much of it was kept is not known."
    strips = filter_strips(proof.masked)
    validated = {e.step: e.validation for e in history.evaluations if e.validation is not None}
    return {
        "proof": proof,
        "changed": [(entry.name, len(entry.filters), ranges(entry.filters)) for entry in proof.verify.changed],
        "retrained": sum(entry.name not in proof.verify.added for entry in proof.verify.changed),
        "proved": sentences(proof.verify),
        "files": (*proof.files, *facts.data_files(run)),
        "selection": facts.selection_rows(proof.manifest),
        "options": (*facts.option_rows(proof.manifest, run), *facts.time_rows(run)),
        "data_rows": facts.data_rows(run),
        "versions": facts.version_rows(proof.manifest, run),
        "strips": strips,
        "apart_up_to": APART_UP_TO,
        "whole": sum(strip.whole for strip in strips),
        "partly": sum(strip.partly for strip in strips),
        "filters": sum(strip.filters for strip in strips),
        "phi": phi,
        "histograms": histograms,
        "notes": notes_of(histograms),
        "history": history,
        "loss": loss_curve(history, proof.step) if "training" not in left_out else None,
        "parts": [
            (output, part_curve(f"part{place}", history, losses, proof.step))
            for place, (output, losses) in enumerate(history.parts.items() if "training" not in left_out else ())
        ],
        "validation": (validated.get(0), exported.value(validated, "loss")),
        "training_seconds": float(history.seconds[history.seconds > 0].sum()),
        "wait": _wait(history),
        "rate": None if constant_rate(history) is not None else rate_curve(history) if _has_rate(history) else None,
        "constant_rate": constant_rate(history),
        "metrics": metric_figures(history, history.metric_names(), lambda e: e.metrics, exported, "metric"),
        "retained": retained,
        "blend": curve,
        "at_blend": "" if proof.blend == 1 else f", blend {proof.blend:g}",
        "nothing_used": NOTHING_USED,
        "by_patches": facts.is_by_patches(run) and known.evaluation is not None,
        "blends": blend_figures(curve, proof.blend) if curve is not None else (),
        "labelled": facts.is_labelled(run),
        "rows": chosen_rows(history.evaluations, proof.step),
        "evaluation": known.evaluation,
        "outputs": view_of(known.evaluation) if known.evaluation is not None else (),
        "acceptance": known.verdict,
        "recorded": run.acceptance if run is not None else None,
        "samples": [each for each in known.samples if isinstance(each, Sample)],
        "answers": [each for each in known.samples if isinstance(each, Answer)],
        "role": known.role,
        "note": known.note,
        "label_key": _label_key(known),
        "gate_decides": needs_batches_of_one(proof.tuned),
        "left_out": left_out,
        "now": facts.now(),
        "version": metadata.version("tgdonnx"),
    }


def _label_key(known: Study) -> tuple[tuple[str, str], ...]:
    """Returns the colours of the classes of regions that are shown, with their names."""
    if not any(isinstance(each, Sample) and each.regions for each in known.samples):
        return ()
    return tuple((label_colour(number), name) for number, name in enumerate(known.label_names))


def _has_rate(history: History) -> bool:
    return bool((history.learning_rates > 0).any())


def _phi(proof: Proof) -> Optional[float]:
    phi: Optional[float] = proof.manifest.selection.get("phi")
    return phi


def _histograms(proof: Proof, phi: Optional[float]) -> tuple[Any, ...]:
    if phi is None:
        return ()
    selection = proof.manifest.selection
    provenance = trace_network(proof.masked.network)
    scores = score_layers(provenance, alpha=float(selection.get("alpha", 1.0)), k=int(selection.get("k", 5)))
    return score_histograms(scores.layers, phi)


def _wait(history: History) -> Optional[float]:
    known = (history.seconds > 0) & (history.wait >= 0)
    return float(history.wait[known].sum() / history.seconds[known].sum()) if known.any() else None
