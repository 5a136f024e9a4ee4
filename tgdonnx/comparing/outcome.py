"""What runs came to, together: the vendor's model among them, the one that is recommended, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from tgdonnx.comparing.candidates import NONE
from tgdonnx.comparing.choosing import Entry, choose, choose_blended
from tgdonnx.comparing.report import ARTIFACTS, CompareReport, export_call
from tgdonnx.comparing.spreads import Spread, choose_of_spread
from tgdonnx.finetuning.run_record import read_record


def _like_vendor(entries: Sequence[Entry]) -> Entry:
    """Returns an entry that starts with the vendor's weights; those in mode regrow start within the tolerance of them."""
    return next((entry for entry in entries if entry.selection.get("mode") != "regrow"), entries[0])


def vendor_entry(entries: Sequence[Entry]) -> Entry:
    """Returns the entry of the vendor's model: where every other one starts."""
    other = _like_vendor(entries)
    start = other.curve[0]
    return Entry(NONE, {"strategy": NONE}, 0.0, 0, 0, 0.0, (start,), start, start, seed=other.seed)


def report_of(
    model: Path,
    directory: Path,
    steps: int,
    limit: Optional[float],
    entries: Sequence[Entry],
    spreads: Sequence[Spread],
    notes: Sequence[str],
) -> CompareReport:
    """Returns the report of runs that are over.

    Args:
        model: the vendor's file.
        directory: of the comparison.
        steps: of every run.
        limit: the largest fall of the vendor's own task that is accepted; None for any.
        entries: what each run came to.
        spreads: what runs of one selection by several seeds came to.
        notes: what else is to be said.
    """
    trained = next(entry for entry in entries if entry.directory)
    record = read_record(Path(trained.directory, ARTIFACTS))
    assert record is not None  # its run is over
    old = record.retention.guarded if record.retention else None
    chosen = choose_of_spread(entries, spreads) if spreads else choose(entries)
    if limit is not None:
        within = f" among what keeps {old} of the vendor's own task within {limit:g} of the start"
    else:
        within = "; no limit is set (`retain_limit`), so the vendor's own task has no say" if old is not None else ""
    if chosen.best.step == 0:
        name, goes_on = NONE, ""
        reason = f"nothing that was tried does better than the vendor's model on the validation data{within}"
    else:
        name, goes_on = chosen.name, export_call(chosen.directory)
        lowest = f"lowest validation loss ({chosen.best.loss:.6g}, at step {chosen.best.step})"
        reason = f"{_lowest_mean(chosen, spreads) if spreads else lowest}{within}"
    blended = choose_blended(entries)
    return CompareReport(
        model=str(model),
        directory=str(directory),
        steps=steps,
        new=record.metrics[0],
        old=old,
        labelled=record.retention is not None and record.retention.labelled,
        retain_limit=limit,
        entries=tuple(entries),
        recommended=name,
        reason=reason,
        call=goes_on,
        spreads=tuple(spreads),
        notes=(*notes, *(() if blended is None or blended[1] == 1 else (_blended(*blended),))),
    )


def _lowest_mean(chosen: Entry, spreads: Sequence[Spread]) -> str:
    spread = next(each for each in spreads if each.name == chosen.name)
    return (
        f"lowest mean validation loss ({spread.loss.mean:.6g}, {len(spread.seeds)} seeds; the model is that of seed "
        f"{chosen.seed}, {chosen.best.loss:.6g} at step {chosen.best.step})"
    )


def _blended(entry: Entry, blend: float, loss: float) -> str:
    """Says which blend of which run has the lowest loss."""
    if blend == 0:
        return "of the blends that are chosen (see `tgdonnx.blend`) none does better than the vendor's model"
    return (
        f"of the blends that are chosen (see `tgdonnx.blend`) that of {entry.name} has the lowest validation loss, {loss:.6g}: "
        f"export {Path(entry.directory, ARTIFACTS)} with `blend={blend:g}`"
    )
