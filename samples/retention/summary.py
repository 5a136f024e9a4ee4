"""Tables of what the runs of a network say, in Markdown, and the same as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from candidates import FULL, FULL_AT_TRIAL, LONG, LONGEST
from curves import Curve, Interval, Scores, curve_of, interval
from gates import ACCEPTED
from network import Network
from study import best_blend

Outcomes = Mapping[str, Sequence[Mapping[str, Any]]]
"""For names of candidates what `study.Study.run` gives for each seed."""

NEW_SHARES = (0.5, 0.75, 0.9)
"""Of what plain full fine-tuning gains: where old scores are compared."""


def network_tables(network: Network, vendor: Scores, found: Outcomes) -> str:
    """Returns the tables of a network."""
    parts = [f"## {network.title}\n", f"Scores: {network.unit}, new / old task, test data. {_vendor(vendor)}\n"]
    parts += [_ends(network, vendor, found), _along(found), _averages(found)]
    if "full" in found:
        parts += [_compared(network, vendor, found), _early(vendor, found), _gates(vendor, found)]
    return "\n".join(part for part in parts if part)


def numbers(vendor: Scores, found: Outcomes) -> dict[str, dict[str, list[float]]]:
    """Returns for every candidate the mean and the half width of what its rows show, to compare another run with."""
    shown = {}
    for name, runs in found.items():
        ends = [_at(run, 1.0, vendor) for run in runs]
        picked = {"end": ends, "best": [_at(run, best_blend(run["blends"]), vendor) for run in runs]}
        rows = {f"{task}, {when}": _of(scores, task) for when, scores in picked.items() for task in ("new", "old")}
        shown[name] = {row: [each.mean, each.half] for row, each in rows.items()}
    return shown


def _vendor(vendor: Scores) -> str:
    return f"The vendor's network: {vendor['new test'][1]:.2f} / {vendor['old test'][1]:.2f}."


def _ends(network: Network, vendor: Scores, found: Outcomes) -> str:
    lines = [
        "| candidate | seeds | rate | weights that train | changed bytes | ms a step | at 1: new | old | blend by new data "
        f"| new | old | blend with at most {network.old_losses[0]:g} of the old lost | new | old |",
        "|" + "---|" * 14,
    ]
    for name, runs in found.items():
        best = [best_blend(run["blends"]) for run in runs]
        within = [blend_within(run["blends"], vendor, network.old_losses[0]) for run in runs]
        cells = [name, str(len(runs)), f"{runs[0]['rate']:g}", f"{runs[0]['rho']:.1%}", f"{runs[0]['bytes']:,}"]
        # Of the seed that was disturbed least: the others ran while the machine did other things too.
        cells += [f"{min(run['seconds'] for run in runs) * 1e3:.0f}"]
        ends = [_at(run, 1.0, vendor) for run in runs]
        cells += [str(_of(ends, task)) for task in ("new", "old")]
        for picked in (best, within):
            scores = [_at(run, blend, vendor) for run, blend in zip(runs, picked)]
            cells += [", ".join(f"{each:g}" for each in picked), *(str(_of(scores, task)) for task in ("new", "old"))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def blend_within(blends: Mapping[str, Scores], vendor: Scores, loss: float) -> float:
    """Returns the blend with the lowest new validation loss among those that keep the old validation score but for a loss."""
    every = {"0": vendor, **blends}
    kept = [blend for blend in every if every[blend]["old validation"][1] >= vendor["old validation"][1] - loss]
    return float(min(kept, key=lambda blend: every[blend]["new validation"][0]))


def _along(found: Outcomes) -> str:
    return "\n".join(
        _along_to(found, suffix) for suffix in (LONG, LONGEST) if any(name.endswith(suffix) for name in found)
    )


def _along_to(found: Outcomes, suffix: str) -> str:
    found = {name: runs for name, runs in found.items() if name.endswith(suffix)}
    steps = list(next(iter(found.values()))[0]["along"])
    lines = [
        f"| lowest loss on new validation data = 1, at step | {' | '.join(steps)} | chosen |",
        "|" + "---|" * (len(steps) + 2),
    ]
    for name, runs in found.items():
        losses = [interval(run["along"][step] / min(run["along"].values()) for run in runs).mean for step in steps]
        chosen = ", ".join(f"{run['chosen']}" for run in runs)
        lines.append(f"| {' | '.join([name, *(f'{loss:.3f}' for loss in losses), chosen])} |")
    return "\n".join(lines) + "\n"


def _averages(found: Outcomes) -> str:
    found = {name: runs for name, runs in found.items() if "average" in runs[0]}
    blends = sorted({blend for runs in found.values() for blend in runs[0]["average"]}, key=float)
    if not blends:
        return ""
    lines = [f"| averaged weights, blended | {' | '.join(blends)} |", "|" + "---|" * (len(blends) + 1)]
    for name, runs in found.items():
        cells = [name]
        for blend in blends:
            some = [run["average"][blend] for run in runs if blend in run["average"]]
            cells.append(" / ".join(str(_of(some, task)) for task in ("new", "old")) if some else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def against_full(
    vendor: Scores,
    found: Outcomes,
    name: str,
    at: Callable[[Curve, Curve], float],
    *,
    part: str = "blends",
    full_part: str = "blends",
    reference: Optional[str] = None,
) -> Interval:
    """Returns the difference between a candidate and `full`, of the seeds that both have, over the blends that both have.

    A long run is compared with the long one of `full`.

    Args:
        vendor: scores of the vendor's network.
        found: the runs.
        name: of the candidate.
        at: returns for a curve, and the blended curve of `full` of the same seed, the score that is compared.
        part: of the candidate's runs: ``blends``, or ``average`` for averaged weights.
        full_part: the same of the runs of `full`.
        reference: what takes the place of `full`, if anything does.
    """
    full = {run["seed"]: run for run in found[reference or _full(name)]}
    differences = []
    for run in found[name]:
        if run["seed"] in full:
            own, other = run[part], full[run["seed"]][full_part]
            common = own.keys() & other.keys()
            reference = curve_of(vendor, full[run["seed"]]["blends"])
            curves = [curve_of(vendor, {blend: each[blend] for blend in common}) for each in (own, other)]
            differences.append(at(curves[0], reference) - at(curves[1], reference))
    return interval(differences)


def against_plain(found: Outcomes, name: str, task: str) -> Interval:
    """Returns what a candidate at its blend by new data has more than `full` at 1, of the seeds that both have.

    A long run is compared with the long one of `full`.
    """
    plain = {run["seed"]: run["blends"]["1"][f"{task} test"][1] for run in found[_full(name)]}
    return interval(
        run["blends"][f"{best_blend(run['blends']):g}"][f"{task} test"][1] - plain[run["seed"]]
        for run in found[name]
        if run["seed"] in plain
    )


def _full(name: str) -> str:
    return next((FULL.name + suffix for suffix in (LONG, LONGEST) if name.endswith(suffix)), FULL.name)


def new_at_old(vendor: Scores, loss: float) -> Callable[[Curve, Curve], float]:
    """Returns what reads the new score where so much of the vendor's old one is lost."""
    level = vendor["old test"][1] - loss
    return lambda curve, _: curve.new_at(level)


def old_at_new(share: float) -> Callable[[Curve, Curve], float]:
    """Returns what reads the old score where a share of the gain of plain full fine-tuning is reached."""
    return lambda curve, full: curve.old_at(full.new[0] + share * (full.new[-1] - full.new[0]))


def _compared(network: Network, vendor: Scores, found: Outcomes) -> str:
    reads = [new_at_old(vendor, loss) for loss in network.old_losses] + [old_at_new(share) for share in NEW_SHARES]
    heads = [f"new, {loss:g} of the old lost" for loss in network.old_losses]
    heads += [f"old, {share:.0%} of the new gained" for share in NEW_SHARES]
    heads += ["area", "at the blend by new data, against plain `full`: new", "old"]
    lines = [
        f"| blended, against `full` (long: `full, long`) | {' | '.join(heads)} |",
        "|" + "---|" * (len(heads) + 1),
    ]
    reference = interval(curve_of(vendor, run["blends"]).old[-1] for run in found["full"]).mean

    def add(title: str, name: str, *, part: str = "blends", full_part: str = "blends") -> None:
        rows = [against_full(vendor, found, name, at, part=part, full_part=full_part).signed for at in reads]
        if part == "blends":
            rows.append(str(interval(curve_of(vendor, run["blends"]).area(reference) for run in found[name])))
            rows += [against_plain(found, name, task).signed for task in ("new", "old")]
        empty = [""] * (len(heads) - len(rows))
        lines.append(f"| {' | '.join([title, *rows, *empty])} |")

    for name in found:
        if _full(name) in found:
            add(name, name)
    for name in found:
        at_trial = FULL_AT_TRIAL.name + _full(name)[len(FULL.name) :]
        if at_trial in found and name != at_trial:
            rows = [against_full(vendor, found, name, at, reference=at_trial).signed for at in reads]
            lines.append(f"| {' | '.join([f'{name}, against `{at_trial}`', *rows, '', '', ''])} |")
    for name, runs in found.items():
        if len(runs[0].get("average", ())) > 1:
            add(f"{name}, averaged", name, part="average")
            if name != "full":
                add(f"{name}, averaged, against `full` averaged", name, part="average", full_part="average")
    return "\n".join(lines) + "\n"


def _early(vendor: Scores, found: Outcomes) -> str:
    runs = [run for run in found["full"] if "early" in run]
    if not runs:
        return ""
    steps = sorted(runs[0]["early"], key=int)
    lines = ["| `full` stopped at step | new | old | blended, at no less of the old: new |", "|---|---|---|---|"]
    for step in steps:
        stopped = [run["early"][step] for run in runs]
        gains = [
            curve_of(vendor, run["blends"]).new_at(scores["old test"][1]) - scores["new test"][1]
            for run, scores in zip(runs, stopped)
        ]
        cells = [step, *(str(_of(stopped, task)) for task in ("new", "old")), interval(gains).signed]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _gates(vendor: Scores, found: Outcomes) -> str:
    lines = [
        "| gated | accepts | form, looks in front of | new | against plain `full` | old | against the vendor's "
        "| new to the new side | old to the vendor's | of these bit for bit the vendor's | at most so far from it |",
        "|" + "---|" * 11,
    ]
    full = {run["seed"]: _at(run, 1.0, vendor)["new test"][1] for run in found["full"]}
    for name, runs in found.items():
        for accept in ACCEPTED:
            gates = {run["seed"]: run["gate"][f"{accept:g}"] for run in runs if f"{accept:g}" in run.get("gate", {})}
            gated = {seed: gate for seed, gate in gates.items() if "refused" not in gate}
            if len(gated) < len(gates):
                title = f"{name}, {len(gates) - len(gated)} of {len(gates)} seeds"
                lines.append(f"| {title} | {accept:.0%} | refused: the detector does not tell new from old |{' |' * 8}")
            if gated:
                cells = [f"{name} ({len(gated)})", f"{accept:.0%}", *_gated(vendor, full, gated)]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _gated(vendor: Scores, full: Mapping[int, float], gated: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Returns the cells of the gated files of some seeds, against plain `full` of the same seeds."""
    old = [gate["old"] for gate in gated.values()]
    new = [gate["new"] for gate in gated.values()]
    right = interval(one["right"] for one in old).mean
    return [
        "; ".join(sorted({f"{gate['form']}, {gate['layer']}" for gate in gated.values()})),
        str(interval(one["score"] for one in new)),
        interval(gate["new"]["score"] - full[seed] for seed, gate in gated.items() if seed in full).signed,
        str(interval(one["score"] for one in old)),
        interval(one["score"] - vendor["old test"][1] for one in old).signed,
        f"{interval(one['right'] for one in new).mean:.1%}",
        f"{right:.1%}",
        f"{interval(one['exactly'] for one in old).mean / max(1e-9, right):.0%}",
        f"{max(one['far'] for one in old):.0e}",
    ]


def _at(run: Mapping[str, Any], blend: float, vendor: Scores) -> Scores:
    found: Scores = run["blends"].get(f"{blend:g}", vendor)
    return found


def _of(scores: Sequence[Scores], task: str) -> Interval:
    return interval(each[f"{task} test"][1] for each in scores)
