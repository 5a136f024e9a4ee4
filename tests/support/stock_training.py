"""The artifacts trained by onnxruntime's own interface and nothing of ours, as the guide to runs says that it is done."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = (Path(__file__).parents[2] / "tgdonnx" / "guides" / "runs.md").read_text("utf-8")


def without_torch() -> str:
    """Returns the lines of the guide that keep torch out."""
    (lines,) = re.findall(r"<!-- stock -->\n```python\n(.*?)```\n<!-- /stock -->", GUIDE, re.DOTALL)
    return str(lines)


# Called with a directory of the four files and a batch; leaves losses, output and parameters after three steps.
TRAINING = f"""
{without_torch()}
import numpy as np
from onnxruntime import SessionOptions, set_default_logger_severity
from onnxruntime.training.api import CheckpointState, Module, Optimizer

set_default_logger_severity(3)
options = SessionOptions()
options.enable_mem_pattern = False
directory = sys.argv[1]
state = CheckpointState.load_checkpoint(directory + "/checkpoint")
module = Module(directory + "/training_model.onnx", state, directory + "/eval_model.onnx", "cpu", options)
optimizer = Optimizer(directory + "/optimizer_model.onnx", module)
optimizer.set_learning_rate(0.01)
batch = np.load(directory + "/batch.npz")
losses = []
for _ in range(3):
    module.train()
    losses.append(float(module(batch["x"], batch["target"])))
    optimizer.step()
    module.lazy_reset_grad()
module.eval()
loss, output = module(batch["x"], batch["target"])
np.savez(directory + "/result.npz", losses=losses, loss=loss, output=output,
         **{{"p." + name: parameter.data for name, parameter in state.parameters}})
assert not any(name.split(".")[0] in ("tgdonnx", "torch") for name in sys.modules)
"""
