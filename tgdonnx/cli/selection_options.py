"""Options that say which filters train, and from where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import click
from click.core import ParameterSource

from tgdonnx.adapting import Adapter
from tgdonnx.cli.collecting import Body, collected
from tgdonnx.cli.common import ALPHA, NEIGHBOURS, Command
from tgdonnx.cli.config import CONFIG
from tgdonnx.cli.helping import SELECTION, options_of
from tgdonnx.cli.paths import PATH
from tgdonnx.data import DataOptions
from tgdonnx.files.optionfiles import read_filters
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.masking import MaskOptions
from tgdonnx.regrowing import KINDS, Kind, Reinitialization
from tgdonnx.selection import MODES, STRATEGIES, AllLayers, BySensitivity, Mode, Phi, Said, Strategy, StrategyType
from tgdonnx.sweeping import DEFAULT_TOLERANCE

AUTO = "auto"
_option = options_of(SELECTION)


@dataclass(frozen=True)
class Selecting:
    """What the command line says of which filters train, and from where.

    Attributes:
        asked: for the names of the strategies what was said of each, of which at most one was asked for. That of ``phi`` may be
            ``auto``, for that of the drop test.
        tolerance: of the drop test, and of the start in mode regrow.
        mode: of the masks, None if nothing is said; mode regrow measures how far the output moves, too.
        alpha: of the KSE.
        k: the number of neighbours of the KSE.
        kind: see `Reinitialization`, as for the next two.
        calibrate: a few images.
        isolate: whether filters that stay read reinitialised ones.
        protect: see `MaskOptions`.
        sweep_data: the images of the drop test.
        rank: of side paths.
        freeze: names of layers that stay frozen, or patterns of names.

    Raises:
        UsageError: several ways to select were given, or a mode other than adapter, which is for all layers then, and none; or
            what is of another mode, or a tolerance of nothing.
    """

    asked: Mapping[str, Any]
    tolerance: Optional[float]
    mode: Optional[Mode]
    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K
    kind: Optional[Kind] = None
    calibrate: Optional[Path] = None
    isolate: bool = False
    protect: bool = False
    sweep_data: Optional[Path] = None
    rank: Optional[int] = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        chosen, mode = self._chosen, self.mode or MaskOptions().mode
        if len(chosen) > 1:
            given = ", ".join(f"--{name}" for name in chosen)
            raise click.UsageError(f"expected exactly one of {self._ways}; got {given}{_where(chosen)}")
        if not chosen and self.mode not in (None, "adapter"):
            raise self._nothing_said(f" with --mode {self.mode}")
        if self.tolerance is not None and not (self.by_drop_test or mode == "regrow" or self.is_open):
            raise click.UsageError("--tolerance is of the drop test, which only --phi auto and --mode regrow do")
        of_regrow = {
            "--rebirth": self.kind is not None,
            "--calibrate": self.calibrate is not None,
            "--isolate": self.isolate,
        }
        for name, is_given in of_regrow.items():
            if is_given and mode != "regrow":
                raise click.UsageError(f"{name} is for --mode regrow; the mode is {mode}")
        if self.rank is not None and mode != "adapter":
            raise click.UsageError(f"--rank is for --mode adapter; the mode is {mode}")

    @property
    def _chosen(self) -> list[str]:
        return [name for name, value in self.asked.items() if value is not None and value is not False]

    @property
    def _ways(self) -> str:
        return ", ".join(f"--{name}" for name in self.asked)

    def _nothing_said(self, where: str = "") -> click.UsageError:
        return click.UsageError(f"expected exactly one of {self._ways}{where}; got none. {self._offered}")

    @property
    def _offered(self) -> str:
        if self.freeze:
            return "--freeze takes layers out of a selection: `--all` trains all others"
        return f"Where you do not know which filters, `--phi {AUTO}` has the drop test on your data find them"

    @property
    def is_open(self) -> bool:
        """Whether nothing is said of what trains."""
        return not self._chosen and self.mode is None

    def require_said(self) -> None:
        """Checks that it is said what trains.

        Raises:
            UsageError: it is not.
        """
        if self.is_open:
            raise self._nothing_said()

    @property
    def by_drop_test(self) -> bool:
        """Whether phi is that of the drop test."""
        return AUTO in self.asked.values()

    @property
    def by_gradient(self) -> bool:
        """Whether the filters are those that the gradient on data with targets names."""
        return any(issubclass(each.strategy, BySensitivity) for each in STRATEGIES if each.name in self._chosen)

    @property
    def accepted_change(self) -> float:
        """The largest change of the output that is accepted."""
        return DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance

    def strategy(self, recommend: Callable[[float, float, int], Phi], seed: int) -> Strategy:
        """Returns the strategy that was asked for.

        Args:
            recommend: finds phi by the drop test; takes tolerance, alpha and the number of neighbours.
            seed: of a random selection.

        Raises:
            SelectionError: the file with filters is not readable.
        """
        if self.by_drop_test:
            return recommend(self.accepted_change, self.alpha, self.k)
        if not self._chosen:
            return AllLayers()
        asked = next(each for each in STRATEGIES if each.name in self._chosen)
        value, said = self.asked[asked.name], Said(self.alpha, self.k, seed)
        made: Strategy = asked.ask(read_filters(value) if asked.takes == "filters" else value, said)
        return made

    def masking(self, reading: DataOptions, seed: int, device: str) -> MaskOptions:
        """Returns what of the selected filters trains, and from where.

        Args:
            reading: how the images to calibrate on are read.
            seed: of all random numbers.
            device: where models run.
        """
        reinitialized = Reinitialization(
            self.kind, self.calibrate, reading, self.isolate, self.accepted_change, seed, device
        )
        adapter = Adapter(seed=seed) if self.rank is None else Adapter(self.rank, seed)
        return MaskOptions(self.mode or MaskOptions().mode, reinitialized, self.protect, adapter, self.freeze)


def _where(given: list[str]) -> str:
    """Says in which file of --config options are that the command line does not give."""
    context = click.get_current_context(silent=True)
    if context is None or CONFIG not in context.meta:
        return ""
    if any(context.get_parameter_source(name) is not ParameterSource.DEFAULT_MAP for name in given):
        return ""
    return f" in {context.meta[CONFIG]}; keep one of them there"


def _phi_or_auto(context: click.Context, parameter: click.Parameter, text: Optional[str]) -> Union[float, str, None]:
    text = _of_file_unless_said(context, parameter, text)
    if text is None or text == AUTO:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise click.BadParameter(f"expected a number or {AUTO}, got {text!r}") from error


def _of_file_unless_said(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Drops a selection of --config where the command line, which is read first, says another."""
    source = context.get_parameter_source
    if source(str(parameter.name)) is not ParameterSource.DEFAULT_MAP:
        return value
    others = (each.name for each in STRATEGIES if each.name in context.params)
    return None if any(source(name) is ParameterSource.COMMANDLINE for name in others) else value


def _strategy_option(each: StrategyType[Any, Any]) -> Callable[[Body], Body]:
    """Returns the option that asks for a strategy; its parameter has the strategy's name."""
    if each.strategy is Phi:  # the drop test may find it
        return _option("--phi", metavar="PHI", callback=_phi_or_auto, help=each.help)
    types = {"number": float, "count": int, "nothing": bool, "filters": PATH}
    return _option(
        f"--{each.name}",
        each.name,
        type=types[each.takes],
        metavar=each.letter or None,
        is_flag=each.takes == "nothing",
        callback=_of_file_unless_said,
        help=each.help,
    )


freeze_option = _option(
    "--freeze",
    multiple=True,
    metavar="LAYER",
    help="Train nothing of this layer, whatever is selected: the name of its node or weight, or a pattern such as 'encoder.*'. "
    "May be given several times.",
)

selection_options = collected(
    "selecting",
    Selecting,
    *map(_strategy_option, STRATEGIES),
    freeze_option,
    ALPHA,
    NEIGHBOURS,
    _option(
        "--tolerance",
        type=float,
        help="Of --phi auto and --mode regrow: the largest change of the output, as in `sweep`.  "
        f"[default: {DEFAULT_TOLERANCE}]",
    ),
    _option(
        "--mode",
        type=click.Choice(MODES),
        help="paper: whole filters train; readers: and in all other filters the kernels that read meaningless maps; regrow: as "
        "readers, but the filters start anew and those kernels at 0; adapter: nothing of MODEL trains, but side paths that are "
        "added beside its layers, all or those selected.  "
        f"[default: {MaskOptions().mode}; of finetune without a selection, by the drop test]",
    ),
    _option(
        "--rank",
        type=click.IntRange(1),
        help="Of --mode adapter: how many maps every side path has in between, per group.  "
        f"[default: {Adapter().rank}]",
    ),
    together={"asked": [each.name for each in STRATEGIES]},
)
"""The ways to select filters, of which at most one is given, and the mode of the masks.

The command gets ``selecting``, a `Selecting`, of these options and those below.
"""

isolate_option = _option(
    "--isolate",
    is_flag=True,
    help="Of --mode regrow: filters that stay never read reinitialised ones; only layers at the output do.",
)

protect_option = _option(
    "--protect", is_flag=True, help="Never retrain what an earlier round trained, by the records in the model."
)


def reinitialization_options(command: Command) -> Command:
    """Where reinitialised filters of mode regrow get their values."""
    for option in (
        _option(
            "--calibrate",
            type=PATH,
            metavar="DATA",
            help="Of mode regrow: a few unlabelled images, to give reinitialised maps the mean and variance of the others, and "
            "to measure the change of the output on; else that is done on random input.",
        ),
        _option(
            "--rebirth",
            "kind",
            type=click.Choice(KINDS),
            help="Of mode regrow: where initial values come from.  [default: calibrated with --calibrate, else clone]",
        ),
    ):
        command = option(command)
    return command
