"""Runs and their results, as files: one small JSON document for each network, candidate and seed.

    {"network", "candidate", "seed", "rate", "steps", "rho", "bytes", "seconds", "tried", "blends", "average", "early", "gate"}

``tried``: for learning rates the loss on validation data of the new task at the end; of seed 0, which chooses. ``blends``: for
every blend, and there for every place, ``[loss, score]``. ``average``: the same of the averaged weights. ``early``: for steps.

A long run has no ``average``, ``early`` or ``gate``, but ``along``: for steps the loss on validation data of the new task. The
step with the lowest one is ``chosen``, and the loss in ``tried``; the blends are those of its weights.

``gate``: the ``blend`` that is gated, and for every share of new inputs that a detector is to accept what `gates.gate` gives.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from candidates import ADAPTER, FULL, REGROW, Candidate
from gates import ACCEPTED, gate
from network import PLACES, Network
from tuning import AVERAGE, Run, judge, tune, write

import tgdonnx

BLENDS = (0.25, 0.5, 0.6, 0.75, 0.9, 1.0)
"""Besides 0, which is the vendor's network."""
AVERAGE_BLENDS = (0.5, 0.75, 1.0)
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Study:
    """Where runs are stored, and how long they are.

    Attributes:
        runs: the directory.
        steps: of every run; None for the network's.
        gates: whether files are gated.
    """

    runs: Path
    steps: Optional[int] = None
    gates: bool = True

    def path(self, network: Network, name: str) -> Path:
        """Where a run, or the vendor's network, is stored."""
        return self.runs / network.name / f"{name}.json"

    def vendor(self, network: Network) -> Scores:
        """Returns what the vendor's network is worth."""
        path = self.path(network, "vendor")
        if not path.is_file():
            _store(path, _scores(network, network.model))
        found: Scores = json.loads(path.read_text("utf-8"))
        return found

    def done(self, network: Network, candidate: Candidate) -> list[dict[str, Any]]:
        """Returns the runs of a candidate that are there, by seed."""
        paths = self.runs.glob(f"{network.name}/{candidate.name}-[0-9]*.json")
        found: list[dict[str, Any]] = [json.loads(path.read_text("utf-8")) for path in paths]
        return sorted(found, key=lambda run: run["seed"])

    def run(self, network: Network, candidate: Candidate, seed: int) -> dict[str, Any]:
        """Returns a run, from its file if it is done; seed 0 chooses the learning rate of the others."""
        path = self.path(network, f"{candidate.name}-{seed}")
        steps = (self.steps or network.steps) * candidate.longer
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if found["steps"] != steps:
                raise ValueError(f"{path} is of {found['steps']} steps, not {steps}; delete it")
            self._gate_more(network, candidate, found)
            return found
        self.vendor(network)
        with tempfile.TemporaryDirectory(prefix="retention-") as folder:
            work = Path(folder)
            rates = network.rates[candidate.name] if seed == 0 else (self.run(network, candidate, 0)["rate"],)
            runs = {rate: tune(network, candidate, seed, rate, steps, work / f"{rate:g}") for rate in rates}
            along = {rate: _along(network, candidate, steps, run, work / "tried.onnx") for rate, run in runs.items()}
            tried = {rate: min(losses.values()) for rate, losses in along.items()}
            rate = min(rates, key=lambda each: tried[each])
            found = {"network": network.name, "candidate": candidate.name, "seed": seed, "rate": rate, "steps": steps}
            found["tried"] = {f"{each:g}": loss for each, loss in tried.items()}
            if candidate.longer > 1:
                chosen = min(along[rate], key=lambda step: along[rate][step])
                found.update(along={f"{step}": loss for step, loss in along[rate].items()}, chosen=chosen)
                found.update(_blended(network, candidate, seed, runs[rate], work, checkpoint=runs[rate].kept[chosen]))
            else:
                found.update(self._judged(network, candidate, seed, runs[rate], work))
        _store(path, found)
        end = found["blends"]["1"]
        said = f"{network.name} {candidate.name} {seed} at {rate:g}: new {end['new test'][1]:.2f}, old {end['old test'][1]:.2f}"
        print(f"{said}; {found['seconds'] * 1e3:.0f} ms a step", file=sys.stderr, flush=True)
        return found

    def _gate_more(self, network: Network, candidate: Candidate, found: dict[str, Any]) -> None:
        """Trains a run again, whose detectors accept other shares than are asked for now, and gates that."""
        missing = [accept for accept in ACCEPTED if "gate" in found and f"{accept:g}" not in found["gate"]]
        if missing:
            with tempfile.TemporaryDirectory(prefix="retention-") as folder:
                work = Path(folder)
                run = tune(network, candidate, found["seed"], found["rate"], found["steps"], work / "again")
                found["gate"].update(_gated(network, run, found["gate"]["blend"], missing, work))
            _store(self.path(network, f"{candidate.name}-{found['seed']}"), found)

    def _judged(self, network: Network, candidate: Candidate, seed: int, run: Run, work: Path) -> dict[str, Any]:
        found = _blended(network, candidate, seed, run, work)
        tuned = work / "tuned.onnx"

        def at(checkpoint: str, blend: float) -> Scores:
            write(run, tuned, blend=blend, checkpoint=checkpoint)
            return _scores(network, tuned)

        averaged = AVERAGE_BLENDS if candidate in (FULL, REGROW) else AVERAGE_BLENDS[-1:]
        found["average"] = {f"{blend:g}": at(AVERAGE, blend) for blend in averaged}
        if candidate == FULL and not network.has_dead:
            found["early"] = {f"{step}": at(name, 1.0) for step, name in run.kept.items()}
        if self.gates and candidate in (FULL, REGROW if network.has_dead else ADAPTER):
            blend = best_blend(found["blends"])
            found["gate"] = {"blend": blend, **_gated(network, run, blend, ACCEPTED, work)}
        return found


def best_blend(blends: dict[str, Scores]) -> float:
    """Returns the blend with the lowest loss on validation data of the new task."""
    return float(min(blends, key=lambda blend: blends[blend]["new validation"][0]))


def _scores(network: Network, model: Path) -> Scores:
    return {place: [found.loss, found.score] for place, found in judge(network, model, PLACES).items()}


def _blended(
    network: Network, candidate: Candidate, seed: int, run: Run, work: Path, *, checkpoint: Optional[str] = None
) -> dict[str, Any]:
    """Judges every blend of what trained, at the end or at a checkpoint; proves the last."""
    tuned = work / "tuned.onnx"
    blends = {}
    # Of reinitialised filters 0 is not bit for bit the vendor's network.
    for blend in (0.0, *BLENDS) if candidate.mode == "regrow" and seed == 0 else BLENDS:
        write(run, tuned, blend=blend, checkpoint=checkpoint)
        blends[f"{blend:g}"] = _scores(network, tuned)
    proof = tgdonnx.verify(network.model, tuned, masked=run.artifacts.parent / "masked.onnx")
    assert proof.ok, proof.violations
    return {"rho": run.rho, "bytes": run.bytes, "seconds": run.seconds, "blends": blends}


def _gated(network: Network, run: Run, blend: float, accepted: Sequence[float], work: Path) -> dict[str, Any]:
    """Gates a blend of what trained, once for every share of new inputs that is to be accepted."""
    tuned = work / "tuned.onnx"
    write(run, tuned, blend=blend)
    return {f"{accept:g}": gate(network, tuned, accept, work) for accept in accepted}


def _along(network: Network, candidate: Candidate, steps: int, run: Run, scratch: Path) -> dict[int, float]:
    """Returns for the last step, or those that a long run keeps, the loss on validation data of the new task."""
    if not math.isfinite(run.loss):
        return {steps: 1e30}
    ends: dict[int, Optional[str]] = {**run.kept} if candidate.longer > 1 else {steps: None}
    losses = {}
    for step, checkpoint in ends.items():
        write(run, scratch, checkpoint=checkpoint)
        losses[step] = judge(network, scratch, ("new validation",))["new validation"].loss
    return losses


def _store(path: Path, found: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(_rounded(found), indent=1) + "\n", "utf-8")
    partial.replace(path)


def _rounded(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_rounded(value) for value in found]
    return float(f"{found:.7g}") if isinstance(found, float) else found
