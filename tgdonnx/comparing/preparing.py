"""Everything before the first step: artifacts of every selection, and a look at the data; then all moves to its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import BuildOptions, build, read_manifest
from tgdonnx.artifacts.manifest import MANIFEST, MASKED_MODEL
from tgdonnx.comparing.candidates import Candidate
from tgdonnx.comparing.recommending import Recommended
from tgdonnx.comparing.record import Comparison, write_comparison
from tgdonnx.comparing.report import ARTIFACTS
from tgdonnx.errors import OutputError, SelectionError, UntrainableError
from tgdonnx.exporting import try_export
from tgdonnx.files.access import writing
from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.outputs import require_no_link
from tgdonnx.finetuning import Need, RunData, TrainOptions, needs_of_run, require_space
from tgdonnx.finetuning.opening import fitting_batch, open_data
from tgdonnx.finetuning.session import Session
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.runtime import Device, parse_device
from tgdonnx.selection import Strategy


def building_for(candidate: Candidate, building: BuildOptions) -> BuildOptions:
    """Returns the options of `build` for a selection; ``l2_sp`` is for those with ``+l2sp``."""
    return building if "l2sp" in candidate.regularisers else replace(building, l2_sp=0.0)


def data_for(candidate: Candidate, data: RunData) -> RunData:
    """Returns the data for a selection; images to agree on are for those with ``+agree``."""
    return data if "agree" in candidate.regularisers else replace(data, agree=None)


def options_for(candidate: Candidate, options: TrainOptions) -> TrainOptions:
    """Returns the options of `train` for a selection; the share is for those with ``+agree``, a further run has its seed."""
    seed = options.seed if candidate.seed is None else candidate.seed
    return replace(options, seed=seed, agree_share=options.agree_share if "agree" in candidate.regularisers else None)


def build_all(
    candidates: Sequence[Candidate],
    model: ModelFile,
    directory: Path,
    work: Path,
    recommended: Optional[Recommended],
    masking: MaskOptions,
    building: BuildOptions,
    *,
    measure: Callable[[Strategy], Strategy],
    skip_empty: bool,
) -> dict[str, SelectionError | UntrainableError]:
    """Builds the artifacts that are not there yet; returns the selections that cannot be trained, and why.

    Args:
        candidates: what to build.
        model: the vendor's file.
        directory: where artifacts may be already.
        work: where to build.
        recommended: what ``tgd`` stands for.
        masking: what stays frozen, and how filters are reinitialised; the rest the name of the selection says.
        building: how to build, but for ``l2_sp``, which is for selections with ``+l2sp``.
        measure: looks at the data for selections that go by it.
        skip_empty: whether a selection that selects nothing is left out rather than refused.

    Raises:
        SelectionError: not ``skip_empty``, and one selects nothing.
        OutputError: what is there already was built with another ``l2_sp``.
        TgdonnxError: as `mask` and `build` do.
    """
    problems: dict[str, SelectionError | UntrainableError] = {}
    tgd = recommended.strategy if recommended is not None else None
    for candidate in candidates:
        if candidate.kind == "none":
            continue
        options = building_for(candidate, building)
        there = directory / candidate.folder / ARTIFACTS
        for place in (there.parent, there):
            require_no_link(place)
        if (there / MANIFEST).is_file():
            was = read_manifest(there).options.l2_sp
            if was != options.l2_sp:
                raise OutputError(
                    f"{there} was built with l2_sp = {was:g}, not {options.l2_sp:g}", remedy="choose another directory"
                )
            continue
        seed = masking.reinitialization.seed if candidate.seed is None else candidate.seed
        target = work / candidate.folder
        scratch = target / "masked"
        scratch.mkdir(parents=True)
        try:
            mask(
                model,
                scratch / MASKED_MODEL,
                measure(candidate.strategy(tgd, seed)),
                replace(
                    masking,
                    mode=candidate.mode,
                    reinitialization=replace(masking.reinitialization, isolate=candidate.isolate, seed=seed),
                    adapter=candidate.adapter(seed),
                ),
            )
            build(scratch / MASKED_MODEL, target / ARTIFACTS, options)
            try_export(target / ARTIFACTS)
        except SelectionError as error:
            if not skip_empty:
                raise SelectionError(f"{candidate.name}: {error}") from error
            problems[candidate.name] = error
        except UntrainableError as error:
            problems[candidate.name] = error
        shutil.rmtree(scratch)
    return problems


def steps_of_epoch(
    runnable: Sequence[Candidate], directory: Path, work: Path, data: RunData, options: TrainOptions
) -> int:
    """Opens all data, to see that it fits; returns the steps of an epoch without images to agree on.

    Raises:
        DataError: data or an option does not fit.
        ArtifactsError: agreement is not possible with the loss.
    """
    agreeing = next((c for c in runnable if "agree" in c.regularisers), None)
    session = Session(artifacts_of(agreeing or runnable[0], directory, work), device=parse_device(options.device))
    options = fitting_batch(session.manifest, options)
    if agreeing is not None:
        open_data(session, data, options)
    training, _, _ = open_data(session, replace(data, agree=None), replace(options, agree_share=None))
    return options.steps_per_epoch(len(training), session.manifest.fixed_batch)


def require_runnable(
    runnable: Sequence[Candidate], directory: Path, work: Path, steps: int, tuned_bytes: int, device: Device
) -> None:
    """Opens every selection in the runtime, and adds up what all will write, before hours are spent on the first.

    Args:
        runnable: the selections.
        directory: where all will be.
        work: where artifacts are that are not there yet.
        steps: of every run.
        tuned_bytes: what a tuned model takes.
        device: where they will run.

    Raises:
        ArtifactsError: the runtime cannot load one.
        OutputError: the disk has no room for all of them.
    """
    place = next(path for path in (directory, *directory.absolute().parents) if path.is_dir())
    needs: list[Need] = []
    for candidate in runnable:
        session = Session(artifacts_of(candidate, directory, work), device=device)
        if session.run_state is None:
            needs += (replace(need, path=place) for need in needs_of_run(session, steps))
            needs.append(Need(place, tuned_bytes, f"tuned model of {candidate.title}"))
    require_space(needs)


def artifacts_of(candidate: Candidate, directory: Path, work: Path) -> Path:
    """Returns the artifacts of a selection: those that are there, or else those that were built."""
    there = directory / candidate.folder / ARTIFACTS
    return there if there.is_dir() else work / candidate.folder / ARTIFACTS


def write_plan(work: Path, directory: Path, runnable: Sequence[Candidate], content: Comparison) -> None:
    """Moves what was built of the selections that will run to its place, and writes what the comparison is.

    Raises:
        OutputError: the directory cannot be written.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        write_comparison(directory, content)
        for name in sorted(candidate.folder for candidate in runnable):
            built, target = work / name, directory / name
            if (built / ARTIFACTS).is_dir():
                shutil.rmtree(target, ignore_errors=True)  # what a killed process left
                shutil.move(built, target)
