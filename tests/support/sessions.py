"""Sessions of the runtime, for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import onnx
import onnxruntime


def open_session(
    model: Union[onnx.ModelProto, bytes, str, Path], options: Optional[onnxruntime.SessionOptions] = None
) -> onnxruntime.InferenceSession:
    """Opens a session on the CPU.

    Without what kills the process in onnxruntime-training 1.19.2, perhaps in another test: the plan by which it lays out values
    in memory, which is wrong for some graphs, and an optimizer that does not expect values of branches.
    """
    options = options or onnxruntime.SessionOptions()
    options.enable_mem_pattern = False
    options.add_session_config_entry("optimization.disable_specified_optimizers", "ConvActivationFusion")
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = source if isinstance(source, bytes) else str(source)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
