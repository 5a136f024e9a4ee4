"""The gradients that the optimizer is given, against backward passes in float64 that know nothing of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import tgdonnx
from tests.artifacts.selections import ALL, SELECTIONS, batch_for, filters, weight
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.trainer import StockTrainer, make_artifacts, open_trainer, relative_error, true_gradients
from tests.support.training_models import text_model


@pytest.mark.parametrize("name", SELECTIONS)
def test_trained_rows_have_the_true_gradient_and_frozen_rows_exactly_none(
    name: str, engine: str, tmp_path: Path
) -> None:
    build, asked, trained = SELECTIONS[name]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), engine=engine)
    loss, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    expected_loss, expected = true_gradients(model, feeds, target)
    assert abs(loss / expected_loss - 1) < 1e-6
    assert set(gradients) == set(trained)
    for tensor, rows in trained.items():
        assert relative_error(gradients[tensor][list(rows)], expected[tensor][list(rows)]) < 1e-5, tensor
        assert gradients[tensor][list(rows)].reshape(len(rows), -1).any(axis=1).all(), tensor
        assert not np.delete(gradients[tensor], list(rows), axis=0).any(), tensor


@pytest.mark.parametrize("build", [models.chain, models.dncnn, models.residual, models.grouped, models.three_d])
def test_masks_per_kernel_leave_the_true_gradient_of_the_kernels_that_train(
    build: models.Builder, engine: str, tmp_path: Path
) -> None:
    model = build(0)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(0.3), mode="readers", engine=engine)
    _, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    _, expected = true_gradients(model, feeds, target)
    masks = {
        tensor.name[: -len(".retrain_mask")]: numpy_helper.to_array(tensor)
        for tensor in onnx.load(directory / "masked.onnx").graph.initializer
        if tensor.name.endswith(".retrain_mask")
    }
    assert any(mask.ndim > 1 and mask.shape[1] > 1 and 0 < mask.mean() < 1 for mask in masks.values())
    assert set(gradients) == {name for name, mask in masks.items() if mask.any()}
    for name, gradient in gradients.items():
        trains = np.broadcast_to(masks[name] == 1, gradient.shape)
        assert np.abs(gradient - expected[name])[trains].max() < 1e-5 * np.abs(expected[name]).max(), name
        assert not gradient[~trains].any(), name


# The gate.


def gates_for(model: onnx.ModelProto, asked: dict[str, Sequence[int]]) -> dict[str, Array]:
    """A gate at the output of every layer in which some but not all filters train."""
    gates = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in asked:
            shape = weight(model, node.input[1]).shape
            opened = np.zeros(shape[0])
            opened[[m for m in asked[node.input[1]] if m < shape[0]]] = 1
            if 0 < opened.sum() < shape[0]:
                gates[node.output[0]] = opened.reshape(-1, *(1,) * (len(shape) - 2))
    return gates


@pytest.mark.parametrize("name", SELECTIONS)
def test_through_gates_gradient_flows_as_in_a_backward_pass_with_the_gates_in_it(
    name: str, engine: str, tmp_path: Path
) -> None:
    build, asked, trained = SELECTIONS[name]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), gradient="gate", engine=engine)
    loss, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    expected_loss, expected = true_gradients(model, feeds, target, gates=gates_for(model, asked))
    assert abs(loss / expected_loss - 1) < 1e-6, "a gate is the identity in the forward pass"
    assert set(gradients) == set(trained)
    for tensor, rows in trained.items():
        scale = np.abs(expected[tensor][list(rows)]).max()
        assert np.abs(gradients[tensor] - expected[tensor])[list(rows)].max() <= 1e-5 * scale, tensor
        assert not np.delete(gradients[tensor], list(rows), axis=0).any(), tensor


def test_with_a_partly_frozen_middle_layer_an_earlier_layer_hears_only_through_its_trained_filters(
    tmp_path: Path,
) -> None:
    model = models.chain(2)
    asked = {"w1": ALL, "w2": [1, 4]}
    feeds, target = batch_for(model)
    (tmp_path / "gate").mkdir()
    (tmp_path / "mask").mkdir()
    gated = open_trainer(make_artifacts(model, tmp_path / "gate", filters(model, asked), gradient="gate"))
    masked = open_trainer(make_artifacts(model, tmp_path / "mask", filters(model, asked), gradient="mask"))
    _, through_gate = gated.gradients(*feeds.values(), target)
    _, whole = masked.gradients(*feeds.values(), target)
    # The same by removing the frozen filters from the backward pass: dL/da1 = sum over trained n of W2[n] * dL/dt2[n].
    values = NumpyNet(model).run(feeds)
    _, true = true_gradients(model, feeds, target)
    d_a1 = sum(true["t2"][:, [n], :, :] * weight(model, "w2")[n].reshape(1, -1, 1, 1) for n in (1, 4))
    d_t1 = d_a1 * (values["t1"] > 0)
    assert relative_error(through_gate["b1"], d_t1.sum(axis=(0, 2, 3))) < 1e-5
    assert relative_error(whole["b1"], true["b1"]) < 1e-5
    assert relative_error(through_gate["b1"], whole["b1"]) > 0.1
    assert relative_error(through_gate["w2"], whole["w2"]) < 1e-6, "the gate is behind the weights that it belongs to"


def test_a_wholly_frozen_layer_has_no_gate(tmp_path: Path) -> None:
    model = models.chain(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, {"w1": [0, 1], "w2": []}), gradient="gate")
    _, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    _, true = true_gradients(model, feeds, target)
    assert np.abs(true["w1"][:2]).max() > 1e-3
    assert relative_error(gradients["w1"][:2], true["w1"][:2]) < 1e-5, "a gate of the frozen layer would leave nothing"


# The regulariser.


@pytest.mark.parametrize("gradient", ["mask", "gate"])
def test_l2_is_added_to_the_trained_rows_of_weights_and_to_nothing_else(
    gradient: str, engine: str, tmp_path: Path
) -> None:
    build, asked, trained = SELECTIONS["batch norm"]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), l2=3.5, gradient=gradient, engine=engine)
    loss, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    gates = gates_for(model, asked) if gradient == "gate" else None
    expected_loss, expected = true_gradients(model, feeds, target, gates=gates)
    assert abs(loss / expected_loss - 1) < 1e-6, "the loss that is told is the loss alone"
    for tensor, rows in trained.items():
        decay = 3.5 * weight(model, tensor) if tensor in ("w1", "w2", "w3") else 0
        assert relative_error(gradients[tensor][list(rows)], (expected[tensor] + decay)[list(rows)]) < 1e-5, tensor
        assert not np.delete(gradients[tensor], list(rows), axis=0).any(), tensor


def test_l2_of_a_shared_weight_is_added_once(tmp_path: Path) -> None:
    build, asked, _ = SELECTIONS["weights that two layers share"]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), l2=3.5)
    _, gradients = open_trainer(directory).gradients(*feeds.values(), target)
    _, expected = true_gradients(model, feeds, target)
    assert relative_error(gradients["w"][[0, 3]], (expected["w"] + 3.5 * weight(model, "w"))[[0, 3]]) < 1e-5


@pytest.mark.training
def test_gradients_of_two_batches_add_up_until_they_are_reset(tmp_path: Path) -> None:
    model = models.chain(2)
    feeds, target = batch_for(model)
    trainer = StockTrainer(
        make_artifacts(model, tmp_path, filters(model, {"w1": [0, 3]}), engine="onnxruntime-training")
    )
    _, once = trainer.gradients(feeds["x"], target)
    trainer.module.train()
    trainer.module(feeds["x"], target)
    _, twice = trainer.gradients(feeds["x"], target)
    assert relative_error(twice["w1"], 2 * once["w1"]) < 1e-6
    _, again = trainer.gradients(feeds["x"], target)
    assert np.array_equal(again["w1"], once["w1"])


# Operators between a trained filter and the output.

CONSTANTS: dict[str, Array] = {
    "low": np.array(-0.5, np.float32),
    "high": np.array(0.6, np.float32),
    "one_and_a_half": np.array(1.5, np.float32),
    "three": np.array(3.0, np.float32),
    "per_map": np.array([0.5, -1.5, 2.0, 1.0], np.float32).reshape(1, 4, 1, 1),
    "matrix": np.random.default_rng(5).normal(size=(9, 5)).astype(np.float32),
    "shape": np.array([3, 4, 1, 1]),
    "flat": np.array([0, 4, -1]),
    "picked": np.array([3, 1, 0, 1]),
    "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
    "axes": np.array([2, 3]),
    "first": np.array([0]),
    "last": np.array([4]),
    "from": np.array([1, 0]),
    "to": np.array([100, -1]),
    "along": np.array([3, 1]),
    "by": np.array([2, 1]),
    "condition": np.random.default_rng(6).random((1, 4, 7, 1)) < 0.5,
    "along_nine": np.random.default_rng(8).normal(size=9).astype(np.float32),
    "beside_nine": np.random.default_rng(9).normal(size=9).astype(np.float32),
    "gemm": np.random.default_rng(7).normal(size=(252, 3)).astype(np.float32),
}

SMALL = np.random.default_rng(3).normal(0, 0.2, (4, 4, 1, 1)).astype(np.float32)

# The operator as text, a of shape [3, 4, 7, 9] and x likewise, b its result; and the operator sets to try.
OPERATORS: list[tuple[str, tuple[int, ...]]] = [
    ("b = Abs(a)", (13,)),
    ("b = Add(a, x)", (8, 13, 14, 21)),
    ("b = Add(per_map, a)", (17,)),
    ("b = Cast<to = 1>(a)", (17,)),
    ("b = Clip<min = -0.5, max = 0.6>(a)", (8, 10)),
    ("b = Clip(a, low, high)", (11, 13, 21)),
    ("b = Clip(a, , high)", (17,)),
    ("b = Concat<axis = 1>(x, a)", (8, 11, 13, 21)),
    ("b = Concat<axis = 1>(a, a)", (17,)),
    ("b = Concat<axis = -1>(a, x)", (17,)),
    ("c = Concat<axis = 1>(x, a)\n b = Concat<axis = 1>(c, x)", (17,)),
    ("b = Div(a, per_map)", (17,)),
    ("s = Sigmoid(a)\n b = Div(x, s)", (17,)),
    ("b = Dropout<ratio = 0.5>(a)", (8, 10)),
    ("b = Dropout(a)", (12, 13, 21)),
    ("b = Erf(a)", (17,)),
    ("b = Exp(a)", (17,)),
    ("b = Expand(per_map, shape)\n c = Mul(a, b)", (17,)),
    ("g = GlobalAveragePool(a)\n e = Shape(a)\n b = Expand(g, e)", (17,)),
    ("b = Gather<axis = 1>(a, picked)", (17,)),
    ("b = Gelu(a)", (20,)),
    ("s = Sin(a)\n b = Cos(s)", (17,)),
    ("f = Flatten(a)\n e = Shape(a)\n b = Reshape(f, e)", (8, 13, 21)),
    ("b = Min(a, x)", (17,)),
    ("s = Sigmoid(a)\n b = Reciprocal(s)", (17,)),
    ("b = ReduceLogSumExp<axes = [1]>(a)", (17,)),
    ("f = Reshape(a, flat)\n t = Transpose<perm = [2, 0, 1]>(f)\n b = Gather<axis = 0>(t, first)", (17,)),
    ("b = GlobalAveragePool(a)", (8, 17)),
    ("b = Identity(a)", (8, 17)),
    ("b = LeakyRelu<alpha = 0.3>(a)", (8, 16, 21)),
    ("s = Sigmoid(a)\n b = Log(s)", (17,)),
    ("b = LogSoftmax<axis = 1>(a)", (13, 17)),
    ("b = MatMul(a, matrix)", (17,)),
    ("b = Max(a, x)", (17,)),
    ("b = Mul(a, x)", (8, 13, 14, 21)),
    ("b = Mul(a, a)", (17,)),
    ("b = Mul(a, per_map)", (17,)),
    ("b = Neg(a)", (17,)),
    ("b = Pad<pads = [0, 0, 1, 0, 0, 0, 2, 1], value = 0.5>(a)", (8, 10)),
    ("b = Pad(a, pads)", (11, 13, 21)),
    ("b = Pad(a, pads, high)", (17,)),
    ("s = Sigmoid(a)\n b = Pow(s, three)", (17,)),
    ("b = ReduceMean<axes = [2, 3]>(a)", (13, 17)),
    ("b = ReduceMean(a, axes)", (18, 21)),
    ("b = ReduceSum(a, axes)", (13, 17)),
    ("b = Relu(a)", (8, 13, 14, 21)),
    ("b = Reshape(a, flat)", (17,)),
    ("b = Sigmoid(a)", (8, 13, 21)),
    ("b = Slice(a, from, to, along, by)", (13, 17)),
    ("b = Softmax<axis = 1>(a)", (13, 17)),
    ("b, c = Split<axis = 1>(a, axes_of_split)", (17,)),
    ("s = Sigmoid(a)\n b = Sqrt(s)", (17,)),
    ("u = Unsqueeze(a, last)\n b = Squeeze(u, last)", (17,)),
    ("b = Sub(x, a)", (8, 13, 14, 21)),
    ("b = Sub(a, x)", (17,)),
    ("b = Tanh(a)", (8, 13, 21)),
    ("b = Transpose<perm = [0, 1, 3, 2]>(a)", (17,)),
    ("n = Constant<value = int64[4] {1, 1, 2, 1}>()\n b = Tile(a, n)", (13, 21)),
    ("n = Constant<value = int64[1] {2}>()\n b, places = TopK<axis = 2>(a, n)", (13, 21)),
    ("b = Trilu(a)", (17,)),
    ("i = Constant<value = int64[2, 1] {1, 0}>()\n b = GatherND(a, i)", (13, 21)),
    (
        "i = Constant<value = int64[1, 1] {1}>()\n p = GatherND(a, i)\n u = Sigmoid(p)\n b = ScatterND(a, i, u)",
        (13, 21),
    ),
    (
        "i = Constant<value = int64[1, 1, 1, 2] {2, 0}>()\n"
        "o = Constant<value = int64[1, 1, 1, 2, 4] {0, 1, 2, 3, 1, 0, 2, 1}>()\n"
        "p = GatherND(a, o)\n u = Sigmoid(p)\n b = ScatterElements<axis = 3>(a, i, u)",
        (13, 21),
    ),
    ("b = LayerNormalization<axis = 3, epsilon = 0.01>(a, along_nine, beside_nine)", (17,)),
    ("b = Unsqueeze(a, first)", (17,)),
    ("b = Where(condition, a, x)", (17,)),
    ("b = Where(condition, x, a)", (17,)),
]

# The evaluator of onnx computes these in float32.
EXACT: dict[str, Callable[[Array], Array]] = {
    "b = Cast<to = 1>(a)": lambda a: a,
    "b = Erf(a)": np.vectorize(math.erf),
    "b = Gelu(a)": lambda a: a / 2 * (1 + np.vectorize(math.erf)(a / math.sqrt(2))),
}


def between(text: str, opset: int, dims: str) -> onnx.ModelProto:
    """A conv of four 1x1 filters that makes ``a``, the operator, and a square, so that the gradient depends on ``b``."""
    words = set(re.findall(r"\w+", text))
    tensors = {name: value for name, value in CONSTANTS.items() if name in words}
    if "axes_of_split" in text:
        tensors["axes_of_split"] = np.array([1, 3])
    last = text.split("\n")[-1].split()[0].rstrip(",")
    rank = 3 if "flat" in words else 5 if text.startswith("b = Unsqueeze") else 4
    out = ", ".join("ijklm"[:rank])
    text = f"g (float[{dims}] x) => (float[{out}] y) {{ a = Conv(x, w)\n {text}\n y = Mul({last}, {last}) }}"
    return text_model(text, opset=opset, ir_version=10 if opset > 19 else 8, w=SMALL, **tensors)


def by_differences(model: onnx.ModelProto, text: str, x: Array, target: Optional[Array], w: Array) -> Array:
    """The output for the weights ``w``, or the loss, in float64."""
    if text in EXACT:
        y = EXACT[text](np.einsum("nchw,mc->nmhw", x, w[:, :, 0, 0])) ** 2
    else:
        doubled = onnx.ModelProto()
        doubled.CopyFrom(model)
        for tensor in doubled.graph.initializer:
            values = w if tensor.name == "w" else numpy_helper.to_array(tensor)
            if values.dtype.kind == "f":
                tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float64), tensor.name))
        y = ReferenceEvaluator(doubled).run(None, {"x": x.astype(np.float64)})[0]
    return y if target is None else np.mean((y - target) ** 2)


@pytest.mark.parametrize("dims", ["N, 4, H, W", "3, 4, 7, 9"])
@pytest.mark.parametrize(("text", "opset"), [(text, opset) for text, opsets in OPERATORS for opset in opsets])
def test_the_gradient_through_an_operator_is_the_slope_of_the_loss(
    text: str, opset: int, dims: str, tmp_path: Path
) -> None:
    model = between(text, opset, dims)
    x = np.random.default_rng(1).normal(size=(3, 4, 7, 9)).astype(np.float32)
    w = weight(model, "w").astype(np.float64)
    y = by_differences(model, text, x, None, w)
    target = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    loss, gradients = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers())).gradients(x, target)
    assert loss == pytest.approx(by_differences(model, text, x, target, w), rel=1e-6)
    for seed in range(3):
        way = np.random.default_rng(seed).normal(size=w.shape)
        losses = [by_differences(model, text, x, target, w + sign * 1e-5 * way) for sign in (1, -1)]
        slope = (losses[0] - losses[1]) / 2e-5
        assert abs(slope - (gradients["w"] * way).sum()) < 1e-5 * np.linalg.norm(gradients["w"]) * np.linalg.norm(way)


POOLS = [
    ("MaxPool<kernel_shape = [2], strides = [2]>", 1),
    ("MaxPool<kernel_shape = [2, 3], strides = [1, 2], pads = [1, 0, 0, 1]>", 2),
    ("MaxPool<kernel_shape = [3, 2], dilations = [2, 1]>", 2),
    ("MaxPool<kernel_shape = [2, 2, 2], strides = [2, 1, 2]>", 3),
    ("AveragePool<kernel_shape = [3], strides = [2], pads = [1, 1]>", 1),
    ("AveragePool<kernel_shape = [2, 2], strides = [2, 2]>", 2),
    ("AveragePool<kernel_shape = [2, 3], strides = [1, 2], pads = [1, 0, 0, 1]>", 2),
    ("AveragePool<kernel_shape = [2, 3], pads = [1, 0, 0, 1], count_include_pad = 1>", 2),
    ("AveragePool<kernel_shape = [2, 1, 2], strides = [2, 1, 1]>", 3),
]


DIMS = ["N, 3, 8, 7, 6", "N, 3, H, W, D", "2, 3, 8, 7, 6"]
CASES = [(pool, rank, opset, dims) for pool, rank in POOLS for opset in (8, 12, 21) for dims in DIMS]


def pool_between_convs(pool: str, rank: int, opset: int, dims: str) -> tuple[onnx.ModelProto, Array, Array]:
    """A model, its input and a target."""
    if opset < 10:
        pool = pool.replace("dilations = [2, 1]", "strides = [1, 1]")  # a pool has none before
    model = text_model(
        f"""g (float[{", ".join(dims.split(", ")[: 2 + rank])}] x) => (float[N, 2, {", ".join("ijk"[:rank])}] y) {{
            a = Conv(x, w, b)
            p = {pool}(a)
            y = Conv(p, v)
        }}""",
        opset=opset,
        ir_version=10 if opset > 19 else 8,
        w=(4, 3, *(1, 2, 1)[:rank]),
        b=(4,),
        v=(2, 4, *(2, 1, 2)[:rank]),
    )
    x = np.random.default_rng(1).normal(size=(2, 3, *(8, 7, 6)[:rank])).astype(np.float32)
    target = np.random.default_rng(2).normal(size=NumpyNet(model).run({"x": x})["y"].shape).astype(np.float32)
    return model, x, target


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_through_a_pool_is_true_whatever_the_sizes(
    case: tuple[str, int, int, str], tmp_path: Path
) -> None:
    model, x, target = pool_between_convs(*case)
    _, gradients = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers())).gradients(x, target)
    _, expected = true_gradients(model, {"x": x}, target)
    for name in ("w", "b", "v"):
        assert relative_error(gradients[name], expected[name]) < 1e-5, name


def test_the_gradient_through_a_fully_connected_end_is_true(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, 5] x) => (float[N, 3] y) {
            a = Conv(x, w, b)
            g = GlobalAveragePool(a)
            f = Reshape(g, flat)
            y = Gemm<transB = 1>(f, fc, offset)
        }""",
        w=(4, 2, 2),
        b=(4,),
        fc=(3, 4),
        offset=(3,),
        flat=np.array([0, -1]),
    )
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(6, 2, 5)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    loss, gradients = open_trainer(make_artifacts(model, tmp_path, tgdonnx.AllLayers())).gradients(x, target)
    assert set(gradients) == {"w", "b", "fc", "offset"}
    w, b, fc = (weight(model, name).astype(np.float64) for name in ("w", "b", "fc"))
    windows = np.stack([x[:, :, :-1], x[:, :, 1:]], axis=-1).mean(axis=2)
    pooled = np.einsum("nct,mct->nm", windows, w) + b
    error = pooled @ fc.T + weight(model, "offset") - target
    d_pooled = 2 * error @ fc / error.size
    assert loss == pytest.approx(float(np.mean(error**2)), rel=1e-6)
    assert relative_error(gradients["b"], d_pooled.sum(axis=0)) < 1e-5
    assert relative_error(gradients["w"], np.einsum("nm,nct->mct", d_pooled, windows)) < 1e-5


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_gradients_that_are_found_first_are_accumulated_first(form: str, tmp_path: Path) -> None:
    """The runtime computes first what the last of the nodes without readers needs, here those of the last layer."""
    model = models.chain(0)
    rows = {name: [1, 2] for name in ("w1", "w2", "w3", "w4")}
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters(rows), form=form, engine="onnxruntime-training")
    nodes = onnx.load(directory / "training_model.onnx").graph.node
    names = [node.output[0] for node in nodes if node.op_type == "InPlaceAccumulatorV2"]
    layers = [int(re.sub(r"\D", "", name.partition("_grad")[0])) for name in names]
    assert layers == sorted(layers)
    assert set(layers) == {1, 2, 3, 4}
