"""The options of a job of a batch: those of finetune, for what finetune does of one model; and what makes a job of them."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import click

from tgdonnx.artifacts import BuildOptions
from tgdonnx.batching import BatchJob, ByDropTest, JobResults
from tgdonnx.cli.acceptance import acceptance_option
from tgdonnx.cli.blend_option import blend_option
from tgdonnx.cli.build_options import build_options
from tgdonnx.cli.collecting import collected
from tgdonnx.cli.data_options import paired_data_options
from tgdonnx.cli.helping import MODEL, OUTPUT, SELECTION, TRAINING, Command, options_of
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.run_options import run_options
from tgdonnx.cli.selection_options import (
    Selecting,
    isolate_option,
    protect_option,
    reinitialization_options,
    selection_options,
)
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions
from tgdonnx.scoring import ScoreOptions
from tgdonnx.selection import Phi, Strategy


@click.command("job", cls=Command, examples=())
@options_of(OUTPUT)("--name", default="", help="The name of the job, and of its directory.")
@options_of(MODEL)("--model", type=PATH, help="The vendor's model.")
@selection_options
@build_options
@paired_data_options
@reinitialization_options
@isolate_option
@options_of(SELECTION)(
    "--sweep-data",
    type=PATH,
    help="Of --phi auto: unlabelled images to look at; those of --data if left out. One drop test is done for all jobs of the "
    "same images.",
)
@run_options
@collected(
    "results",
    JobResults,
    options_of(OUTPUT)(
        "--apply", type=PATH, metavar="FULL", help="Apply the tuned model of a job to this image or volume."
    ),
    options_of(OUTPUT)(
        "--applied",
        metavar="NAME",
        help="What the result is called, in the directory of the job.  [default: tuned.applied and a suffix]",
    ),
    options_of(OUTPUT)("--report", metavar="NAME.html", help="Write a page of every job, so called, in its directory."),
    options_of(OUTPUT)("--card", metavar="NAME.json", help="Write a record for machines of every job likewise."),
    options_of(OUTPUT)("--keep/--no-keep", default=True, help="Keep the run directories.  [default: keep]"),
    blend_option,
    acceptance_option,
)
@options_of(TRAINING)(
    "--rounds",
    type=int,
    default=1,
    show_default=True,
    help="Score, mask and train so often, each time from the last result.",
)
@protect_option
def job_command(
    name: str,
    model: Optional[Path],
    selecting: Selecting,
    building: BuildOptions,
    data: RunData,
    training: TrainOptions,
    results: JobResults,
    rounds: int,
) -> BatchJob:
    """Returns the job that options ask for; the name of its row is added by whoever knows it."""
    if model is None:
        raise click.UsageError("expected a model, the vendor's, in the row or for all jobs")
    strategy: Union[Strategy, ByDropTest, None]
    if selecting.by_drop_test:
        looked_at = selecting.sweep_data or (None if isinstance(data.data, Noise2Noise) else data.data)
        if not isinstance(looked_at, Path):
            raise click.UsageError(
                "with --noise2noise, --phi auto needs images to look at; name them with --sweep-data"
            )
        strategy = ByDropTest(looked_at, selecting.accepted_change, ScoreOptions(selecting.alpha, selecting.k))
    elif selecting.sweep_data is not None:
        raise click.UsageError("--sweep-data is for the drop test, which only --phi auto does")
    else:
        strategy = None if selecting.is_open else selecting.strategy(_no_drop_test, training.seed)
    masking = selecting.masking(data.reading, training.seed, training.device)
    return BatchJob(name, model, data, strategy, training, building, masking, rounds, results)


def _no_drop_test(_tolerance: float, _alpha: float, _neighbours: int) -> Phi:
    raise AssertionError("it was not asked for")
