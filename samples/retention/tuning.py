"""One run of a candidate: the steps of `tgdonnx.train`, with the average of the weights along the way.

What comes of it are checkpoints in an artifacts directory: the last weights, their average, and those of earlier steps. Files
are made of them by `tgdonnx.export`, and run by ONNX Runtime, as their user would: what is judged is the file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnxruntime
from candidates import Candidate, mask
from network import Array, Network, Place, Quality
from numpy.typing import NDArray

import tgdonnx
from tgdonnx.data.opening import open_dataset
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState

DECAY = 0.98
"""Of the average, a step."""
EARLY = (0.1, 0.2, 0.4, 0.7)
"""Of the steps: where a run that is to be stopped early is kept."""
ALONG = tuple(part / 12 for part in range(1, 13))
"""Of the steps of a long run: where it is kept, for validation to choose from."""
AVERAGE = "average.safetensors"


@dataclass(frozen=True)
class Run:
    """What a run left.

    Attributes:
        artifacts: the directory.
        rho: the part of the weights that trains.
        bytes: what of the file changes or is added.
        seconds: processor time of a step, median.
        kept: for steps along the way their checkpoints.
        loss: of the last batches, mean; infinite where the run diverged.
    """

    artifacts: Path
    rho: float
    bytes: int
    seconds: float
    kept: dict[int, str]
    loss: float


def one_thread() -> None:
    """Lets everything in this process that ONNX Runtime runs have one thread, so that times are those of one core."""
    options = onnxruntime.SessionOptions

    def session_options() -> Any:
        made = options()
        made.intra_op_num_threads = made.inter_op_num_threads = 1
        made.log_severity_level = 3
        return made

    onnxruntime.SessionOptions = session_options


def tune(network: Network, candidate: Candidate, seed: int, rate: float, steps: int, work: Path) -> Run:
    """Masks, builds and trains; of a long run more checkpoints are kept.

    Args:
        network: what to tune.
        candidate: how.
        seed: of all that is random.
        rate: learning rate, constant.
        steps: how many.
        work: a directory that is not there yet.
    """
    work.mkdir(parents=True)
    report = mask(network, candidate, seed, work / "masked.onnx")
    artifacts = work / "artifacts"
    tgdonnx.build(work / "masked.onnx", artifacts, tgdonnx.BuildOptions(form="thin", loss=network.loss))
    session = Session(artifacts)
    start = session.parameters()
    moved = {name: np.zeros_like(values) for name, values in start.items()}
    shares = EARLY if candidate.longer == 1 else ALONG
    kept = {max(1, round(share * steps)): f"step-{share:g}.safetensors" for share in shares}
    seconds, losses = [], []
    checkpoint = session.manifest.runtime.checkpoint
    for step, batch in enumerate(batches(network, session, seed, steps), 1):
        begin = time.process_time()
        losses += session.step([batch], rate)
        seconds.append(time.process_time() - begin)
        if not math.isfinite(losses[-1]):
            return Run(artifacts, report.rho, session.parameter_bytes, float(np.median(seconds)), {}, math.inf)
        add_to_average(moved, start, session.parameters())
        if step in kept:
            session.save(kept[step], RunState(0, step, {}))
    session.save(checkpoint, RunState(0, steps, {}))
    last = session.parameters()
    session.set_parameters(average(moved, start, steps))
    session.save(AVERAGE, RunState(0, steps, {}))
    session.set_parameters(last)
    return Run(
        artifacts, report.rho, session.parameter_bytes, float(np.median(seconds)), kept, float(np.mean(losses[-20:]))
    )


def batches(network: Network, session: Session, seed: int, steps: int) -> Iterator[list[NDArray[Any]]]:
    """Yields the batches of `tgdonnx.train`, in its order."""
    dataset = open_dataset(network.data(seed), session.manifest.inputs, network.reading)
    step, epoch = 0, 1
    while step < steps:
        for batch in dataset.batches(network.batch, epoch=epoch, seed=seed):
            if step == steps:
                return
            yield batch
            step += 1
        epoch += 1


def add_to_average(moved: dict[str, Array], start: dict[str, Array], now: dict[str, Array]) -> None:
    """Adds the weights of a step to the sum that `average` divides; what did not move stays exactly 0."""
    for name, values in now.items():
        moved[name] *= np.float32(DECAY)
        moved[name] += np.float32(1 - DECAY) * (values - start[name])


def average(moved: dict[str, Array], start: dict[str, Array], steps: int) -> dict[str, Array]:
    """Returns the exponential average of the weights along a run: what every step counts sums to 1."""
    whole = np.float32(1 - DECAY**steps)
    return {name: start[name] + values / whole for name, values in moved.items()}


def opened(model: Path) -> onnxruntime.InferenceSession:
    """Opens a file as its user does."""
    return onnxruntime.InferenceSession(str(model), onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])


def outputs(session: onnxruntime.InferenceSession, network: Network, place: Place) -> Array:
    """Returns what a model gives for the inputs of a place."""
    inputs = network.held_out[place].inputs
    parts = np.array_split(inputs, -(-len(inputs) // 8))
    return np.concatenate([session.run(None, {network.input_name: part})[0] for part in parts])


def judge(network: Network, model: Path, places: tuple[Place, ...]) -> dict[Place, Quality]:
    """Judges a file at some places."""
    session = opened(model)
    return {place: network.quality(outputs(session, network, place), place) for place in places}


def write(run: Run, output: Path, *, blend: float = 1.0, checkpoint: Optional[str] = None) -> None:
    """Writes a tuned file."""
    tgdonnx.export(run.artifacts, output, blend=blend, checkpoint=checkpoint, overwrite=True)
