"""The step of onnxruntime-training with our gradient graph, against the one that the runtime's own builder makes.

Of the same forward graph, that of thin artifacts, whose parameters hold the rows that train. Both steps are taken by the
runtime's API in one process on one core, in turn, and timed by the processor. The losses before the first step are compared.

Needs the extra ``train`` and PyTorch, which the runtime's builder imports.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
from benchmark import NETS, RATE, Case, cases, make_artifacts
from guide_tables import NUMBERS, markdown, write_table
from onnx import numpy_helper
from onnxruntime.training import artifacts
from onnxruntime.training.api import CheckpointState, Module, Optimizer

from tgdonnx.finetuning.session import Session
from tgdonnx.runtime import MAX_IR_VERSION
from tgdonnx.runtime.options import session_options

Step = Callable[[], float]
TABLE = "builders"


def builders_step(thin: Path, work: Path, images: np.ndarray) -> Step:
    """Returns a step by the runtime's own builder.

    Args:
        thin: thin artifacts of onnxruntime-training; their eval model is the forward graph with its loss.
        work: where the builder's artifacts go.
        images: input and target.
    """
    model = onnx.load(thin / "eval_model.onnx")
    starts = {
        name: parameter.data for name, parameter in CheckpointState.load_checkpoint(str(thin / "checkpoint")).parameters
    }
    frozen = [tensor.name for tensor in model.graph.initializer]
    fed = [value for value in model.graph.input if value.name not in starts]
    del model.graph.input[:]
    model.graph.input.extend(fed)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(data), name) for name, data in starts.items())
    del model.graph.value_info[:]
    artifacts.generate_artifacts(
        model,
        requires_grad=list(starts),
        frozen_params=frozen,
        optimizer=artifacts.OptimType.AdamW,
        artifact_directory=str(work),
    )
    stepper = onnx.load(work / "optimizer_model.onnx")
    stepper.ir_version = MAX_IR_VERSION  # it writes the newest, which the runtime does not load
    onnx.save(stepper, work / "optimizer_model.onnx")
    state = CheckpointState.load_checkpoint(str(work / "checkpoint"))
    paths = [str(work / f"{kind}_model.onnx") for kind in ("training", "eval", "optimizer")]
    module = Module(paths[0], state, paths[1], session_options=session_options())
    optimizer = Optimizer(paths[2], module)
    optimizer.set_learning_rate(RATE)
    module.train()

    def step() -> float:
        loss, *_ = module(images, images)
        optimizer.step()
        module.lazy_reset_grad()
        return float(loss)

    return step


def measure(case: Case, turns: int) -> list[str]:
    """Returns a row: milliseconds of both steps, and the median of the ratios of each turn."""
    with tempfile.TemporaryDirectory() as folder:
        work, images = Path(folder), case.net.images()
        make_artifacts(work, replace(case, contenders=("thin",)))
        (work / "builder").mkdir()
        session = Session(work / "thin")
        steps = (
            builders_step(work / "thin", work / "builder", images),
            lambda: session.step([[images, images]], RATE)[0],
        )
        losses = [step() for step in steps]
        assert np.allclose(*losses, rtol=1e-6), losses
        times = [[_milliseconds(step) for step in steps] for _ in range(turns)]
    old, new = (statistics.median(each) for each in zip(*times))
    return [case.net.name, case.trains, f"{old:.0f}", f"{new:.0f}", f"{statistics.median(b / a for a, b in times):.2f}"]


def _milliseconds(step: Step) -> float:
    begin = time.process_time()
    step()
    return 1e3 * (time.process_time() - begin)


@click.command()
@click.option("--turns", default=5, help="Of each case.")
@click.option("--only", default="", help="Of the cases those whose name has this in it.")
@click.option("--write", is_flag=True, help="Write the table into the guide to numbers.")
def main(turns: int, only: str, write: bool) -> None:
    """Times the steps of both."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one thread, and processor time is comparable
    onnxruntime.set_default_logger_severity(4)
    chosen = [
        case
        for net in NETS
        if net.file is None
        for case in cases(net)
        if case.net.batch == net.batch and case.trains in ("rho 1.0", "rho 0.5", "rho 0.1") and only in case.key
    ]
    rows = [measure(case, turns) for case in chosen]
    click.echo(markdown(TABLE, rows))
    if write:
        write_table(TABLE, rows, NUMBERS)


if __name__ == "__main__":
    main()
