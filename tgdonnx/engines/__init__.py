"""What trains a graph: one room for each engine.

``protocol``: what an engine is; ``onnxruntime``: a step as one ONNX model, on any ONNX Runtime, with our own gradient;
``onnxruntime_training``: the four files of ONNX Runtime's on-device training; ``frozen``: large tensors beside the models.
"""

from __future__ import annotations

from collections.abc import Mapping

from tgdonnx.engines.onnxruntime.engine import ONNXRUNTIME
from tgdonnx.engines.onnxruntime_training.engine import ONNXRUNTIME_TRAINING
from tgdonnx.engines.protocol import (
    GRADIENTS,
    OPTIMIZERS,
    Batch,
    BatchLoss,
    Checkpoint,
    Engine,
    EngineName,
    GradientKind,
    Objective,
    OptimizerName,
    Problem,
    TrainingSession,
)

ENGINES: Mapping[EngineName, Engine] = {
    "onnxruntime": ONNXRUNTIME,
    "onnxruntime-training": ONNXRUNTIME_TRAINING,
}


DEFAULT_ENGINE: EngineName = "onnxruntime"
"""With any runtime, that of onnxruntime-training too: there it is the faster one (the guide ``numbers`` has the figures)."""


__all__ = [
    "DEFAULT_ENGINE",
    "ENGINES",
    "GRADIENTS",
    "OPTIMIZERS",
    "Batch",
    "BatchLoss",
    "Checkpoint",
    "Engine",
    "EngineName",
    "GradientKind",
    "Objective",
    "OptimizerName",
    "Problem",
    "TrainingSession",
]
