"""One candidate from the first step to the last, judged on the way.

The run is cut into stages, each of which goes on where the one before ended (the rate is constant, so the weights are those
of one long run). Behind every stage the tuned file is written and run by ONNX Runtime, as its user would: what is judged is
the file.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnxruntime
from candidates import Candidate, random_filters
from network import ANY_CHANGE, PLACES, Array, Network

import tgdonnx
from tgdonnx.errors import DivergedError
from tgdonnx.regrowing import Reinitialization

FRACTIONS = (0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Of the steps: where a run is looked at, besides its start."""

CALIBRATED = 8
"""Images of the new task, without targets, for a reinitialisation that is calibrated."""


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Attributes:
        network: its name.
        candidate: its name.
        seed: of the patches, their order, and reinitialisation.
        rate: learning rate.
        rho: the part of the weights that trains.
        reinitialization: how filters were reinitialised; None where none were.
        change: of the outputs by reinitialisation; None where there was none.
        curve: for every look the step, and of every place the loss and the score.
        changed: how many filters differ from the vendor's in the end.
        verified: whether nothing else does.
        seconds: that training alone took.
        problem: why it did not get to the end; empty if it did.
    """

    network: str
    candidate: str
    seed: int
    rate: float
    rho: float
    reinitialization: Optional[str]
    change: Optional[float]
    curve: tuple[dict[str, Any], ...]
    changed: int
    verified: bool
    seconds: float
    problem: str

    def as_dict(self) -> dict[str, Any]:
        """Returns what is stored of it; reinitialisation goes by the name of its option, ``rebirth``."""
        return {"rebirth" if name == "reinitialization" else name: value for name, value in asdict(self).items()}


def looks(steps: int) -> list[int]:
    """Returns the steps behind which a run is looked at."""
    return sorted({max(1, round(fraction * steps)) for fraction in FRACTIONS})


def follow(network: Network, candidate: Candidate, seed: int, rate: float, steps: int, work: Path) -> Outcome:
    """Masks, builds, trains in stages, and judges every stage.

    Args:
        network: what to tune.
        candidate: how.
        seed: of all that is random.
        rate: learning rate, constant.
        steps: how many in all.
        work: an empty directory.
    """
    masked, artifacts, tuned = work / "masked.onnx", work / "artifacts", work / "tuned.onnx"
    data = network.data(seed)
    report = mask(network, candidate, data, seed, masked)
    tgdonnx.build(masked, artifacts, tgdonnx.BuildOptions(form="thin"))
    curve = [look(network, 0, masked)]
    seconds, problem = 0.0, ""
    stages = looks(steps)
    for step in stages:
        options = tgdonnx.TrainOptions(steps=step, batch=network.batch, learning_rate=rate, seed=seed)
        begin = time.monotonic()
        try:
            tgdonnx.train(artifacts, tgdonnx.RunData(data, reading=network.reading), options, resume=step != stages[0])
        except DivergedError as error:
            problem = str(error)
            break
        seconds += time.monotonic() - begin
        tgdonnx.export(artifacts, tuned, overwrite=True)
        curve.append(look(network, step, tuned))
    proof = tgdonnx.verify(network.model, tuned, masked=masked) if tuned.is_file() else None
    return Outcome(
        network.name,
        candidate.name,
        seed,
        rate,
        report.rho,
        report.selection.get("rebirth"),
        report.selection.get("change"),
        tuple(curve),
        sum(len(entry.filters) for entry in proof.changed) if proof else 0,
        proof is not None and proof.ok,
        seconds,
        problem,
    )


def mask(
    network: Network, candidate: Candidate, data: Mapping[str, Array], seed: int, output: Path
) -> tgdonnx.MaskReport:
    """Writes the masked model of a candidate."""
    strategy = candidate.layers or tgdonnx.Phi(network.phi if candidate.phi is None else candidate.phi)
    if candidate.random:
        scored = tgdonnx.mask(network.model, output, strategy)
        weights = _weights(network.model)
        drawn = random_filters(
            {p.name: p.retrain for p in scored.params if p.name in weights},
            {p.name: p.filters for p in scored.params},
            seed=seed,
        )
        strategy = tgdonnx.Filters(drawn)
        output.unlink()
    if candidate.mode != "regrow":
        return tgdonnx.mask(network.model, output, strategy, tgdonnx.MaskOptions(mode=candidate.mode))
    reinitialization = Reinitialization(
        kind=candidate.reinitialization,
        isolate=candidate.isolate,
        calibrate={network.input_name: data[network.input_name][:CALIBRATED]} if candidate.calibrated else None,
        tolerance=ANY_CHANGE if candidate.any_change else network.tolerance,
        seed=seed,
    )
    return tgdonnx.mask(
        network.model, output, strategy, tgdonnx.MaskOptions(mode="regrow", reinitialization=reinitialization)
    )


def _weights(model: Path) -> set[str]:
    return {layer.weight for layer in tgdonnx.score(model).layers if layer.weight is not None}


def look(network: Network, step: int, model: Path) -> dict[str, Any]:
    """Judges a file at all places."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options)

    def outputs(inputs: Array) -> Array:
        given: Sequence[Array] = np.array_split(inputs, -(-len(inputs) // 8))
        return np.concatenate([network.read(session.run(None, {network.input_name: batch})[0]) for batch in given])

    judged = {place: network.held_out[place] for place in PLACES}
    qualities = {place: network.quality(outputs(held.inputs), held.targets) for place, held in judged.items()}
    return {"step": step, **{place: asdict(quality) for place, quality in qualities.items()}}
