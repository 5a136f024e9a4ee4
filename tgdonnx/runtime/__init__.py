"""Running models: the one place that imports ONNX Runtime and opens sessions.

``importing`` and ``training``: the doors to onnxruntime and onnxruntime-training, which keep torch out; ``availability``: where
they can be had; ``devices``: where models run; ``inference``: a model opened for inference, whatever its IR version;
``kept_open``: models that stay open for the next run on them;
``options``: of every session; ``packing``: large tensors beside the message; ``opsets``: what the runtimes know, and
models of newer sets as they know them; ``soundness``: what would crash the runtime, with ``windows``, ``control_flow``
and ``arguments`` of operators, as ``node_protos`` shows them, of a ``weightless`` model; ``error_text``: what the runtime
says, as sentences; ``memory``: how much this process took.
"""

from tgdonnx.runtime.devices import CPU, CPU_NAME, Device, parse_device, usable_device
from tgdonnx.runtime.error_text import reason_of
from tgdonnx.runtime.importing import load_onnxruntime
from tgdonnx.runtime.inference import InferenceModel, Port, open_inference
from tgdonnx.runtime.opsets import MAX_IR_VERSION, NEWEST, DowngradeOpset
from tgdonnx.runtime.options import session_options
from tgdonnx.runtime.soundness import require_sound
from tgdonnx.runtime.training import has_training_runtime, load_training_api, writing

__all__ = [
    "CPU",
    "CPU_NAME",
    "MAX_IR_VERSION",
    "NEWEST",
    "Device",
    "DowngradeOpset",
    "InferenceModel",
    "Port",
    "has_training_runtime",
    "load_onnxruntime",
    "load_training_api",
    "open_inference",
    "parse_device",
    "reason_of",
    "require_sound",
    "session_options",
    "usable_device",
    "writing",
]
