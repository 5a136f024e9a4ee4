"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Optional, Union

import click

from tgdonnx.artifacts import FORMS, GRADIENTS, LOSSES, OPTIMIZERS, RANGED_LOSSES, BuildOptions
from tgdonnx.cli.common import Command as Command
from tgdonnx.cli.common import json_option as json_option
from tgdonnx.cli.common import model_argument as model_argument
from tgdonnx.cli.common import output_option as output_option
from tgdonnx.cli.common import overwrite_option as overwrite_option
from tgdonnx.cli.common import score_options
from tgdonnx.cli.optionfiles import read_filters
from tgdonnx.cli.paths import PATH
from tgdonnx.data import DataOptions
from tgdonnx.engines import ENGINES
from tgdonnx.masking import MaskOptions
from tgdonnx.regrowing import KINDS, Kind, Reinitialization
from tgdonnx.selection import MODES, STRATEGIES, Mode, Phi, Strategy, StrategyType
from tgdonnx.sweeping import DEFAULT_TOLERANCE

AUTO = "auto"


def _phi_or_auto(_context: click.Context, _parameter: click.Parameter, text: Optional[str]) -> Union[float, str, None]:
    if text is None or text == AUTO:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise click.BadParameter(f"expected a number or {AUTO}, got {text!r}") from error


protect_option = click.option(
    "--protect", is_flag=True, help="Never retrain what an earlier round trained, by the records in the model."
)


def strategy_options(command: Command) -> Command:
    """The ways to select filters, of which exactly one is given, and the mode of the masks."""
    for option in (
        click.option(
            "--mode",
            type=click.Choice(MODES),
            default=MaskOptions().mode,
            show_default=True,
            help="paper: whole filters train; readers: so do the kernels, in every filter, that read meaningless maps; "
            "regrow: these start at 0, and the filters with initial values.",
        ),
        click.option(
            "--tolerance",
            type=float,
            help="Of --phi auto and --mode regrow: the largest change of the output, as in `sweep`.  "
            f"[default: {DEFAULT_TOLERANCE}]",
        ),
        *(_strategy_option(each) for each in reversed(STRATEGIES)),
    ):
        command = option(command)
    return score_options(command)


def _strategy_option(each: StrategyType[Any, Any]) -> Callable[[Command], Command]:
    """Returns the option that asks for a strategy; its parameter has the strategy's name."""
    if each.strategy is Phi:  # the drop test may find it
        return click.option("--phi", metavar="PHI", callback=_phi_or_auto, help=each.help)
    types = {"number": float, "count": int, "nothing": bool, "filters": PATH}
    return click.option(
        f"--{each.name}", each.name, type=types[each.takes], is_flag=each.takes == "nothing", help=each.help
    )


isolate_option = click.option(
    "--isolate",
    is_flag=True,
    help="Of --mode regrow: filters that stay never read reinitialised ones; only layers at the output do.",
)


def reinitialization_options(command: Command) -> Command:
    """Where reinitialised filters of mode regrow get their values."""
    for option in (
        click.option(
            "--calibrate",
            type=PATH,
            metavar="DATA",
            help="Of mode regrow: a few unlabelled images, to give reinitialised maps the mean and variance of the others, and "
            "to measure the change of the output on; else that is done on random input.",
        ),
        click.option(
            "--rebirth",
            "kind",
            type=click.Choice(KINDS),
            help="Of mode regrow: where initial values come from.  [default: calibrated with --calibrate, else clone]",
        ),
    ):
        command = option(command)
    return command


def reinitialization(
    *,
    mode: Mode,
    kind: Optional[Kind],
    calibrate: Optional[Path],
    isolate: bool,
    tolerance: Optional[float],
    seed: int,
    reading: DataOptions,
) -> Reinitialization:
    """Returns how filters are reinitialised.

    Raises:
        UsageError: that was said, but the mode is another.
    """
    given = {"--rebirth": kind is not None, "--calibrate": calibrate is not None, "--isolate": isolate}
    for name, is_given in given.items():
        if is_given and mode != "regrow":
            raise click.UsageError(f"{name} is for --mode regrow; the mode is {mode}")
    return Reinitialization(
        kind=kind,
        calibrate=calibrate,
        reading=reading,
        isolate=isolate,
        tolerance=DEFAULT_TOLERANCE if tolerance is None else tolerance,
        seed=seed,
    )


def strategy(given: Mapping[str, Any], *, mode: Mode, recommend: Callable[[float, float, int], Phi]) -> Strategy:
    """Returns the one strategy that was asked for.

    Args:
        given: what `strategy_options` collects.
        mode: of the masks; mode regrow measures how far the output moves, too.
        recommend: finds phi by the drop test; takes tolerance, alpha and the number of neighbours.

    Raises:
        UsageError: none or several were, or a tolerance without a drop test.
        SelectionError: the file with filters is not readable.
    """
    chosen = [each for each in STRATEGIES if given[each.name] is not None and given[each.name] is not False]
    if len(chosen) != 1:
        what = f"got {', '.join(f'--{each.name}' for each in chosen)}" if chosen else "got none"
        raise click.UsageError(f"expected exactly one of {', '.join(f'--{each.name}' for each in STRATEGIES)}; {what}")
    (asked,), tolerance = chosen, given["tolerance"]
    value = given[asked.name]
    if value == AUTO:
        return recommend(DEFAULT_TOLERANCE if tolerance is None else tolerance, given["alpha"], given["neighbours"])
    if tolerance is not None and mode != "regrow":
        raise click.UsageError("--tolerance is of the drop test, which only --phi auto and --mode regrow do")
    made: Strategy = asked.ask(
        read_filters(value) if asked.takes == "filters" else value, given["alpha"], given["neighbours"]
    )
    return made


engine_option = click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help="What trains: onnxruntime: plain ONNX models, on any ONNX Runtime; onnxruntime-training: its on-device training API. "
    "Default: that of the runtime that is installed.",
)


def build_options(command: Command) -> Command:
    """What training minimises, and how gradients are treated. The command gets ``building``, a `BuildOptions`."""
    default = BuildOptions()

    @functools.wraps(command)
    def made(*args: Any, output_name: Optional[str], **given: Any) -> Any:
        chosen = {field.name: given.pop(field.name) for field in fields(BuildOptions) if field.name != "output"}
        building = BuildOptions(output=output_name, **chosen)
        return command(*args, building=building, **given)

    for option in (
        engine_option,
        click.option("--output", "output_name", metavar="NAME", help="Output to train on, when the model has several."),
        click.option(
            "--gradient",
            type=click.Choice(GRADIENTS),
            default=default.gradient,
            show_default=True,
            help="mask: the true gradient, masked; gate: none flows through frozen filters (unstable; for fidelity).",
        ),
        click.option(
            "--form",
            type=click.Choice(FORMS),
            help="masked (default of build): gradients are computed whole and multiplied; thin (default elsewhere): the same "
            "results, only what trains (filters, and kernels that read them) is computed.",
        ),
        click.option("--clip-norm", type=float, help="Largest norm of all gradients together."),
        click.option(
            "--l2-sp",
            type=float,
            default=default.l2_sp,
            show_default=True,
            help="Added to the gradient of what trains: L2_SP * (W - W0), W0 where it starts: the vendor's "
            "values, but for what was reinitialised.",
        ),
        click.option(
            "--l2", type=float, default=default.l2, show_default=True, help="Added to the gradient of W: L2 * W."
        ),
        click.option(
            "--momentum",
            type=float,
            default=default.momentum,
            show_default=True,
            help="Of sgd, less than 1; the engine onnxruntime has it alone.",
        ),
        click.option(
            "--optimizer",
            type=click.Choice(OPTIMIZERS),
            default=default.optimizer,
            show_default=True,
            help="What moves the weights by their gradients.",
        ),
        click.option(
            "--data-range",
            type=float,
            default=default.data_range,
            show_default=True,
            help=f"Largest minus least value of the data, for the losses {' and '.join(RANGED_LOSSES)}.",
        ),
        click.option(
            "--loss",
            metavar="LOSS",
            default=default.loss,
            show_default=True,
            help=f"{', '.join(LOSSES)}, or a weighted sum such as 0.8*l1+0.2*ssim.",
        ),
    ):
        made = option(made)
    return made  # type: ignore[return-value]
