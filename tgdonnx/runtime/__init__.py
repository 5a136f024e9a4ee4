"""Running models: the one place that imports ONNX Runtime and opens sessions.

``importing``: the doors to onnxruntime and onnxruntime-training, which keep torch out; ``inference``: a model opened for
inference, whatever its IR version; ``opsets``: what the runtimes know, and models of newer sets as they know them;
``reasons``: what the runtime says, as sentences; ``availability``: where the runtimes can be had;
``training``: what of onnxruntime-training writes files.
"""

from tgdonnx.runtime.importing import load_builder, load_onnxruntime, load_training_api
from tgdonnx.runtime.inference import InferenceModel, Port, open_inference
from tgdonnx.runtime.opsets import MAX_IR_VERSION, NEWEST, LowerOpset
from tgdonnx.runtime.reasons import reason_of

__all__ = [
    "MAX_IR_VERSION",
    "NEWEST",
    "InferenceModel",
    "LowerOpset",
    "Port",
    "load_builder",
    "load_onnxruntime",
    "load_training_api",
    "open_inference",
    "reason_of",
]
