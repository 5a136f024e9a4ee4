"""Every engine that is installed, in both forms, from one masked model: the same losses, and the same trained filters.

Where the training runtime is not installed, `.ci/run` compares the forms of the engine onnxruntime alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.quantized_models import Kind, quantized
from tests.support.training_models import text_model
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.state import RunState
from tgdonnx.runtime import has_training_runtime

STEPS = 50
INSTALLED = ("onnxruntime-training", "onnxruntime") if has_training_runtime() else ("onnxruntime",)


def padded_pool() -> onnx.ModelProto:
    """A MaxPool that leaves its pads to the runtime, for sizes that are open."""
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,P,Q] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, v)
            b = Relu(a)
            c = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(b)
            y = Conv<pads = [1, 1, 1, 1]>(c, w)
        }""",
        v=(5, 2, 3, 3),
        w=(3, 5, 3, 3),
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "dncnn": models.dncnn,
    "residual": models.residual,
    "dense": models.dense,
    "grouped": models.grouped,
    "one_d": models.one_d,
    "three_d": models.three_d,
    "gated": models.gated,
    "padded_pool": padded_pool,
    "shared": models.shared_weights,
    "quantized": lambda: quantized(Kind()),
}


def _trained(
    masked: Path, directory: Path, batches: list[list[Array]], rate: float, **options: Any
) -> tuple[list[float], Path]:
    """Losses of `STEPS` steps, and the tuned model."""
    tgdonnx.build(masked, directory, tgdonnx.BuildOptions(**options))
    session = Session(directory)
    losses = [loss for step in range(STEPS) for loss in session.step([batches[step % len(batches)]], rate)]
    session.save(session.manifest.runtime.checkpoint, RunState(0, STEPS, {}))
    tuned = directory.with_suffix(".onnx")
    tgdonnx.export(directory, tuned)
    return losses, tuned


def _tensors(path: Path) -> dict[str, Array]:
    model = onnx.load(path)
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _require_same(
    model: onnx.ModelProto,
    tmp_path: Path,
    strategy: Any,
    mode: Any = "paper",
    forms: Any = ("masked", "thin"),
    rate: float = 1e-3,
    **options: Any,
) -> None:
    vendor = models.save(model, tmp_path / "vendor.onnx")
    masked = tmp_path / "masked.onnx"
    tgdonnx.mask(vendor, masked, strategy, tgdonnx.MaskOptions(mode=mode))
    feeds = models.random_feeds(model)
    rng = np.random.default_rng(5)
    reference = tmp_path / "probe"
    tgdonnx.build(masked, reference, tgdonnx.BuildOptions(engine="onnxruntime", **options))
    (output,) = Session(reference).predict(list(feeds.values()))
    batches = [
        [
            *(array + rng.normal(0, 0.1, array.shape).astype(array.dtype) for array in feeds.values()),
            output + rng.normal(0, 0.1 * np.abs(output).mean(), output.shape).astype(np.float32),
        ]
        for _ in range(3)
    ]
    found = {
        (engine, form): _trained(
            masked, tmp_path / f"{engine}-{form}", batches, rate, engine=engine, form=form, **options
        )
        for engine in INSTALLED
        for form in forms
    }
    losses, tuned = found[INSTALLED[0], "masked"]
    before, expected = _tensors(vendor), _tensors(tuned)
    moved = [name for name in before if not np.array_equal(before[name], expected[name])]
    assert moved, "nothing trained"
    assert any(before[name].dtype == np.float32 for name in moved) or model.graph.node[0].op_type == "QuantizeLinear"
    for (engine, form), (others, path) in found.items():
        assert np.isfinite(others).all()
        np.testing.assert_allclose(others, losses, rtol=1e-5, err_msg=f"{engine}, {form}")
        for name, array in _tensors(path).items():
            if name not in moved:
                assert array.tobytes() == before[name].tobytes(), f"{engine}, {form}: {name}"
            elif array.dtype == np.float32:
                distance = np.linalg.norm(array - expected[name])
                assert distance <= 1e-5 * np.linalg.norm(expected[name]), f"{engine}, {form}: {name}: {distance}"


@pytest.mark.parametrize("name", NETWORKS)
def test_both_engines_train_a_network_alike(name: str, tmp_path: Path) -> None:
    output = "y" if name == "gated" else None
    _require_same(NETWORKS[name](), tmp_path, tgdonnx.Percentile(60), output=output)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "rate": 1e-7},
        {"l2": 0.01, "l2_sp": 0.1},
        {"clip_norm": 0.5},
        {"loss": "0.7*l1+0.3*charbonnier"},
        {"optimizer": "sgd", "clip_norm": 0.1, "l2": 0.1},
    ],
    ids=str,
)
def test_both_engines_have_the_same_options(options: dict[str, Any], tmp_path: Path) -> None:
    _require_same(models.dncnn(), tmp_path, tgdonnx.Percentile(60), **options)


def test_both_engines_train_the_kernels_that_read_alike(tmp_path: Path) -> None:
    _require_same(models.dncnn(), tmp_path, tgdonnx.Percentile(60), "readers")


def test_both_engines_gate_alike(tmp_path: Path) -> None:
    _require_same(models.dncnn(), tmp_path, tgdonnx.Percentile(60), forms=("masked",), gradient="gate", rate=1e-5)
