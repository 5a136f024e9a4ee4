"""Conv with groups in one and three dimensions: no gradient of the runtime's that writes beyond its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tgdonnx
from tests import models
from tests.lowering.geometry_check import gradients, leaves_alone, linear_gradient, lowered_by, node_model
from tests.lowering.graphs import run
from tests.trainer import make_artifacts
from tests.training_models import text_model
from tgdonnx.engines.onnxruntime_training.gradients import gradient_model
from tgdonnx.lowering.grouped_conv import LowerGroupedConv

ROOT = Path(__file__).parents[2]


@pytest.mark.training
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_computes_what_the_original_does_with_its_gradients(data: st.DataObject) -> None:
    rank, group = data.draw(st.sampled_from([1, 3])), data.draw(st.integers(2, 3))

    def per_axis(low: int, high: int) -> list[int]:
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, strides, dilations = per_axis(1, 3), per_axis(1, 2), per_axis(1, 2)
    sizes, pads = per_axis(5, 6), [*per_axis(0, 2), *per_axis(0, 2)]
    maps, filters = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    inputs = {
        "x": rng.normal(size=(2, group * maps, *sizes)).astype(np.float32),
        "w": rng.normal(size=(group * filters, maps, *kernel)).astype(np.float32),
    }
    if data.draw(st.booleans()):
        inputs["b"] = rng.normal(size=group * filters).astype(np.float32)
    attributes = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    if data.draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    dynamic = data.draw(st.sampled_from([[], [0], [0, 2]]))
    model = node_model("Conv", inputs, opset=data.draw(st.integers(13, 21)), dynamic=dynamic, **attributes)
    lower = lowered_by(LowerGroupedConv(), model)
    expected = run(model, inputs)
    assert np.abs(run(lower, inputs) - expected).max() <= 2e-6 * max(1, np.abs(expected).max())
    target = rng.normal(size=expected.shape).astype(np.float32)
    found = gradients(lower, inputs, target, inputs)
    for name in inputs:
        slope = linear_gradient(model, inputs, target, name)
        assert np.abs(found[name] - slope).max() <= 2e-5 * max(1, np.abs(slope).max()), name


@pytest.mark.parametrize(("shape", "group"), [((4, 2, 3, 3), 2), ((4, 2, 3), 1), ((4, 2, 2, 2, 2), 1)])
def test_what_the_runtime_gets_right_stays(shape: tuple[int, ...], group: int) -> None:
    inputs = {
        "x": np.zeros((1, shape[1] * group, *[4] * (len(shape) - 2)), np.float32),
        "w": np.zeros(shape, np.float32),
    }
    assert leaves_alone(LowerGroupedConv(), node_model("Conv", inputs, opset=13, group=group))


@pytest.mark.training
def test_the_gradient_of_one_that_is_not_lowered_is_never_built() -> None:
    model = text_model(
        "g (float[N, 4, L] x, float[6, 2, 3] w) => (float loss) {"
        " y = Conv<group = 2>(x, w)  loss = ReduceSum<keepdims = 0>(y) }"
    )
    with pytest.raises(AssertionError, match="'y' is a Conv with groups, and not of two dimensions"):
        gradient_model(model, ["w"])


# Each directory in a process of its own, forked before the runtime has started a thread.
TRAINING = """
import os, sys
import numpy as np
from tgdonnx.runtime import load_training_api, session_options
api, options = load_training_api(), session_options()
options.enable_cpu_mem_arena = False  # so that every tensor is a block of the heap, which looks after its ends

def train(directory):
    state = api.CheckpointState.load_checkpoint(directory + "/checkpoint")
    names = [directory + f"/{kind}_model.onnx" for kind in ("training", "eval", "optimizer")]
    module = api.Module(names[0], state, names[1], "cpu", options)
    optimizer = api.Optimizer(names[2], module)
    with np.load(directory + "/batch.npz") as data:
        batch = [data[key] for key in data.files]
    for step in range(8):
        part = [array[: 1 + step % 2] for array in batch]
        module.train()
        module(*part)
        optimizer.step()
        module.lazy_reset_grad()
        module.eval()
        module(*part)

for directory in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        train(directory)
        sys.exit()  # with all that is freed at the end, where the heap is looked at once more
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
NAMES = ("chain", "dncnn", "residual", "dense", "grouped", "one_d", "three_d", "shared_weights")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["masked", "thin"])
def test_training_leaves_the_heap_of_the_process_alone(form: str, tmp_path: Path) -> None:
    directories = []
    for name in NAMES:
        model = models.MODELS[name](0)
        (tmp_path / name).mkdir()
        directories.append(make_artifacts(model, tmp_path / name, tgdonnx.LastLayers(3), form=form))
        (x,) = models.random_feeds(model).values()
        y = run(model, {"x": x})
        np.savez(directories[-1] / "batch.npz", x=x, target=np.zeros_like(y))
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{TRAINING}",
        *map(str, directories),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1000:]
    assert dict(zip(NAMES, done.stdout.split())) == dict.fromkeys(NAMES, "0"), done.stderr[-1000:]
