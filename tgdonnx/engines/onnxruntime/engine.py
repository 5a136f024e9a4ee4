"""The engine: artifacts of plain ONNX models, trained by any ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from tgdonnx.engines.frozen import share_large
from tgdonnx.engines.onnxruntime.messages import turn_into
from tgdonnx.engines.onnxruntime.models import make_models, moment_names
from tgdonnx.engines.onnxruntime.optimizers import MOST_MOMENTS, moment_count
from tgdonnx.engines.onnxruntime.session import EVAL_MODEL, GRADIENT_MODEL, STEP_MODEL, UPDATE_MODEL, StepSession
from tgdonnx.engines.onnxruntime.state import BEST_STATE, STATE, State, read_state, write_state
from tgdonnx.engines.protocol import Checkpoint, Engine, Problem
from tgdonnx.runtime import MAX_IR_VERSION


def _write(problem: Problem, directory: Path) -> None:
    objective, initializers = problem.objective, problem.model.graph.initializers
    start = {}
    for name in problem.parameters:
        tensor = initializers[name].const_value
        assert tensor is not None
        start[name] = np.array(tensor.numpy())
    models = make_models(problem.model, problem.parameters, objective)
    named = {
        STEP_MODEL: models.step,
        GRADIENT_MODEL: models.gradients,
        UPDATE_MODEL: models.update,
        EVAL_MODEL: models.eval,
    }
    share_large(list(named.values()), directory)
    for model in named.values():
        model.ir_version = min(model.ir_version, MAX_IR_VERSION)
        model.producer_name = "tgdonnx"
    # onnx.save would look through every attribute for tensors to put outside.
    message = ir.to_proto(models.step)
    (directory / STEP_MODEL).write_bytes(message.SerializeToString())
    turn_into(message, models.gradients)
    (directory / GRADIENT_MODEL).write_bytes(message.SerializeToString())
    for name in (UPDATE_MODEL, EVAL_MODEL):
        (directory / name).write_bytes(ir.to_proto(named[name]).SerializeToString())
    count = moment_count(objective.optimizer, objective.momentum)
    moments = {each: np.zeros_like(start[name]) for name in start for each in moment_names(name, count)}
    write_state(directory / STATE, State({**start, **moments}))


def _differentiate(problem: Problem) -> None:
    make_models(problem.model, problem.parameters, problem.objective)


def _read(directory: Path, checkpoint: str) -> Checkpoint:
    state = read_state(directory / checkpoint)
    moments = {each for name in state.tensors for each in moment_names(name, MOST_MOMENTS)}
    return Checkpoint({name: array for name, array in state.tensors.items() if name not in moments}, state.run)


ONNXRUNTIME = Engine(
    name="onnxruntime",
    devices=("cpu", "cuda"),
    has_momentum=True,
    models=(STEP_MODEL, GRADIENT_MODEL, UPDATE_MODEL, EVAL_MODEL),
    eval_model=EVAL_MODEL,
    checkpoint=STATE,
    best_checkpoint=BEST_STATE,
    differentiate=_differentiate,
    write=_write,
    open=StepSession,
    read=_read,
)
