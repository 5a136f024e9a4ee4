"""``comparison.json``: what a directory says of the comparison in it, so that a later call goes on with the same.

Format 2: one JSON object with the fields of `Comparison`. Format 1 called ``map`` and ``augment`` of the data ``renamed`` and
``augmentation``, and held a ``command`` for a shell where the report has a ``call``. A reader refuses a newer format and
ignores keys that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Optional

import msgspec

from tgdonnx.artifacts.locking import announce, locked
from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER
from tgdonnx.comparing.choosing import Entry
from tgdonnx.comparing.plan import as_json
from tgdonnx.comparing.recommending import Recommended
from tgdonnx.comparing.report import CompareReport, export_call
from tgdonnx.data import DataOptions
from tgdonnx.errors import OutputError
from tgdonnx.files.access import writing
from tgdonnx.files.model_file import write_bytes
from tgdonnx.files.typed import AtLeast0, Fraction, Positive, decode, encode, read_bytes
from tgdonnx.finetuning.run_record import data_options_of_older
from tgdonnx.selection import Percentile, Phi

COMPARISON_FORMAT = 2
COMPARISON = "comparison.json"
_REMEDY = "choose another directory, or delete this one and compare again"


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
        report: what came of the latest call that was done.
        others: what earlier calls came to that the latest did not ask for; of another seed, say.
    """

    format: Positive
    settings: Mapping[str, Any]
    tgd: Optional[TgdRecord] = None
    report: Optional[CompareReport] = None
    others: tuple[Entry, ...] = ()


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


def _from_older(_: int, content: dict[str, Any]) -> dict[str, Any]:
    settings, report = content["settings"], content.get("report")
    if "reading" in settings:
        settings["reading"] = {**as_json(asdict(DataOptions())), **data_options_of_older(settings["reading"])}
    if report:
        directory = {entry["name"]: entry["directory"] for entry in report["entries"]}[report["recommended"]]
        report["call"] = export_call(directory) if directory else ""
    return content


def _check(content: Comparison) -> None:
    if content.tgd is not None and (content.tgd.phi is None) == (content.tgd.percentile is None):
        raise ValueError("expected a phi or a percentile in tgd")


def unasked(known: Optional[Comparison], entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Returns what earlier calls came to that the latest did not ask for.

    Args:
        known: what the directory says of them; None if there were none.
        entries: of the latest.
    """
    if known is None:
        return ()
    asked = {(entry.name, entry.seed) for entry in entries}
    before = (*(() if known.report is None else known.report.entries), *known.others)
    return tuple(entry for entry in before if (entry.name, entry.seed) not in asked)


def write_comparison(directory: Path, content: Comparison) -> None:
    """Writes what `read_comparison` reads."""
    write_bytes(directory / COMPARISON, encode(content, indent=1))
