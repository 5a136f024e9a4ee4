"""Runs and their results, as files: one small JSON document for each network, candidate and seed.

    {"network", "candidate", "seed", "rate", "steps", "rho", "bytes", "seconds", "tried", "blends", "average", "early", "gate"}

``tried``: for learning rates the loss on validation data of the new task at the end; of seed 0, which chooses. ``blends``: for
every blend, and there for every place, ``[loss, score]``. ``average``: the same of the averaged weights. ``early``: for steps.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from candidates import ADAPTER, FULL, REGROW, Candidate
from gates import gate
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
        steps = self.steps or network.steps
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
            if found["steps"] != steps:
                raise ValueError(f"{path} is of {found['steps']} steps, not {steps}; delete it")
            return found
        self.vendor(network)
        with tempfile.TemporaryDirectory(prefix="retention-") as folder:
            work = Path(folder)
            rates = network.rates[candidate.name] if seed == 0 else (self.run(network, candidate, 0)["rate"],)
            runs, tried = {}, {}
            for rate in rates:
                runs[rate] = tune(network, candidate, seed, rate, steps, work / f"{rate:g}")
                tried[f"{rate:g}"] = _validation_loss(network, runs[rate], work / "tried.onnx")
            rate = min(rates, key=lambda each: tried[f"{each:g}"])
            found = {"network": network.name, "candidate": candidate.name, "seed": seed, "rate": rate, "steps": steps}
            found.update(tried=tried, **self._judged(network, candidate, seed, runs[rate], work))
        _store(path, found)
        end = found["blends"]["1"]
        said = f"{network.name} {candidate.name} {seed} at {rate:g}: new {end['new test'][1]:.2f}, old {end['old test'][1]:.2f}"
        print(f"{said}; {found['seconds'] * 1e3:.0f} ms a step", file=sys.stderr, flush=True)
        return found

    def _judged(self, network: Network, candidate: Candidate, seed: int, run: Run, work: Path) -> dict[str, Any]:
        tuned = work / "tuned.onnx"

        def at(checkpoint: Optional[str], blend: float) -> Scores:
            write(run, tuned, blend=blend, checkpoint=checkpoint)
            return _scores(network, tuned)

        blends = {f"{blend:g}": at(None, blend) for blend in BLENDS}
        proof = tgdonnx.verify(network.model, tuned, masked=run.artifacts.parent / "masked.onnx")
        assert proof.ok, proof.violations
        starts = {"0": at(None, 0.0)} if candidate.mode == "regrow" and seed == 0 else {}
        averaged = AVERAGE_BLENDS if candidate in (FULL, REGROW) else AVERAGE_BLENDS[-1:]
        found: dict[str, Any] = {
            "rho": run.rho,
            "bytes": run.bytes,
            "seconds": run.seconds,
            "blends": {**starts, **blends},
            "average": {f"{blend:g}": at(AVERAGE, blend) for blend in averaged},
        }
        if candidate == FULL and not network.has_dead:
            found["early"] = {f"{step}": at(name, 1.0) for step, name in run.early.items()}
        gated = candidate in (FULL, REGROW if network.has_dead else ADAPTER)
        if self.gates and gated:
            blend = best_blend(blends)
            write(run, tuned, blend=blend)
            found["gate"] = {"blend": blend, **gate(network, tuned, work)}
        return found


def best_blend(blends: dict[str, Scores]) -> float:
    """Returns the blend with the lowest loss on validation data of the new task."""
    return float(min(blends, key=lambda blend: blends[blend]["new validation"][0]))


def _scores(network: Network, model: Path) -> Scores:
    return {place: [found.loss, found.score] for place, found in judge(network, model, PLACES).items()}


def _validation_loss(network: Network, run: Run, scratch: Path) -> float:
    if not math.isfinite(run.loss):
        return 1e30
    write(run, scratch)
    return judge(network, scratch, ("new validation",))["new validation"].loss


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
