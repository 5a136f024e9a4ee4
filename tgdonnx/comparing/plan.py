"""What a comparison holds equal, and what ``tgd`` stands for in it: written down, so that a later call goes on with the same.

``comparison.json``, format 2: one JSON object with the fields of `Comparison`. Format 1 called ``map`` and ``augment`` of the
data ``renamed`` and ``augmentation``, and held a ``command`` for a shell where the report has a ``call``. A reader refuses a
newer format and ignores keys that it does not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec

from tgdonnx.artifacts import BuildOptions
from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER
from tgdonnx.comparing.candidates import DEFAULT_SELECTIONS, Candidate, parse_candidates
from tgdonnx.comparing.report import CompareReport, export_call
from tgdonnx.data import DataOptions, DataSource, open_source
from tgdonnx.data.description import hash_of_arrays
from tgdonnx.errors import DataError, OutputError, SelectionError
from tgdonnx.files.access import writing
from tgdonnx.files.model_file import ModelFile, write_bytes
from tgdonnx.files.typed import AtLeast0, Fraction, Positive, decode, encode, read_bytes
from tgdonnx.finetuning import TrainOptions
from tgdonnx.finetuning.metrics import LOSS
from tgdonnx.finetuning.run_record import data_options_of_older
from tgdonnx.layers import open_network
from tgdonnx.masking import MaskOptions
from tgdonnx.selection import Percentile, Phi, select
from tgdonnx.sweeping import sweep
from tgdonnx.tracing import trace_network

COMPARISON_FORMAT = 2
COMPARISON = "comparison.json"
FALLBACK_PERCENTILES = (10.0, 20.0, 30.0, 50.0)  # the first that selects anything
# Of the options: those that no loss depends on, but in its last bits, or that have one value here, and two that concern
# selections that may be added later.
_FREE = ("best", "retain_limit", "on_retain_limit", "checkpoint_every", "device", "agree_share", "l2_sp")


@dataclass(frozen=True)
class Recommended:
    """What ``tgd`` stands for.

    Attributes:
        strategy: the recommended phi, or a percentile where none is.
        note: why it is a percentile; empty if it is not.
    """

    strategy: Phi | Percentile
    note: str


@dataclass(frozen=True)
class TgdRecord:
    """What the drop test found, as it is written down: ``phi`` and ``tolerance``, or ``percentile`` and ``note``."""

    phi: Optional[Fraction] = None
    tolerance: Optional[AtLeast0] = None
    percentile: Optional[Annotated[float, msgspec.Meta(ge=0, le=100)]] = None
    note: str = ""

    @classmethod
    def of(cls, found: Recommended) -> TgdRecord:
        """Returns what `recommended` reads."""
        if isinstance(found.strategy, Phi):
            return cls(phi=found.strategy.phi, tolerance=found.strategy.tolerance)
        return cls(percentile=found.strategy.percentile, note=found.note)

    def recommended(self) -> Recommended:
        """Returns what was written down."""
        if self.percentile is not None:
            return Recommended(Percentile(self.percentile), self.note)
        assert self.phi is not None
        return Recommended(Phi(self.phi, tolerance=self.tolerance), "")


@dataclass(frozen=True)
class Comparison:
    """What a directory says of the comparison in it.

    Attributes:
        format: version of this format.
        settings: of the budget: model, sources, options of training and building.
        tgd: what ``tgd`` stands for, where it was asked for.
        report: what came of it, once all is done.
    """

    format: Positive
    settings: Mapping[str, Any]
    tgd: Optional[TgdRecord] = None
    report: Optional[CompareReport] = None


def wanted_candidates(
    names: Optional[Sequence[str]], *, agree: Optional[DataSource], l2_sp: float
) -> tuple[Candidate, ...]:
    """Returns what to compare; by default a handful of selections, and TGD with the regularisers that are given.

    Raises:
        SelectionError: a name is wrong, or a regulariser is named without what it needs, or given and not named.
    """
    if names is None:
        regularisers = [name for name, given in (("l2sp", l2_sp > 0), ("agree", agree is not None)) if given]
        return parse_candidates([*DEFAULT_SELECTIONS, *(f"tgd-readers+{name}" for name in regularisers)])
    candidates = parse_candidates(names)
    used = {regulariser for candidate in candidates for regulariser in candidate.regularisers}
    for regulariser, given, option in (("l2sp", l2_sp > 0, "`l2_sp`"), ("agree", agree is not None, "`agree`")):
        if regulariser in used and not given:
            raise SelectionError(f"a selection with +{regulariser} needs {option}")
        if given and regulariser not in used:
            raise SelectionError(
                f"{option} is for selections with +{regulariser}, and none is compared",
                remedy=f"add one, such as tgd+{regulariser}",
            )
    return candidates


def require_equal_budget(options: TrainOptions, *, validated: bool, retained: bool) -> None:
    """Checks that options let every selection take the same steps, and that there is something to judge them by.

    Raises:
        DataError: they do not.
    """
    if not validated:
        raise DataError(
            "selections are compared on data that is not trained on", remedy="pass validation data, or split some off"
        )
    if options.best != LOSS:
        raise DataError(
            f"the best points of selections are compared by the validation loss, not by {options.best}",
            remedy="leave best out; the curves have the metrics",
        )
    for name in ("patience", "max_time"):
        if getattr(options, name) is not None:
            raise DataError(
                f"selections are compared at equal steps, which {name} would end at different places",
                remedy="give epochs or steps, the best point of every curve is found all the same",
            )
    if options.retain_limit is not None and not retained:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )


def require_named_modes(masking: MaskOptions) -> None:
    """Checks that options of masks leave to the names of selections what these say.

    Raises:
        SelectionError: they do not.
    """
    left = replace(masking, reinitialization=replace(masking.reinitialization, isolate=False), freeze=())
    if left != replace(MaskOptions(), reinitialization=left.reinitialization) or masking.reinitialization.isolate:
        raise SelectionError(
            "mode, rank, protection and isolation are given for all selections, but are of each",
            remedy="name selections that have them, such as tgd-readers, regrow-isolate or adapter:4",
        )


def settings_of(
    sha256: str,
    options: TrainOptions,
    building: BuildOptions,
    dropping: Mapping[str, Any],
    reading: DataOptions,
    sources: Mapping[str, Optional[DataSource]],
) -> dict[str, Any]:
    """Returns what has to be the same in every call that works on one directory, as JSON has it."""
    training = {name: value for name, value in asdict(options).items() if name not in _FREE}
    places = {name: None if source is None else _place(source) for name, source in sources.items()}
    built = {name: value for name, value in asdict(building).items() if name not in _FREE}
    return _as_json({"model": sha256, **places, "reading": asdict(reading), **built, **dropping, **training})


def _place(source: DataSource) -> str:
    """Returns what tells a source from another: its path; of arrays in memory, a hash."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return f"in memory, SHA-256 {hash_of_arrays(open_source(source).groups)}"


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as they are after they were written and read."""
    read: dict[str, Any] = json.loads(json.dumps(settings))
    return read


def read_comparison(directory: Path, settings: Mapping[str, Any]) -> Optional[Comparison]:
    """Returns what a directory says of the comparison in it; None if there is none.

    Raises:
        ArtifactsError: its ``comparison.json`` is damaged, or of a newer format.
        OutputError: it holds something else, or a comparison with other settings.
    """
    if not directory.exists():
        return None
    path = directory / COMPARISON
    if not path.is_file():
        if directory.is_dir() and not any(map(_is_foreign, directory.iterdir())):
            return None
        raise OutputError(f"{directory} holds other files than a comparison", remedy="choose another name")
    content = decode(
        read_bytes(path, remedy=_REMEDY),
        Comparison,
        str(path),
        remedy=_REMEDY,
        newest=COMPARISON_FORMAT,
        upgrade=_from_older,
        check=_check,
    )
    was = content.settings
    for name in {**was, **settings}:
        if was.get(name) != settings.get(name):
            raise OutputError(
                f"{directory} holds a comparison with {name} = {was.get(name)}, not {settings.get(name)}; selections are "
                "compared at equal budget, so give the same options, or choose another directory"
            )
    return content


def _is_foreign(path: Path) -> bool:
    """Whether a file is nothing that a comparison leaves which was killed as it began."""
    return path.name not in (LOCK, LOCK_OWNER) and not fnmatch(path.name, f".{COMPARISON}.*.tmp")


@contextmanager
def new_comparison(directory: Path) -> Iterator[None]:
    """Makes the directory of a comparison, and holds its lock while the block runs.

    Raises:
        ArtifactsError: another process is at work there.
        OutputError: another process has begun there since we looked, or it cannot be written.
    """
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with locked(directory):
        if (directory / COMPARISON).is_file():
            raise OutputError(
                f"another comparison has begun in {directory} meanwhile", remedy="choose another directory"
            )
        announce(directory)
        yield


_REMEDY = "choose another directory, or delete this one and compare again"


def _from_older(_: int, content: dict[str, Any]) -> dict[str, Any]:
    settings, report = content["settings"], content.get("report")
    if "reading" in settings:
        settings["reading"] = {**_as_json(asdict(DataOptions())), **data_options_of_older(settings["reading"])}
    if report:
        directory = {entry["name"]: entry["directory"] for entry in report["entries"]}[report["recommended"]]
        report["call"] = export_call(directory) if directory else ""
    return content


def _check(content: Comparison) -> None:
    if content.tgd is not None and (content.tgd.phi is None) == (content.tgd.percentile is None):
        raise ValueError("expected a phi or a percentile in tgd")


def write_comparison(directory: Path, content: Comparison) -> None:
    """Writes what `read_comparison` reads."""
    write_bytes(directory / COMPARISON, encode(content, indent=1))


def recommend(
    model: ModelFile,
    data: DataSource,
    *,
    tolerance: float,
    output: Optional[str],
    reading: DataOptions,
    device: str,
) -> Recommended:
    """Runs the drop test; where it recommends no phi, ``tgd`` is a percentile, with the reason.

    Raises:
        DataError: the data does not fit.
        ModelFileError: no usable model.
        SelectionError: no percentile selects anything either.
    """
    try:
        report = sweep(model, data, tolerance=tolerance, output=output, reading=reading, device=device)
        return Recommended(report.strategy(), "")
    except SelectionError as error:
        reason = error
    provenance = trace_network(open_network(model))
    for percentile in FALLBACK_PERCENTILES:
        try:
            select(provenance, Percentile(percentile))
        except SelectionError:
            continue
        note = f"the drop test recommends no phi, so tgd takes the lowest {percentile:g} % of the scores ({reason})"
        return Recommended(Percentile(percentile), note)
    raise reason
