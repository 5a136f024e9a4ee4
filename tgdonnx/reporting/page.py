"""A run as one HTML page that needs nothing else: no network, no scripts, no fonts; to be read, filed and printed.

Whatever comes from files or options is escaped by the template; figures hold numbers only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.calls import in_words_of_reader
from tgdonnx.data import DataOptions, Dataset, DataSource, Scaling, open_for
from tgdonnx.errors import RuntimeMissingError
from tgdonnx.files.model_file import ModelFile, StrPath, require_writable, write_bytes
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning.reports import BlendCurve
from tgdonnx.finetuning.run_record import RunRecord, read_record
from tgdonnx.reporting import facts
from tgdonnx.reporting.curves import Curve, blend_curve, evaluation_curve, loss_curve, rate_curve
from tgdonnx.reporting.figures import require_matplotlib
from tgdonnx.reporting.filters import APART_UP_TO, filter_strips
from tgdonnx.reporting.histograms import score_histograms
from tgdonnx.reporting.history import Evaluation, History, read_history
from tgdonnx.reporting.legible import message
from tgdonnx.reporting.measures import titled
from tgdonnx.reporting.pictures import NoPicturesError, Runners, Sample, show_samples, shown_head
from tgdonnx.reporting.proof import Proof, prove
from tgdonnx.reporting.tables import ranges
from tgdonnx.reporting.verdict import sentences
from tgdonnx.runtime import CPU_NAME, parse_device, usable_device
from tgdonnx.scoring import score_layers
from tgdonnx.tracing import trace_network

MOST_ROWS = 40
_METRICS = {
    "psnr": (
        "PSNR",
        "dB",
        "peak signal-to-noise ratio, 20 log10(data range / RMSE), mean over the samples; higher is better",
    ),
    "ssim": (
        "SSIM",
        "no unit",
        "structural similarity (Wang et al. 2004), at most 1, mean over the samples; higher is better",
    ),
    "rmse": ("RMSE", "unit of the data", "root mean square error, mean over the samples; lower is better"),
    "accuracy": ("accuracy", "fraction", "elements whose class is right; higher is better"),
    "dice": ("Dice", "fraction", "overlap, 2 |A ∩ B| / (|A| + |B|), mean over the samples; higher is better"),
}


@dataclass(frozen=True)
class PageReport:
    """What was written.

    Attributes:
        output: the page.
        size: of the page, in bytes.
        verified: whether nothing but retrained filters changed in the tuned model.
        left_out: why which section has nothing to show.
    """

    output: str
    size: int
    verified: bool
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class MetricFigure:
    """A curve of a metric.

    Attributes:
        name: of the metric.
        unit: of its values.
        meaning: what it is; empty if we do not know it.
        curve: the figure; None if there is one value only.
        start: the vendor's value, before training; None if it was not taken.
        exported: the value of the checkpoint that is exported; None if it was not taken there.
    """

    name: str
    unit: str
    meaning: str
    curve: Optional[Curve]
    start: Optional[float]
    exported: Optional[float]


@dataclass(frozen=True)
class BlendFigure:
    """A number of the new task, or of the vendor's own, against the blend.

    Attributes:
        name: of the number.
        what: of which data it is.
        svg: the curve.
        start: the number at blend 0.
        written: the same at the blend of the tuned model; None if it was not evaluated there.
        end: the same at blend 1.
    """

    name: str
    what: str
    svg: str
    start: float
    written: Optional[float]
    end: float


def require_page(output: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a page can be made and written, before any work is done for it.

    Raises:
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: jinja2 or matplotlib is not installed.
    """
    _environment()
    require_matplotlib()
    return require_writable(output, overwrite=overwrite)


def report(
    directory: StrPath,
    output: StrPath,
    *,
    model: Optional[StrPath] = None,
    tuned: Optional[StrPath] = None,
    data: Optional[DataSource] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008  # frozen
    blend: float = 1.0,
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
        data: samples to show before and after; the first four. They are scaled as the training data was, where the record of
            the run says how.
        reading: how the data is read; patches, augmentation and a split are ignored.
        blend: of the checkpoint, where ``tuned`` is None; see `tgdonnx.export`.
        overwrite: whether ``output`` may exist.
        device: where models run on the samples; see `tgdonnx.TrainOptions`.

    Raises:
        ArtifactsError: the directory is not usable, or ``model`` is another file than it was built from.
        DataError: the data does not fit.
        ModelFileError: ``model`` or ``tuned`` is no model.
        OutputError: the page cannot be written.
        RuntimeMissingError: jinja2, matplotlib or onnxruntime-training is not installed; or there is no such device.
    """
    output, directory = Path(output), Path(directory)
    require_outputs([Output(output)], [directory, model, tuned, data], overwrite=overwrite)
    require_page(output, overwrite=overwrite)
    read_manifest(directory)
    runs_on = parse_device(device) if data is None else usable_device(device)
    with scratch_directory() as work:
        with locked(directory, reading=True):
            history, run = read_history(directory), read_record(directory)
            proof = prove(directory, work, model=model, tuned=tuned, blend=blend)
        samples = Samples(Runners(proof.manifest, runs_on), data, reading)
        return write_page(directory, output, proof, history, run, samples)


@dataclass(frozen=True)
class Samples:
    """What a page shows samples of.

    Attributes:
        runners: run the models.
        data: the data, if there is any.
        reading: how it is read; patches, augmentation and a split are ignored.
    """

    runners: Runners
    data: Optional[DataSource]
    reading: DataOptions

    def show(self, base: ModelFile, tuned: ModelFile, scaling: Optional[Scaling]) -> tuple[tuple[Sample, ...], str]:
        """Returns the first samples, through both models, or why there are none.

        Raises:
            DataError: the data does not fit.
        """
        if self.data is None:
            return (), "No samples were handed in."
        whole = replace(self.reading, patch=None, patches_per_epoch=None, augment=(), validation_split=None)
        inputs = self.runners.manifest.inputs
        try:
            shown_head(self.runners.manifest)  # before data is opened
            dataset = Dataset(open_for(self.data, inputs, whole), inputs, whole, scaling=scaling)
            return show_samples(base, tuned, self.runners, dataset), ""
        except NoPicturesError as reason:
            return (), str(reason)


def write_page(
    directory: Path, output: Path, proof: Proof, history: History, run: Optional[RunRecord], shown: Samples
) -> PageReport:
    """Writes the page of a run whose files are open.

    Args:
        directory: the artifacts directory.
        output: the page to write.
        proof: what was checked.
        history: what the log says.
        run: what the run is; None if its record is gone.
        shown: the samples to show.

    Raises:
        DataError: the data does not fit.
        OutputError: the page cannot be written.
        RuntimeMissingError: jinja2 or matplotlib is not installed.
    """
    samples, no_samples = shown.show(proof.base, proof.tuned, facts.recorded_scaling(run))
    content = _content(proof, history, run, samples, no_samples)
    name = proof.files[0].name or directory.resolve().name
    page = _environment().get_template("report.html.j2").render(name=name, **content)
    encoded = page.encode("utf-8", "replace")
    write_bytes(output, encoded)
    return PageReport(str(output), len(encoded), proof.verify.ok, tuple(content["left_out"].values()))


def _content(
    proof: Proof, history: History, run: Optional[RunRecord], samples: tuple[Sample, ...], no_samples: str
) -> dict[str, Any]:
    """Returns what the template shows, by the names that it uses."""
    left_out = {"pictures": no_samples} if no_samples else {}
    phi = _phi(proof)
    histograms = _histograms(proof, phi)
    if not histograms:
        left_out["scores"] = "Filters were not chosen by their scores, so none were computed."
    if not len(history.steps) and not history.evaluations:
        left_out["training"] = "The artifacts have not been trained, or their log is gone."
    retained = _metric_figures(history, history.retain_names(), lambda e: e.retain, proof.step, "retain")
    if not retained:
        left_out["retention"] = "The vendor's own task was not evaluated, so how much of it was kept is not known."
    strips = filter_strips(proof.masked)
    curve = run.blend if run is not None and run.blend is not None and run.blend.step == proof.step else None
    return {
        "proof": proof,
        "changed": [(entry.name, len(entry.filters), ranges(entry.filters)) for entry in proof.verify.changed],
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
        "history": history,
        "loss": loss_curve(history, proof.step) if "training" not in left_out else None,
        "validation": _start_and_exported(
            [(e.step, e.validation) for e in history.evaluations if e.validation is not None], proof.step
        ),
        "training_seconds": float(history.seconds[history.seconds > 0].sum()),
        "wait": _wait(history),
        "rate": rate_curve(history) if (history.learning_rates > 0).any() else None,
        "metrics": _metric_figures(history, history.metric_names(), lambda e: e.metrics, proof.step, "metric"),
        "retained": retained,
        "blend": curve,
        "blends": _blend_figures(curve, proof.blend) if curve is not None else (),
        "labelled": facts.is_labelled(run),
        "rows": _chosen_rows(history.evaluations, proof.step),
        "samples": samples,
        "left_out": left_out,
        "now": facts.now(),
        "version": metadata.version("tgdonnx"),
    }


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


def _metric_figures(
    history: History,
    names: Sequence[str],
    values_of: Callable[[Evaluation], Mapping[str, float]],
    exported: Optional[int],
    prefix: str,
) -> tuple[MetricFigure, ...]:
    figures = []
    for index, name in enumerate(names):
        found = [(e.step, values_of(e)[name]) for e in history.evaluations if name in values_of(e)]
        start, at_export = _start_and_exported(found, exported)
        curve = None
        if len(found) > 1:
            steps, values = zip(*found)
            curve = evaluation_curve(f"{prefix}{index}", steps, values, exported, start=start is not None)
        output, space, metric = name.rpartition(" ")
        title, unit, meaning = _METRICS.get(metric, (metric, "", ""))
        title = f"{output}{space}{title}"
        figures.append(MetricFigure(title, unit, meaning, curve, start, at_export))
    return tuple(figures)


def _blend_figures(curve: BlendCurve, written: float) -> tuple[BlendFigure, ...]:
    """Returns the figures of what was evaluated between the start and the end of the run, where it is finite throughout."""
    figures = []
    first = curve.curve[0]
    for index, (name, old) in enumerate([*((n, False) for n in first.validation), *((n, True) for n in first.retain)]):
        found = {p.blend: (p.retain if old else p.validation).get(name) for p in curve.curve}
        values = [value for value in found.values() if value is not None]
        if len(values) == len(found):
            svg = blend_curve(f"blend{index}", list(found), values, written, old=old)
            title = titled(name, {metric: told[0] for metric, told in _METRICS.items()})
            what = "vendor's own task" if old else "validation data"
            figures.append(BlendFigure(title, what, svg, values[0], found.get(written), values[-1]))
    return tuple(figures)


def _start_and_exported(
    found: Sequence[tuple[int, float]], exported: Optional[int]
) -> tuple[Optional[float], Optional[float]]:
    """Returns the values at step 0 and at the exported step, of pairs of step and value."""
    by_step = dict(found)
    return by_step.get(0), None if exported is None else by_step.get(exported)


def _wait(history: History) -> Optional[float]:
    known = (history.seconds > 0) & (history.wait >= 0)
    return float(history.wait[known].sum() / history.seconds[known].sum()) if known.any() else None


def _chosen_rows(evaluations: Sequence[Evaluation], exported: Optional[int]) -> tuple[Evaluation, ...]:
    """Returns at most 40 evaluations, evenly chosen; the first, the last and the exported one among them."""
    every = -(-len(evaluations) // (MOST_ROWS - 2))
    last = len(evaluations) - 1
    return tuple(e for i, e in enumerate(evaluations) if i % every == 0 or i == last or e.step == exported)


def _environment() -> Any:
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError as error:
        raise RuntimeMissingError(f"a report needs jinja2 ({error})", remedy="pip install 'tgdonnx[report]'") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tgdonnx.reporting"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(said=in_words_of_reader, number=_number, short=_short, aligned=_aligned, size=_size)
    return environment


def _shown(value: Any) -> Any:
    # Whatever a template prints passes here before it is escaped. What is marked as safe there was drawn by us, of numbers.
    return message(value) if type(value) is str else value


def _number(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:.6g}"


def _short(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:.4g}"


def _aligned(value: Optional[float]) -> str:
    return "—" if value is None else f"{value:#.6g}"


def _size(size: Optional[int]) -> str:
    return "—" if size is None else f"{size:,} bytes"
