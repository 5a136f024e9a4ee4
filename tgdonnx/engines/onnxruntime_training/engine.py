"""The engine: what ONNX Runtime's on-device training API loads, made of our own gradient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from tgdonnx.engines.frozen import in_memory, require_room, share_large
from tgdonnx.engines.gradient_graph import starts_of
from tgdonnx.engines.onnxruntime_training.checkpoint_file import checkpoint_bytes
from tgdonnx.engines.onnxruntime_training.checkpoints import load_checkpoint, run_of, seal
from tgdonnx.engines.onnxruntime_training.files import (
    BEST_CHECKPOINT,
    CHECKPOINT,
    EVAL_MODEL,
    OPTIMIZER_MODEL,
    TRAINING_MODEL,
)
from tgdonnx.engines.onnxruntime_training.models import eval_model, training_model
from tgdonnx.engines.onnxruntime_training.optimizers import optimizer_model
from tgdonnx.engines.onnxruntime_training.session import ModuleSession
from tgdonnx.engines.protocol import Checkpoint, Engine, Problem
from tgdonnx.files.model_file import write_bytes
from tgdonnx.runtime import MAX_IR_VERSION


def _write(problem: Problem, directory: Path) -> None:
    objective, parameters = problem.objective, problem.parameters
    starts = starts_of(problem.model, parameters)
    require_room(starts.values())
    models = {
        TRAINING_MODEL: training_model(problem.model, parameters, objective),
        EVAL_MODEL: eval_model(problem.model, parameters),
    }
    share_large(list(models.values()), directory)
    for name, model in models.items():
        model.ir_version = min(model.ir_version, MAX_IR_VERSION)
        model.producer_name = "tgdonnx"
        # onnx.save would look through every attribute for tensors to put outside.
        (directory / name).write_bytes(ir.to_proto(model).SerializeToString())
    stepper = optimizer_model(
        objective.optimizer, len(parameters), clip_norm=objective.clip_norm, ir_version=MAX_IR_VERSION
    )
    onnx.save(stepper, directory / OPTIMIZER_MODEL)
    values = {name: in_memory(start).numpy() for name, start in starts.items()}
    write_bytes(directory / CHECKPOINT, checkpoint_bytes(values))
    seal(directory / CHECKPOINT)


def _differentiate(problem: Problem) -> None:
    training_model(problem.model, problem.parameters, problem.objective)


def _read(directory: Path, checkpoint: str) -> Checkpoint:
    state = load_checkpoint(directory, checkpoint)
    parameters = {name: np.array(parameter.data) for name, parameter in state.parameters}
    return Checkpoint(parameters, run_of(state, directory / checkpoint))


ONNXRUNTIME_TRAINING = Engine(
    name="onnxruntime-training",
    devices=("cpu",),
    has_momentum=False,
    models=(TRAINING_MODEL, EVAL_MODEL, OPTIMIZER_MODEL),
    eval_model=EVAL_MODEL,
    checkpoint=CHECKPOINT,
    best_checkpoint=BEST_CHECKPOINT,
    differentiate=_differentiate,
    write=_write,
    open=ModuleSession,
    read=_read,
)
