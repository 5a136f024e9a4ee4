"""Several selections at equal budget: the same steps, batches, seed and learning rate, each into a folder of its own.

What is there already is not done again: a run that is over is only read, and one that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any, Optional, Union

from tgdonnx.artifacts import BuildOptions
from tgdonnx.artifacts.locking import locked
from tgdonnx.cluster import Cluster, open_cluster, require_alike
from tgdonnx.comparing.candidates import NONE
from tgdonnx.comparing.choosing import Entry
from tgdonnx.comparing.duplicates import duplicates
from tgdonnx.comparing.on_workers import run_on_workers
from tgdonnx.comparing.outcome import report_of, vendor_entry
from tgdonnx.comparing.plan import require_equal_budget, require_named_modes, settings_of, wanted_candidates
from tgdonnx.comparing.preparing import (
    artifacts_of,
    build_all,
    building_for,
    require_runnable,
    steps_of_epoch,
    write_plan,
)
from tgdonnx.comparing.recommending import recommend
from tgdonnx.comparing.record import (
    COMPARISON,
    COMPARISON_FORMAT,
    Comparison,
    TgdRecord,
    new_comparison,
    read_comparison,
    unasked,
    write_comparison,
)
from tgdonnx.comparing.report import CompareReport
from tgdonnx.comparing.running import Plan, run_candidate
from tgdonnx.comparing.spreads import spreads_of
from tgdonnx.comparing.trials import Trials
from tgdonnx.data import DataSource
from tgdonnx.engines import ENGINES
from tgdonnx.errors import ClusterError, DataError, StoppedError, TgdonnxError
from tgdonnx.files.model_file import ModelSource, StrPath, load_model, write_bytes
from tgdonnx.files.outputs import Kind, Output, require_outputs
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions, Watch
from tgdonnx.finetuning.interruption import Interrupted, interruptible
from tgdonnx.finetuning.training import training_device
from tgdonnx.layers import open_network
from tgdonnx.masked_model import require_unmasked
from tgdonnx.masking import MaskOptions
from tgdonnx.sensitivity import measuring, sensitivity

VENDOR = "vendor.onnx"
"""Where the vendor's file goes that was in memory."""


def compare(
    model: ModelSource,
    data: Union[RunData, DataSource],
    directory: StrPath,
    select: Union[Trials, Sequence[str], None] = None,
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    masking: MaskOptions = MaskOptions(),  # noqa: B008  # frozen
    sweep_data: Optional[DataSource] = None,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> CompareReport:
    """Trains several selections at equal budget, and looks at the new and the old task along every curve.

    Each selection leaves its artifacts and its tuned model in a folder of ``directory``. Selections that turn out to be one
    are trained once. Called again, it goes on: what is done is not done again, and selections may be added. A run whose best
    point under another limit was not kept is run again.

    Args:
        model: the vendor's file, or a model in memory, whose bytes are written as ``vendor.onnx`` in ``directory``.
        data: what to train on, and what to look at besides; a source alone is what to train on. Every selection is judged by
            the validation data, a split may take its place; images to agree on are for selections with ``+agree``.
        directory: where to keep everything; new, empty, or of this comparison.
        select: what is tried, how often, and where; names of selections alone are tried once, in this process, and a handful
            that fits the model, if None.
        training: how to train, the same for all. ``retain_limit`` does not stop a run here: it says which points may be
            chosen.
        building: what training minimises, and how gradients are treated, the same for all; but ``l2_sp`` is for selections
            with ``+l2sp``. Without a form it is ``thin`` where there is that form.
        validation: data of the new task that is not trained on; every selection is judged by it. A split may take its place.
        retain: data of the vendor's own task, see `tgdonnx.train`.
        agree: for selections with ``+agree``: images to agree with the vendor on, see `tgdonnx.train`.
        masking: layers that stay frozen in every selection, and of those in mode regrow how filters are reinitialised, whose
            tolerance is also that of the drop test that finds the phi of ``tgd``. Modes, ranks, and whether filters are
            isolated the names of the selections say; seed and how images are read are those of the comparison.
        sweep_data: unlabelled images for the drop test; ``data`` if None.
        watch: who looks on, and what stops the run under way; the next call goes on. There are no event files.

    Raises:
        StoppedError: a signal stopped a run.
        ClusterError: the workers are not there, or not alike, or all of them died.
        SelectionError: a selection is unknown, or selects nothing in this model.
        DataError: data or an option does not fit.
        OutputError: the directory holds something else, or cannot be written.
        RuntimeMissingError: there is no such device.
        TgdonnxError: as the stages do.
    """
    file, directory = load_model(model), Path(directory)
    run_data = RunData.of(data)
    require_outputs(
        [Output(directory, Kind.ADDED_TO)],
        [file, *run_data.read, sweep_data, masking.reinitialization.calibrate],
    )
    if isinstance(run_data.data, Noise2Noise):
        raise DataError(
            "selections are compared on data with targets; two noisy images are for `tgdonnx.train` and `tgdonnx.finetune`"
        )
    watch = watch.without_repetition()  # what is said of the data is the same of every selection
    if watch.tensorboard is not None:
        raise DataError("event files are for single runs; log.jsonl of every selection is kept in its artifacts")
    require_named_modes(masking)
    trials = Trials.of(select)
    candidates = wanted_candidates(trials.select, agree=run_data.agree, l2_sp=building.l2_sp)
    require_equal_budget(training, validated=run_data.validated, retained=run_data.retain is not None)
    network, training = open_network(file), replace(training, learning_rate=training.peak)
    require_unmasked(file)
    building = building.in_cheapest_form()
    device = training_device(ENGINES[building.engine], training.device)
    reinitialization = replace(
        masking.reinitialization, seed=training.seed, reading=run_data.reading, device=training.device
    )
    masking = replace(masking, reinitialization=reinitialization)
    places = {
        "data": run_data.data,
        "validation": run_data.validation,
        "retain": run_data.retain,
        "calibrate": reinitialization.calibrate,
    }
    dropping: dict[str, Any] = {"tolerance": reinitialization.tolerance, "rebirth": reinitialization.kind}
    if masking.freeze:  # as comparisons of before there was any have it
        dropping["freeze"] = masking.freeze
    settings = settings_of(file.sha256, training, building, dropping, run_data.reading, places)
    with ExitStack() as held:
        cluster = None if trials.workers is None else held.enter_context(open_cluster(trials.workers))
        if cluster is not None:
            require_alike(cluster, [*([] if file.in_memory else [file.path]), *run_data.read], directory)
        if (directory / COMPARISON).is_file():
            held.enter_context(locked(directory))
        known = read_comparison(directory, settings)
        notes: list[str] = []
        recommended = known.tgd.recommended() if known is not None and known.tgd is not None else None
        if recommended is None and any(candidate.kind == "tgd" for candidate in candidates):
            recommended = recommend(
                file,
                sweep_data or run_data.data,
                tolerance=reinitialization.tolerance,
                output=building.shown_output,
                reading=run_data.reading,
                device=training.device,
            )
        if recommended is not None and recommended.note:
            notes.append(recommended.note)
            watch.on_remark(recommended.note)
        tgd = None if recommended is None else TgdRecord.of(recommended)
        # Until all is done, what earlier calls came to stands.
        begun = Comparison(COMPARISON_FORMAT, settings) if known is None else known
        content = replace(begun, format=COMPARISON_FORMAT, tgd=tgd)
        with scratch_directory() as work:
            skip_empty = trials.select is None
            runs = trials.repeated(candidates, training.seed)
            problems = build_all(
                *(runs, file, directory, work, recommended, masking, building),
                measure=measuring(lambda: sensitivity(network, run_data, building, training, masking.freeze)),
                skip_empty=skip_empty,
            )
            runnable = [c for c in runs if c.kind != "none" and c.name not in problems]
            if not runnable:
                raise next(iter(problems.values()))
            left_out = duplicates(runnable, lambda candidate: artifacts_of(candidate, directory, work))
            for name, other in left_out.items():
                notes.append(f"{name} selects the same as {other}, so it is not trained again")
                watch.on_remark(notes[-1])
            runnable = [c for c in runnable if c.name not in left_out]
            per_epoch = steps_of_epoch(runnable, directory, work, run_data, training)
            steps = training.last_step(per_epoch)
            assert steps is not None
            size = len(file.data) + sum((file.path.parent / name).stat().st_size for name in file.external_files)
            require_runnable(runnable, directory, work, steps, size, device)
            if known is None:
                held.enter_context(new_comparison(directory))
            write_plan(work, directory, runnable, content)
            named = directory / VENDOR if file.in_memory else file.path
            if file.in_memory:
                write_bytes(named, file.data)
        every = training.validate_every or per_epoch
        # Mixed with images an epoch is longer; what is equal is the number of steps.
        equal = replace(training, epochs=None, steps=steps, validate_every=every, on_retain_limit="go-on")
        notes += [f"{name}: {error}" for name, error in problems.items()]
        plans = [
            Plan(candidate, named, directory, run_data, equal, building_for(candidate, building))
            for candidate in runnable
        ]
        with _keeping(directory, watch):
            if cluster is None:
                entries = [*_in_turn(plans, watch)]
            else:
                entries, failed = _at_once(cluster, plans, steps, watch)
                notes += failed
        notes += [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
        asked = [candidate.name for candidate in candidates if candidate.kind == "none" or candidate in runnable]
        if NONE in asked:
            entries.insert(asked.index(NONE), vendor_entry(entries))
        spreads = spreads_of(entries) if trials.seeds > 1 else ()
        others = unasked(known, entries)
        if others:
            kept = ", ".join(f"{entry.name} (seed {entry.seed})" for entry in others)
            notes.append(
                f"{directory / COMPARISON} keeps what earlier calls came to that this one did not ask for: {kept}"
            )
        report = report_of(named, directory, steps, training.retain_limit, entries, spreads, notes)
        write_comparison(directory, replace(content, report=report, others=others))
        return report


@contextmanager
def _keeping(directory: Path, watch: Watch) -> Iterator[None]:
    """Says with whatever ends the runs that they are kept.

    Raises:
        StoppedError: a signal came.
        TgdonnxError: as the block does.
    """
    kept = f"{directory} keeps what was done: the same command goes on"
    try:
        yield
    except StoppedError:
        raise
    except TgdonnxError as error:
        error.add(kept)
        raise
    except Interrupted as error:
        raise StoppedError(f"stopped by {error.signal.name}; {kept}", int(error.signal)) from error
    except KeyboardInterrupt as error:
        if not watch.stop_on:
            raise
        raise StoppedError(f"stopped at once; {kept}", int(Signals.SIGINT)) from error


def _in_turn(plans: Sequence[Plan], watch: Watch) -> Iterator[Entry]:
    for number, plan in enumerate(plans, start=1):
        watch.on_remark(f"{plan.candidate.title} ({number} of {len(plans)})")
        yield run_candidate(plan, watch)


def _at_once(cluster: Cluster, plans: Sequence[Plan], steps: int, watch: Watch) -> tuple[list[Entry], list[str]]:
    """Returns what came of the runs, in their order, and what is to be said of those that killed their workers."""
    found: dict[int, Entry] = {}
    failed: dict[int, ClusterError] = {}
    with interruptible(watch.stop_on) as check:
        for index, result in run_on_workers(cluster, plans, steps, watch, check):
            if isinstance(result, ClusterError):
                failed[index] = result
            else:
                found[index] = result
    if not found:
        raise next(iter(failed.values()))
    notes = [f"{plans[index].candidate.title} failed: {failed[index]}" for index in sorted(failed)]
    return [found[index] for index in sorted(found)], notes
