"""A masked model, built in both forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import open_trainer
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import TrainedTensor
from tgdonnx.finetuning.session import RunState, Session, read_parameters
from tgdonnx.layers import open_network
from tgdonnx.masked_model import SUFFIX, masked_bytes
from tgdonnx.selection import plan_masks, select
from tgdonnx.tracing import trace_network

FORMS = ("masked", "thin")


def build_both(
    model: onnx.ModelProto, directory: Path, strategy: tgdonnx.Strategy, *, mode: str = "paper", **options: Any
) -> dict[str, tgdonnx.BuildReport]:
    """Masks once, and builds ``masked`` and ``thin``, each a directory in ``directory``."""
    models.save(model, directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", strategy, tgdonnx.MaskOptions(mode=mode))
    return {
        form: tgdonnx.build(directory / "masked.onnx", directory / form, tgdonnx.BuildOptions(form=form, **options))
        for form in FORMS
    }


def build_with_masks(
    model: onnx.ModelProto, directory: Path, masks: Mapping[str, Array], **options: Any
) -> dict[str, tgdonnx.BuildReport]:
    """Builds both forms with these retrain masks, whatever selections may give; tensors without one are frozen.

    No selection gives these masks, and `verify` refuses what is tuned by them: compare it by
    `tests.masked_model.regrown.compared`.
    """
    network = open_network(models.save(model, directory / "model.onnx"))
    provenance = trace_network(network)
    planned = plan_masks(provenance, select(provenance, tgdonnx.AllLayers()), "paper")
    assert set(masks) <= {plan.parameter.name for plan in planned}
    given = [
        replace(plan, values=masks.get(plan.parameter.name, np.zeros_like(plan.values)).astype(np.float32))
        for plan in planned
    ]
    rows = {name: np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1)).tolist() for name, mask in masks.items()}
    selection = {"strategy": "filters", "filters": rows, "mode": "paper", "round": 1}
    (directory / "masked.onnx").write_bytes(masked_bytes(network, given, selection))
    return {
        form: tgdonnx.build(directory / "masked.onnx", directory / form, tgdonnx.BuildOptions(form=form, **options))
        for form in FORMS
    }


def kernel_mask(shape: Sequence[int], axes: tuple[int, int], rows: Sequence[int], columns: Sequence[int]) -> Array:
    """The mask, of a tensor of this shape, of rows along one axis and columns along another."""
    mask = np.zeros([size if axis in axes else 1 for axis, size in enumerate(shape)], np.float32)
    np.moveaxis(mask, axes[0], 0)[list(rows)] = 1
    np.moveaxis(mask, axes[1], 0)[list(columns)] = 1
    return mask


def masks_of(path: Path) -> dict[str, Array]:
    """Returns the retrain masks of a masked model."""
    arrays = arrays_of(path)
    return {name[: -len(SUFFIX)]: mask for name, mask in arrays.items() if name.endswith(SUFFIX)}


def held(tensor: TrainedTensor, whole: Array) -> Array:
    """Returns what a parameter holds of a tensor."""
    for along in tensor.part or ():
        whole = np.take(whole, along.indices, along.axis)
    return whole


def train(directory: Path, batch: list[Array], steps: int, rate: float) -> list[float]:
    """Takes steps on one batch, saves the checkpoint, and returns the losses."""
    session = Session(directory)
    losses = [loss for _ in range(steps) for loss in session.step([batch], rate)]
    session.save(session.manifest.runtime.checkpoint, RunState(0, steps, {}))
    return losses


def checkpoint_of(directory: Path) -> dict[str, Array]:
    """Returns what the checkpoint holds as parameters."""
    return read_parameters(directory, read_manifest(directory).runtime.checkpoint)


def arrays_of(path: Path) -> dict[str, Array]:
    """Returns every tensor of a file, in float64."""
    return {
        name: numpy_helper.to_array(tensor).astype(np.float64) for name, tensor in tensors_of(onnx.load(path)).items()
    }


def training_graph(directory: Path) -> onnx.GraphProto:
    """Returns the graph of the training model, of artifacts of onnxruntime-training."""
    return onnx.load(directory / "training_model.onnx").graph


def transposed(seed: int = 0) -> onnx.ModelProto:
    """Down and up again, through ConvTransposes with and without groups."""
    return text_model(
        """g (float[N, 3, H, W] x) => (float[N, 2, h, w] y) {
            t1 = Conv<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x, w1, b1)
            a1 = Relu(t1)
            t2 = ConvTranspose<kernel_shape = [2, 2], strides = [2, 2]>(a1, w2, b2)
            a2 = LeakyRelu<alpha = 0.2>(t2)
            t3 = ConvTranspose<kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 2>(a2, w3)
            a3 = Relu(t3)
            y = Conv<kernel_shape = [1, 1]>(a3, w4)
        }""",
        seed=seed,
        **{"w1": (7, 3, 3, 3), "b1": (7,), "w2": (7, 6, 2, 2), "b2": (6,), "w3": (6, 4, 3, 3), "w4": (2, 8, 1, 1)},
    )


def classifier(seed: int = 0) -> onnx.ModelProto:
    """A Conv, and matrix products behind it: Gemm with and without a transposed weight, MatMul with a bias."""
    return text_model(
        """g (float[N, 3, 9, 8] x) => (float[N, 4] y) {
            t1 = Conv<kernel_shape = [3, 3]>(x, w1, b1)
            a1 = Relu(t1)
            p = GlobalAveragePool(a1)
            f = Flatten(p)
            t2 = Gemm<transB = 1>(f, w2, b2)
            a2 = Relu(t2)
            t3 = Gemm(a2, w3, b3)
            a3 = Tanh(t3)
            t4 = MatMul(a3, w4)
            y = Add(t4, b4)
        }""",
        seed=seed,
        **{
            "w1": (6, 3, 3, 3),
            "b1": (6,),
            "w2": (9, 6),
            "b2": (9,),
            "w3": (9, 7),
            "b3": (7,),
            "w4": (7, 4),
            "b4": (4,),
        },
    )


def halves(seed: int = 0) -> onnx.ModelProto:
    """A network in float16."""
    tensors = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (5, 6, 3, 3)}
    rng = np.random.default_rng(seed)
    return text_model(
        """g (float16[N, 3, H, W] x) => (float16[N, 5, h, w] y) {
            t1 = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1, b1)
            a1 = Relu(t1)
            y = Conv<kernel_shape = [3, 3]>(a1, w2)
        }""",
        **{name: (0.3 * rng.normal(size=shape)).astype(np.float16) for name, shape in tensors.items()},
    )


def gradients_of(directory: Path, feeds: dict[str, Array], target: Array) -> tuple[float, dict[str, Array]]:
    """Returns the loss, and what the optimizer is given, by the names of the vendor's tensors, each in one piece."""
    loss, gradients = piece_gradients(directory, feeds, target)
    names = [tensor.vendor_name for tensor, _ in gradients]
    assert len(set(names)) == len(names)
    return loss, {tensor.vendor_name: gradient for tensor, gradient in gradients}


def piece_gradients(
    directory: Path, feeds: dict[str, Array], target: Array
) -> tuple[float, list[tuple[TrainedTensor, Array]]]:
    """Returns the loss, and for every parameter what the optimizer is given."""
    loss, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    trained = read_manifest(directory).trained
    assert gradients.keys() == {tensor.name for tensor in trained}
    return loss, [(tensor, gradients[tensor.name]) for tensor in trained]


def computed(directory: Path, feeds: dict[str, Array], target: Array, names: list[str]) -> dict[str, Array]:
    """Returns values of the training model's graph, computed from the checkpoint, by onnxruntime-training."""
    model = onnx.load(directory / "training_model.onnx")
    kept = [node for node in model.graph.node if node.op_type != "InPlaceAccumulatorV2"]
    read = {name for node in kept for name in node.input}
    inputs = [value for value in model.graph.input if value.name in read]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(kept)
    model.graph.input.extend(inputs)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(model)
    given = {**feeds, "target": target, **checkpoint_of(directory)}
    return dict(zip(names, session.run(names, {value.name: given[value.name] for value in inputs})))


def batch_for(model: onnx.ModelProto) -> list[Array]:
    """Random inputs, and a target of the right shape; in float32, whatever the model is in."""
    x = models.random_feeds(model, 3)["x"]
    session = open_session(model)
    half = session.get_inputs()[0].type == "tensor(float16)"
    y = session.run(["y"], {"x": x.astype(np.float16) if half else x})[0]
    return [x, np.random.default_rng(4).normal(size=y.shape).astype(np.float32)]
