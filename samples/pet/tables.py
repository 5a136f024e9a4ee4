"""The tables of the study, in Markdown, and whether another run's figures lie within their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from comparison import TESTED
from evaluation import bootstrap

DIGITS = {"psnr": 2, "ssim": 3}


def tables(results: Any) -> str:
    """Returns all tables."""
    parts = [
        _networks(results.made),
        *(_quality(results.measured, metric) for metric in DIGITS),
        _gains(results.measured),
        _ensembles(results.measured),
        _drop_test(results.drop_test),
        _online(results.measured),
    ]
    return "\n".join(parts)


def outside(results: Any, before: dict[str, Any]) -> list[str]:
    """Returns a sentence for every mean that lies outside of the 95 % interval that an earlier run gives for it.

    Args:
        results: the new run.
        before: what results.json of the earlier one holds.
    """
    strays = []
    for name, measured in before["measured"].items():
        if name not in results.measured:
            strays.append(f"{name}: not measured")
            continue
        for cohort in TESTED:
            for metric, digits in DIGITS.items():
                _, low, high = bootstrap(np.array(measured["quality"][cohort][metric]))
                new = float(np.mean(results.measured[name]["quality"][cohort][metric]))
                if not low <= new <= high:
                    strays.append(
                        f"{name}, {TESTED[cohort]}: {metric} {new:.{digits}f} is not in {low:.{digits}f} to {high:.{digits}f}"
                    )
    for name, made in before["made"].items():
        rho = results.made.get(name, {}).get("rho")
        if rho != made.get("rho"):
            strays.append(f"{name}: {rho} of the weights train, not {made.get('rho')}")
    return strays


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"## {title}\n", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _networks(made: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, record in made.items():
        data = f"{len(record['of']['studies'])} low-BMI studies" if "studies" in record["of"] else "the pelvis alone"
        if "diverged" in record:
            rows.append((name, data, "", "", "", f"diverged: {record['diverged']}"))
            continue
        first, last = record["loss"]
        steps = f"{record['kept step']} of {record['steps']}"
        phi = "" if record["phi"] is None else f"{record['phi']:.2g}"
        rows.append((name, data, phi, f"{record['rho']:.1%}", steps, f"{first:.5f} → {last:.5f}"))
    head = ("network", "data", "phi", "weights that train", "step that was kept", "training loss")
    return _table("Networks", head, rows)


def _quality(measured: dict[str, dict[str, Any]], metric: str) -> str:
    rows = []
    for name, found in measured.items():
        cells = [bootstrap(np.array(found["quality"][cohort][metric])) for cohort in TESTED]
        rows.append((name, *(_interval(cell, DIGITS[metric]) for cell in cells)))
    return _table(f"{metric.upper()}, mean over patients (95 % interval)", ("network", *TESTED.values()), rows)


def _gains(measured: dict[str, dict[str, Any]]) -> str:
    """The same patients by two networks: what differs between patients is out of the interval."""
    vendor = measured["v1-net"]["quality"]
    rows = []
    for name, found in measured.items():
        if name in ("noisy", "v1-net"):
            continue
        differences = [
            np.array(found["quality"][cohort]["psnr"]) - np.array(vendor[cohort]["psnr"]) for cohort in TESTED
        ]
        rows.append((name, *(_interval(bootstrap(values), 2, "+") for values in differences)))
    return _table("PSNR against v1-net on the same patients, dB (95 % interval)", ("network", *TESTED.values()), rows)


def _interval(values: tuple[float, float, float], digits: int, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in values)
    return f"{mean} ({low}, {high})"


def _ensembles(measured: dict[str, dict[str, Any]]) -> str:
    head = ["network"]
    for bmi in ("low", "high"):
        head += [f"bias, {bmi} BMI %", f"bias to no noise, {bmi} BMI %", f"CoV, {bmi} BMI %"]
    rows = []
    for name, found in measured.items():
        cells = []
        for bmi in ("low", "high"):
            of = found["ensemble"][bmi]
            cells += [np.mean(of["bias"]), np.mean(of["bias to noise-free"]), of["cov"]]
        rows.append((name, *(f"{cell:.2f}" for cell in cells)))
    return _table("Bias of lesions and noise of the liver, over realisations", head, rows)


def _drop_test(drop_test: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, found in drop_test.items():
        for point in found["points"]:
            mark = ", recommended" if point["phi"] == found["recommended"] else ""
            change = "without bound" if point["change"] is None else f"{point['change']:.2g}"
            shares = (f"{point['weights']:.1%}", f"{point['parameters']:.1%}")
            rows.append((name, f"{point['phi']:g}{mark}", f"{point['filters']}", *shares, change))
    head = ("network", "phi", "filters dropped", "conv weights", "all parameters", "change of the output")
    return _table("Drop test", head, rows)


def _online(measured: dict[str, dict[str, Any]]) -> str:
    head = list(next(iter(measured.values()))["online"])
    rows = [(name, *(f"{found['online'][key]:.2f}" for key in head)) for name, found in measured.items()]
    return _table("A feature never trained on", ("network", *head), rows)
