"""The scores of a model: of every layer, from the right tensor, or an error that names it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from tests.oracles.kse_reference import reference
from tests.support import models
from tests.support.models import MODELS, Builder, conv_weight, save
from tgdonnx.errors import ModelFileError, NonFiniteWeightError
from tgdonnx.scoring import score

RNG = np.random.default_rng(8)


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_every_layer_is_scored_as_the_reference_scores_its_weight(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    path = save(model, tmp_path / "model.onnx")
    report = score(path, alpha=0.7, k=3)
    assert (report.model, report.alpha, report.k) == (str(path), 0.7, 3)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors.update({n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"})
    assert len(report.layers) == len(convs)
    for layer, conv in zip(report.layers, convs):
        name = conv.input[1].removesuffix("_copy")
        weight = numpy_helper.to_array(tensors[name])
        group = next((a.i for a in conv.attribute if a.name == "group"), 1)
        sparsity, entropy, kse = reference(weight, group=group, alpha=0.7, k=3)
        np.testing.assert_allclose(layer.sparsity, sparsity, rtol=1e-12)
        np.testing.assert_allclose(layer.entropy, entropy, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(layer.kse, kse, rtol=0, atol=1e-9)
        assert (layer.node, layer.op_type, layer.weight) == (conv.name or conv.output[0], "Conv", name)
        assert (layer.group, layer.filters, layer.maps) == (group, len(weight), group * weight.shape[1])
        assert layer.kse.shape == (layer.maps,)


def test_alpha_is_1_and_k_is_5_unless_said_otherwise(tmp_path: Path) -> None:
    path = save(models.chain(), tmp_path / "model.onnx")
    report = score(path)
    assert (report.alpha, report.k) == (1.0, 5)
    for layer, same, other in zip(report.layers, score(path, alpha=1.0, k=5).layers, score(path, alpha=2.0).layers):
        np.testing.assert_array_equal(layer.kse, same.kse)
        assert layer.kse.tolist() != other.kse.tolist()


def test_notes_of_a_degenerate_layer_are_passed_on(tmp_path: Path) -> None:
    layers = score(save(models.three_d(), tmp_path / "model.onnx")).layers  # its first layer has one input map
    assert layers[0].notes == (
        "The layer has a single input map, so none can be told to matter less: every score is 1 (freeze).",
    )
    assert layers[1].notes == ()


def test_weights_are_scored_once_in_a_process_wherever_they_lie_and_again_with_other_options(tmp_path: Path) -> None:
    first, moved, other = models.chain(5), models.chain(5), models.chain(6)
    moved.graph.name = "moved"
    paths = [save(model, tmp_path / f"{i}.onnx") for i, model in enumerate((first, moved, other))]
    a, b, c = (score(path).layers[0] for path in paths)
    assert b.kse is a.kse
    assert c.kse is not a.kse
    assert not np.array_equal(c.kse, a.kse)
    assert not np.array_equal(score(paths[0], k=1).layers[0].entropy, a.entropy)
    with pytest.raises(ValueError, match="read-only"):
        a.kse[0] = 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named_with_its_index_and_node(value: float, tmp_path: Path) -> None:
    model = models.chain()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "w3")
    weight = numpy_helper.to_array(tensor).copy()
    weight[4, 2, 0, 3] = value
    tensor.CopyFrom(numpy_helper.from_array(weight, "w3"))
    expected = f"'w3' of node 'conv3' cannot be scored: weight[4, 2, 0, 3] is {value}"
    with pytest.raises(NonFiniteWeightError, match=f"^{re.escape(expected)}"):
        score(save(model, tmp_path / "model.onnx"))


def test_a_bias_that_is_not_finite_does_not_matter_to_the_scores(tmp_path: Path) -> None:
    model = models.chain()
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "b3")
    tensor.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), "b3"))
    assert score(save(model, tmp_path / "model.onnx")).layers[2].notes == ()


def test_a_layer_whose_weight_cannot_be_read_is_listed_without_scores(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 4, 4] x, float[3, 2, 1, 1] w) => (float[1, 2, 4, 4] y) {
            [fed] t = Conv(x, w)
            [stored] y = Conv(t, w2)
        }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(conv_weight(RNG, 2, 3, 1, 1), "w2"))
    fed, stored = score(save(model, tmp_path / "model.onnx")).layers
    assert (fed.node, fed.weight, fed.filters, fed.maps, fed.kse.size) == ("fed", None, 0, 0, 0)
    assert fed.notes == ("cannot be scored: its weight is not stored in the file: 'w' is an input of the graph",)
    assert stored.kse.shape == (3,)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_floating_types_are_scored(dtype: type, tmp_path: Path) -> None:
    model = models.chain()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    element = {np.float16: TensorProto.FLOAT16, np.float64: TensorProto.DOUBLE}[dtype]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = element
    onnx.checker.check_model(model, full_check=True)
    weight = numpy_helper.to_array(model.graph.initializer[0])
    assert weight.dtype == dtype
    layers = score(save(model, tmp_path / "model.onnx")).layers
    np.testing.assert_allclose(layers[0].kse, reference(weight)[2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("damage", ["too little data", "no data", "whole numbers"])
def test_a_weight_whose_data_does_not_fit_is_a_bad_model_and_no_crash(damage: str, tmp_path: Path) -> None:
    model = models.chain()
    tensor = model.graph.initializer[0]
    if damage == "whole numbers":
        tensor.CopyFrom(numpy_helper.from_array(np.ones((8, 3, 3, 3), np.int32), "w1"))
    else:
        tensor.raw_data = tensor.raw_data[:-4] if damage == "too little data" else b""
    path = save(model, tmp_path / "model.onnx")
    try:
        layer = score(path).layers[0]
    except ModelFileError:
        with pytest.raises(ModelFileError, match="w1"):
            score(path)
        return
    assert layer.weight is None
    assert "w1" in layer.notes[0]


# Weights outside of the file.


def externalise(model: onnx.ModelProto, directory: Path) -> onnx.ModelProto:
    data = b""
    for tensor in model.graph.initializer:
        raw, offset = tensor.raw_data, len(data)
        data += raw
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
    (directory / "weights.bin").write_bytes(data)
    return model


def test_external_weights_have_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = score(save(models.chain(), tmp_path / "inside.onnx"))
    path = save(externalise(models.chain(), tmp_path), tmp_path / "outside.onnx")
    monkeypatch.chdir("/")
    for a, b in zip(inside.layers, score(path).layers):
        np.testing.assert_array_equal(a.kse, b.kse)
        assert (a.node, a.weight) == (b.node, b.weight)


def test_missing_external_weights_are_named(tmp_path: Path) -> None:
    path = save(externalise(models.chain(), tmp_path), tmp_path / "model.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"keeps weights in 'weights\.bin', which is not in .*; put it beside"):
        score(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.99])
def test_external_weights_that_are_cut_short_are_refused(kept: float, tmp_path: Path) -> None:
    path = save(externalise(models.chain(), tmp_path), tmp_path / "model.onnx")
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(
        ModelFileError, match=r"ends at byte .* of 'weights\.bin', which has .* bytes; get the file again"
    ):
        score(path)
