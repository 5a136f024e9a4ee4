"""The engine: what ONNX Runtime's on-device training API loads, with our nodes on the gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from tgdonnx.engines.frozen import FROZEN_DATA, Aside, in_memory, refer, require_room, set_aside, write_frozen
from tgdonnx.engines.onnxruntime_training.checkpoints import load_checkpoint, run_of, seal
from tgdonnx.engines.onnxruntime_training.dialect import DIALECT
from tgdonnx.engines.onnxruntime_training.files import (
    BEST_CHECKPOINT,
    CHECKPOINT,
    EVAL_MODEL,
    OPTIMIZER_MODEL,
    TRAINING_MODEL,
)
from tgdonnx.engines.onnxruntime_training.gradients import accumulate_gradients, gate_gradients, gradient_model
from tgdonnx.engines.onnxruntime_training.optimizers import optimizer_model
from tgdonnx.engines.onnxruntime_training.session import ModuleSession
from tgdonnx.engines.onnxruntime_training.thin_backward import thin_backward
from tgdonnx.engines.protocol import Checkpoint, Engine, Problem
from tgdonnx.runtime import load_builder, load_onnxruntime, writing


def _write(problem: Problem, directory: Path) -> None:
    objective, parameters = problem.objective, problem.parameters
    forward, evaluating, initial, aside = _forward_protos(problem)
    require_room(initial)
    training = gradient_model(forward, list(parameters))
    training, thinned = thin_backward(training, aside) if problem.thin else (training, aside)
    gate_gradients(training, objective.gates)
    everything = np.ones((), np.float32)
    accumulate_gradients(
        training,
        {name: objective.masks.get(name, everything) for name in parameters},
        l2=objective.l2,
        regularised=objective.regularised,
        l2_sp=objective.l2_sp,
        starts={tensor.name: tensor for tensor in initial},
    )
    training.producer_name = evaluating.producer_name = "tgdonnx"
    if aside or thinned:
        places = write_frozen(directory / FROZEN_DATA, aside, thinned)
        refer(training, thinned, places)
        refer(evaluating, aside, places)
    onnx.save(training, directory / TRAINING_MODEL)
    onnx.save(evaluating, directory / EVAL_MODEL)
    stepper = optimizer_model(
        objective.optimizer, len(parameters), clip_norm=objective.clip_norm, ir_version=forward.ir_version
    )
    onnx.save(stepper, directory / OPTIMIZER_MODEL)
    tensors = [tensor.SerializeToString() for tensor in initial]
    with writing(directory / CHECKPOINT):
        load_builder().save_checkpoint(tensors, [], os.fspath(directory / CHECKPOINT), False)
    seal(directory / CHECKPOINT)


def _forward_protos(problem: Problem) -> tuple[onnx.ModelProto, onnx.ModelProto, list[onnx.TensorProto], Aside]:
    """Returns the graph to differentiate, the eval model, the parameters' values, and what is aside.

    In both models the parameters are graph inputs, behind those of the user, as the runtime wants them; behind them is what
    is aside of a large model.
    """
    graph = problem.model.graph
    initial = []
    for name in problem.parameters:
        value = graph.initializers[name].const_value
        assert value is not None
        tensor = ir.to_proto(in_memory(value))
        initial.append(tensor)
        tensor.name = name
        graph.inputs.append(graph.initializers.pop(name))
    aside = set_aside(problem.model)
    evaluating, forward = ir.to_proto(problem.model), onnx.ModelProto()
    forward.CopyFrom(evaluating)
    del forward.graph.output[1:]
    return forward, evaluating, initial, aside


def _differentiate(problem: Problem) -> None:
    gradient_model(_forward_protos(problem)[0], problem.parameters)


def _read(directory: Path, checkpoint: str) -> Checkpoint:
    state = load_checkpoint(directory, checkpoint)
    parameters = {name: np.array(parameter.data) for name, parameter in state.parameters}
    return Checkpoint(parameters, run_of(state, directory / checkpoint))


def _versions() -> Mapping[str, str]:
    return {"onnx": metadata.version("onnx"), "onnxruntime-training": str(load_onnxruntime().__version__)}


ONNXRUNTIME_TRAINING = Engine(
    name="onnxruntime-training",
    dialect=DIALECT,
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
    versions=_versions,
)
