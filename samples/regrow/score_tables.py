"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from summary import Spread, at_ends, best_look, spread

Outcomes = Mapping[str, Sequence[Mapping[str, Any]]]
_WHEN = {"end": "at the end", "best": "at the best step"}


def table(outcomes: Outcomes) -> str:
    """Returns a network's table.

    Args:
        outcomes: for names of candidates the outcomes of the seeds, see `following.Outcome`.
    """
    heads = ["candidate", "seeds", "weights that train", "start: new, old"]
    heads += [f"{task}, {when}" for when in _WHEN.values() for task in ("new", "old")]
    heads += ["best steps"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, seeds in outcomes.items():
        curves = [outcome["curve"] for outcome in seeds]
        ends = at_ends(curves)
        start = [spread(curve[0][f"{task} test"]["score"] for curve in curves) for task in ("new", "old")]
        cells = [name, str(len(seeds)), f"{spread(o['rho'] for o in seeds).mean:.1%}"]
        cells += [", ".join(f"{each.mean:.2f}" for each in start)]
        cells += [_show(ends[when][task]) for when in _WHEN for task in ("new", "old")]
        cells += [", ".join(str(best_look(curve)["step"]) for curve in curves)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def rates_table(outcomes: Outcomes) -> str:
    """Returns the table of what the learning rate and phi were chosen from: losses on validation data, test data unseen."""
    lines = ["| tried | lowest validation loss of the new task | at step | old task there |", "|---|---|---|---|"]
    for name, (outcome,) in outcomes.items():
        best = best_look(outcome["curve"])
        loss, old = best["new validation"]["loss"], best["old validation"]["score"]
        lines.append(f"| {name} | {loss:.6g} | {best['step']} | {old:.2f} |")
    return "\n".join(lines)


def _show(found: Spread) -> str:
    return f"{found.mean:.2f} ± {found.deviation:.2f}"
