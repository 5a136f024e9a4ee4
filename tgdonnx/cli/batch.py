"""tgdonnx batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import click
from click.core import ParameterSource

from tgdonnx.batching import BatchReport, batch, faults_of
from tgdonnx.batching.listing import print_batch
from tgdonnx.batching.records import JobResult
from tgdonnx.cli.common import json_option, output_option, overwrite_option
from tgdonnx.cli.config import config_option
from tgdonnx.cli.helping import Command
from tgdonnx.cli.job_files import read_jobs
from tgdonnx.cli.job_options import job_command
from tgdonnx.cli.job_rows import jobs_of
from tgdonnx.cli.output import print_json, printing, remark
from tgdonnx.cli.paths import PATH
from tgdonnx.cli.progress import counting_bar
from tgdonnx.cli.train import STOPPING
from tgdonnx.cli.workers_option import workers_option
from tgdonnx.cluster import Workers
from tgdonnx.data.problems import raise_first
from tgdonnx.files.outputs import Kind

FAILED = 1
_JOB = [
    parameter for parameter in job_command.params if isinstance(parameter, click.Option) and parameter.name != "name"
]


class _BatchCommand(Command):
    """A command that takes the options of a job too, as what is said for all jobs; it gets them as ``asked``.

    They are checked, and handed on as they were given: what a row says besides may be what makes them fit.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the command line; see `Command`."""
        given = list(args)  # click takes them out one by one
        rest = super().parse_args(ctx, args)
        words, _, _ = self.make_parser(ctx).parse_args(args=given)
        asked: dict[str, Any] = {}
        for each in _JOB:
            name = str(each.name)
            source = ctx.get_parameter_source(name)
            if source is ParameterSource.COMMANDLINE:
                asked[name] = words[name]
            elif source is ParameterSource.DEFAULT_MAP:
                asked[name] = (ctx.default_map or {})[name]
            ctx.params.pop(name, None)
        ctx.params["asked"] = asked
        return rest


@click.command(
    "batch",
    cls=_BatchCommand,
    examples=(
        "tgdonnx batch jobs.csv -o studies --model vendor.onnx --phi 0.3 --epochs 20",
        "tgdonnx batch jobs.toml -o studies --report page.html --workers 4",
    ),
)
@click.argument("jobs", type=PATH)
@output_option("The directory for all jobs, new or of an earlier call.", Kind.ADDED_TO)
@workers_option
@overwrite_option
@config_option
@json_option
def command(
    jobs: Path, output: Path, workers: Optional[Workers], overwrite: bool, as_json: bool, asked: Mapping[str, Any]
) -> None:
    """Fine-tune many models: a job per row of JOBS.

    Columns are options of `finetune`. JOBS is .csv, .jsonl or .toml. Every job has a directory of its own in that of -o; what
    was done is not done again, what was stopped goes on, and what fails leaves the others alone. Options given here are for all
    jobs; a row wins. Paths in JOBS are from where it lies. Exit 1 if a job failed or is not accepted.
    """
    found, problems = jobs_of(jobs, read_jobs(jobs), asked)
    if problems:
        raise_first([*problems, *faults_of(found, output, overwrite=overwrite)])
    with counting_bar() as bar:

        def show(result: JobResult, done: int, total: int) -> None:
            bar(done, total, result.name)
            if result.state == "failed":
                remark(f"{result.name} failed")
            if result.remark:
                remark(f"{result.name}: {result.remark}")

        report = batch(found, output, workers=workers, overwrite=overwrite, stop_on=STOPPING, on_result=show)
    print_json(report) if as_json else _print(report)
    if report.failed or any(each.accepted is False for each in report.jobs):
        raise click.exceptions.Exit(FAILED)


command.params[1:1] = _JOB


def _print(report: BatchReport) -> None:
    failed = {each.name for each in report.failed}
    for name, reason in report.replaced.items():
        remark(f"{name} was {'tried' if name in failed else 'done'} again: {reason.partition(': pass')[0]}")
    with printing() as console:
        print_batch(report, console)
