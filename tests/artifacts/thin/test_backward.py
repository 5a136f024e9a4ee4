"""The gradients of thin artifacts, against backward passes in float64, and what their training graphs compute for them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.artifacts.selections import SELECTIONS, batch_for, filters, weight
from tests.artifacts.thin.forms import (
    build_both,
    build_with_masks,
    classifier,
    computed,
    gradients_of,
    held,
    kernel_mask,
    masks_of,
    piece_gradients,
    training_graph,
    transposed,
)
from tests.support import models
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts, relative_error, true_gradients
from tests.support.training_models import text_model


@pytest.mark.parametrize("name", SELECTIONS)
def test_the_parameters_have_the_true_gradient_of_the_rows_that_train(name: str, engine: str, tmp_path: Path) -> None:
    build, asked, trained = SELECTIONS[name]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), form="thin", engine=engine)
    loss, gradients = gradients_of(directory, feeds, target)
    expected_loss, expected = true_gradients(model, feeds, target)
    assert abs(loss / expected_loss - 1) < 1e-6
    assert set(gradients) == set(trained)
    for tensor, rows in trained.items():
        assert relative_error(gradients[tensor], expected[tensor][list(rows)]) < 1e-5, tensor


@pytest.mark.parametrize(
    "build", [models.chain, models.dncnn, models.residual, models.dense, models.grouped, models.three_d]
)
def test_pieces_of_rows_and_of_columns_have_the_true_gradient(
    build: models.Builder, engine: str, tmp_path: Path
) -> None:
    model = build(0)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(0.35), mode="readers", form="thin", engine=engine)
    loss, gradients = piece_gradients(directory, feeds, target)
    expected_loss, expected = true_gradients(model, feeds, target)
    assert abs(loss / expected_loss - 1) < 1e-6
    assert any(len(tensor.part or ()) == 2 for tensor, _ in gradients)
    masks = masks_of(tmp_path / "masked.onnx")
    for tensor, gradient in gradients:
        true = expected[tensor.vendor_name] * masks[tensor.vendor_name]
        assert relative_error(gradient, held(tensor, true)) < 1e-5, tensor.name


@pytest.mark.parametrize(
    ("build", "parts"),
    [(transposed, 1), (classifier, 2), (models.one_d, 0), (models.shared_weights, 0), (models.gated, 1)],
)
def test_they_have_the_gradient_of_the_masked_form(build: models.Builder, parts: int, tmp_path: Path) -> None:
    model = build(0)
    x = models.random_feeds(model, 7)["x"]
    y = open_session(model).run(["y"], {"x": x})[0]
    target = np.random.default_rng(8).normal(size=y.shape).astype(np.float32)
    output = {"output": "y"} if len(model.graph.output) > 1 else {}
    build_both(model, tmp_path, tgdonnx.Phi(0.35), mode="readers", **output)
    _, whole = gradients_of(tmp_path / "masked", {"x": x}, target)
    _, pieces = piece_gradients(tmp_path / "thin", {"x": x}, target)
    assert {tensor.vendor_name for tensor, _ in pieces} == set(whole)
    assert sum(len(tensor.part or ()) == 2 for tensor, _ in pieces) >= parts
    for tensor, gradient in pieces:
        true = whole[tensor.vendor_name]
        assert np.abs(gradient - held(tensor, true)).max() <= 1e-5 * np.abs(true).max(), tensor.name


@pytest.mark.training
@pytest.mark.parametrize("rows", [[], [2, 5]])
def test_dw_of_columns_is_computed_of_these_columns_alone(rows: list[int], tmp_path: Path) -> None:
    model = models.chain(0)
    feeds, target = batch_for(model)
    filters_, maps, *kernel = weight(model, "w2").shape
    columns = [1, 3, 4]
    masks = {"w2": kernel_mask((filters_, maps, *kernel), (0, 1), rows, columns)}
    build_with_masks(model, tmp_path, masks, engine="onnxruntime-training")
    gradients = [node for node in training_graph(tmp_path / "thin").node if node.op_type == "ConvGrad"]
    nodes = [node for node in gradients if len(node.output) > 1 and node.output[1]]
    names = [name for node in nodes for name in (node.input[0], node.input[1], node.output[1])]
    found = computed(tmp_path / "thin", feeds, target, names)
    # The two inputs have changed places where dY has fewer channels than X.
    channels = {tuple(sorted(found[name].shape[1] for name in node.input[:2])) for node in nodes}
    sizes = sorted(found[node.output[1]].size for node in nodes)
    left = filters_ - len(rows)
    assert channels == {tuple(sorted((left, len(columns)))), *([tuple(sorted((len(rows), maps)))] if rows else [])}
    expected = [left * len(columns) * math.prod(kernel), *([len(rows) * maps * math.prod(kernel)] if rows else [])]
    assert sizes == sorted(expected)


@pytest.mark.parametrize(
    "kind", [Kind(), Kind(weights=np.uint8), Kind(per_channel=False), Kind(transposed=True)], ids=str
)
def test_quantised_filters_in_pieces_have_the_gradient_that_the_masked_form_has(
    kind: Kind, engine: str, tmp_path: Path
) -> None:
    model = quantized(kind)
    axes = (1, 0) if kind.transposed else (0, 1)
    shapes = {name: weight(model, name).shape for name in ("a.w", "c.w", "e.w")}
    masks = {
        "a.w": kernel_mask(shapes["a.w"], (0, 1), [0, 4], [1]),
        "c.w": kernel_mask(shapes["c.w"], axes, [3], [0, 5]),
        "e.w": kernel_mask(shapes["e.w"], (0, 1), [], [2]),
    }
    reports = build_with_masks(model, tmp_path, masks, engine=engine)
    assert not reports["thin"].unthinned
    x = np.random.default_rng(1).normal(size=(3, 2, 8, 8)).astype(np.float32)
    exact = onnxruntime.SessionOptions()
    exact.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (y,) = open_session(model, exact).run(["y"], {"x": x})
    target = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    loss, whole = gradients_of(tmp_path / "masked", {"x": x}, target)
    thin_loss, pieces = piece_gradients(tmp_path / "thin", {"x": x}, target)
    assert thin_loss == pytest.approx(loss, rel=1e-6)
    assert len(pieces) == 5
    file = {"onnxruntime": "step.onnx", "onnxruntime-training": "training_model.onnx"}[engine]
    rounded = [node for node in onnx.load(tmp_path / "thin" / file).graph.node if node.op_type == "Round"]
    passes = 2 if kind.weights == np.uint8 else 1  # with a zero point for each filter, it rounds, and then limits
    assert sum(".retrained" in node.output[0] for node in rounded) == 5 * passes, "each piece by itself"
    for tensor, gradient in pieces:
        true = whole[tensor.vendor_name]
        assert true.any()
        assert np.abs(gradient - held(tensor, true)).max() <= 1e-5 * np.abs(true).max(), tensor.name


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_l2_is_added_to_rows_and_to_columns(form: str, tmp_path: Path) -> None:
    model = models.dncnn(0)
    feeds, target = batch_for(model)
    options = {"mode": "readers", "l2": 3.5, "form": form}
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(0.35), **options)
    _, gradients = piece_gradients(directory, feeds, target)
    _, expected = true_gradients(model, feeds, target)
    masks = masks_of(tmp_path / "masked.onnx")
    for tensor, gradient in gradients:
        name = tensor.vendor_name
        true = expected[name] + (3.5 * weight(model, name) if weight(model, name).ndim == 4 else 0)
        assert relative_error(gradient, held(tensor, true * masks[name])) < 1e-5, tensor.name


def test_l2_is_added_to_the_rows_that_train(tmp_path: Path) -> None:
    build, asked, trained = SELECTIONS["batch norm"]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), l2=3.5, form="thin")
    _, gradients = gradients_of(directory, feeds, target)
    _, expected = true_gradients(model, feeds, target)
    for tensor, rows in trained.items():
        decay = 3.5 * weight(model, tensor) if tensor in ("w1", "w2", "w3") else 0
        assert relative_error(gradients[tensor], (expected[tensor] + decay)[list(rows)]) < 1e-5, tensor


@pytest.mark.training
@pytest.mark.parametrize("name", SELECTIONS)
def test_no_gradient_of_frozen_filters_is_computed(name: str, tmp_path: Path) -> None:
    build, asked, trained = SELECTIONS[name]
    model = build(2)
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, filters(model, asked), form="thin", engine="onnxruntime-training")
    gradients = [node for node in training_graph(directory).node if node.op_type == "ConvGrad"]
    assert not [node for node in gradients if len(node.output) > 2 and node.output[2]], "dB is a sum"
    names = [node.output[1] for node in gradients if len(node.output) > 1 and node.output[1]]
    found = sorted(value.size for value in computed(directory, feeds, target, names).values()) if names else []
    # With groups no ConvGrad is used: see the test below.
    whole = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and not any(a.name == "group" and a.i > 1 for a in node.attribute)
    ]
    convs = Counter(node.input[1] for node in whole)
    weights = {tensor: rows for tensor, rows in trained.items() if tensor in convs}
    sizes = [weight(model, tensor)[list(rows)].size for tensor, rows in weights.items() for _ in range(convs[tensor])]
    assert found == sorted(sizes)


@pytest.mark.training
def test_filters_of_a_depthwise_layer_read_only_the_maps_that_they_need(tmp_path: Path) -> None:
    model = models.grouped(2)
    feeds, target = batch_for(model)
    chosen = tgdonnx.Filters({"w2": [3, 11], "w4": [0, 5, 17]})
    directory = make_artifacts(model, tmp_path, chosen, form="thin", engine="onnxruntime-training")
    nodes = training_graph(directory).node
    for layer, filters_ in (("t2", 2), ("t4", 3)):
        (conv,) = (node for node in nodes if layer in node.output)
        gathered = [node.output[0] for node in nodes if node.op_type == "Gather" and node.input[0] == conv.input[0]]
        others = [node for node in nodes if conv.input[0] in node.input and node.output[0] not in (layer, *gathered)]
        assert all(node.op_type in ("GreaterOrEqual", "LessOrEqual", "Greater", "Shape") for node in others)
        assert [array.shape[1] for array in computed(directory, feeds, target, gathered).values()] == [filters_]


def kinds(directory: Path) -> Counter[str]:
    return Counter(node.op_type for node in training_graph(directory).node)


def test_nothing_is_computed_for_layers_before_the_first_that_trains(tmp_path: Path) -> None:
    chosen = tgdonnx.Filters({"w3": [2, 7]})
    directory = make_artifacts(models.chain(0), tmp_path, chosen, form="thin", engine="onnxruntime-training")
    graph = training_graph(directory)
    assert kinds(directory)["Conv"] == 4 + 1, "four of the forward pass, and the gradient of what conv4 reads"
    (gradient,) = (node for node in graph.node if node.op_type == "ConvGrad")
    assert not gradient.output[0]
    assert kinds(directory)["Greater"] == 1, "of the last ReLU alone"


def test_nothing_is_left_over(tmp_path: Path) -> None:
    chosen = tgdonnx.Filters({"w1": [2]})
    directory = make_artifacts(models.chain(0), tmp_path, chosen, form="thin", engine="onnxruntime-training")
    found = kinds(directory)
    assert not found["ReluGrad"]
    assert not found["LeakyReluGrad"]
    assert found["Greater"] == 3
    graph = training_graph(directory)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert all(any(name in read for name in node.output) for node in graph.node)
    assert {tensor.name for tensor in graph.initializer} <= read


def test_turned_filters_of_frozen_layers_are_constants(tmp_path: Path) -> None:
    model = models.chain(0)
    chosen = tgdonnx.Filters({"w1": [2]})
    directory = make_artifacts(model, tmp_path, chosen, form="thin", engine="onnxruntime-training")
    turned = np.flip(weight(model, "w4"), (2, 3)).swapaxes(0, 1)
    stored = [numpy_helper.to_array(tensor) for tensor in training_graph(directory).initializer]
    assert any(np.array_equal(array, turned) for array in stored)
    assert not kinds(directory)["Transpose"] - 2, "dW of the one filter alone is found transposed"


ALPHAS = [0.3, 0.0, 1.0, 1.5, -0.5]


@pytest.mark.training
@pytest.mark.parametrize("alpha", ALPHAS)
def test_leaky_relu_has_the_gradient_that_the_masked_form_has(alpha: float, tmp_path: Path) -> None:
    model = text_model(
        f"""g (float[N, 2, H, W] x) => (float[N, 3, h, w] y) {{
            t = Conv<kernel_shape = [3, 3]>(x, w1, b1)
            a = LeakyRelu<alpha = {alpha}>(t)
            y = Conv<kernel_shape = [3, 3]>(a, w2)
        }}""",
        **{"w1": (5, 2, 3, 3), "b1": (5,), "w2": (3, 5, 3, 3)},
    )
    feeds, target = batch_for(model)
    build_both(model, tmp_path, tgdonnx.Filters({"w1": [1, 4]}), engine="onnxruntime-training")
    _, masked = gradients_of(tmp_path / "masked", feeds, target)
    _, thin = gradients_of(tmp_path / "thin", feeds, target)
    for name, gradient in thin.items():
        assert relative_error(gradient, masked[name][[1, 4]]) < 1e-5
    left = kinds(tmp_path / "thin")
    if 0 < alpha < 1:
        _, true = true_gradients(model, feeds, target)
        assert relative_error(thin["w1"], true["w1"][[1, 4]]) < 1e-5
        assert left["Greater"]
    elif left["LeakyReluGrad"]:
        assert not left["Greater"]


def test_where_relu_gives_exactly_zero_no_gradient_passes(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, H, W] x) => (float[N, 3, H, W] y) {
            t = Conv<kernel_shape = [1, 1]>(x, w1)
            a = Relu(t)
            y = Conv<kernel_shape = [1, 1]>(a, w2)
        }""",
        w1=np.array([[0, 0], [1, -0.5], [0, 0], [2, 1]], np.float32).reshape(4, 2, 1, 1),
        w2=(3, 4, 1, 1),
    )
    feeds, target = batch_for(model)
    _, gradients = gradients_of(
        make_artifacts(model, tmp_path, tgdonnx.Filters({"w1": [0, 1]}), form="thin"), feeds, target
    )
    assert not gradients["w1"][0].any()
    assert gradients["w1"][1].any()


def test_a_bias_that_two_layers_share_has_the_sum_of_both_gradients(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N, 2, H, W] x) => (float[N, 4, H, W] y) {
            t = Conv<kernel_shape = [1, 1]>(x, w1, b)
            a = Tanh(t)
            y = Conv<kernel_shape = [1, 1]>(a, w2, b)
        }""",
        **{"w1": (4, 2, 1, 1), "b": (4,), "w2": (4, 4, 1, 1)},
    )
    feeds, target = batch_for(model)
    directory = make_artifacts(model, tmp_path, tgdonnx.Filters({"w1": [1, 2], "w2": [1, 2]}), form="thin")
    _, gradients = gradients_of(directory, feeds, target)
    _, true = true_gradients(model, feeds, target)
    for name in ("w1", "w2", "b"):
        assert relative_error(gradients[name], true[name][[1, 2]]) < 1e-5, name


@pytest.mark.training
@pytest.mark.parametrize("opset", [10, 12, 17])
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "strides"), [([2, 2], [2, 2]), ([3, 2], [2, 1]), ([2, 1], [3, 1]), ([1, 1], [2, 2])]
)
def test_max_pool_has_the_gradient_that_the_masked_form_has_also_where_numbers_are_equal(
    kernel: list[int], strides: list[int], ceil_mode: int, opset: int, tmp_path: Path
) -> None:
    model = text_model(
        f"""g (float[N, 2, H, W] x) => (float[N, 3, h, w] y) {{
            t = Conv<kernel_shape = [1, 1]>(x, w1, b1)
            p = MaxPool<kernel_shape = {kernel}, strides = {strides}, ceil_mode = {ceil_mode}>(t)
            y = Conv<kernel_shape = [1, 1]>(p, w2)
        }}""",
        opset=opset,
        **{"w1": (5, 2, 1, 1), "b1": (5,), "w2": (3, 5, 1, 1)},
    )
    # Few different numbers, so that windows have several largest ones; and x says which of them was taken.
    x = np.random.default_rng(1).integers(-1, 2, (2, 2, 7, 9)).astype(np.float32)
    y = open_session(model).run(None, {"x": x})[0]
    target = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    build_both(model, tmp_path, tgdonnx.Filters({"w1": [0, 3]}), engine="onnxruntime-training")
    _, masked = gradients_of(tmp_path / "masked", {"x": x}, target)
    _, thin = gradients_of(tmp_path / "thin", {"x": x}, target)
    for name, gradient in thin.items():
        assert relative_error(gradient, masked[name][[0, 3]]) < 1e-6
    apart = all(k <= s for k, s in zip(kernel, strides))
    # Old operator sets may have been raised.
    imports = {
        entry.domain: entry.version for entry in onnx.load(tmp_path / "thin" / "training_model.onnx").opset_import
    }
    assert kinds(tmp_path / "thin")["ScatterElements"] == (imports[""] >= (11 if apart else 16))
    assert kinds(tmp_path / "thin")["GatherGrad"] + kinds(tmp_path / "thin")["ScatterElements"] == 1
