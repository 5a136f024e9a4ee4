"""Files that parse but hold nonsense: an error of ours that names the file, or an answer, but never a crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support import models
from tests.support.models import save
from tgdonnx.errors import ModelFileError, TgdonnxError
from tgdonnx.masking import MaskOptions, mask
from tgdonnx.scoring import score
from tgdonnx.selection import AllLayers, Phi
from tgdonnx.tracing import trace

Damage = Callable[[onnx.ModelProto], None]


def node_of(model: onnx.ModelProto, op_type: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op_type)


def without_inputs(op_type: str, kept: int) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        del node_of(model, op_type).input[kept:]

    return damage


def without_outputs(op_type: str) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        node = node_of(model, op_type)
        del node.output[:]
        node.name = ""

    return damage


def with_attribute(op_type: str, name: str, value: object) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        node = node_of(model, op_type)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))

    return damage


def called(op_type: str, other: str) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        node_of(model, op_type).op_type = other

    return damage


def tensor_of(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def with_shape(name: str, *dims: int) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        tensor_of(model, name).dims[:] = dims

    return damage


def with_type(name: str, data_type: int) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        tensor_of(model, name).data_type = data_type

    return damage


def pads_by_name(model: onnx.ModelProto, count: int) -> None:
    pads = tensor_of(model, "pads")
    array = numpy_helper.to_array(pads)
    pads.CopyFrom(numpy_helper.from_array(array[:count], "pads"))


DAMAGES: dict[str, tuple[models.Builder, Damage]] = {
    "a Conv without weight": (models.gated, without_inputs("Conv", 1)),
    "a Conv without inputs": (models.gated, without_inputs("Conv", 0)),
    "a Conv without output": (models.chain, without_outputs("Conv")),
    "a group that is text": (models.grouped, with_attribute("Conv", "group", "two")),
    "a group below 0": (models.grouped, with_attribute("Conv", "group", -2)),
    "a BatchNormalization without scale": (models.residual, without_inputs("BatchNormalization", 1)),
    "a BatchNormalization without inputs": (models.residual, without_inputs("BatchNormalization", 0)),
    "a Concat without axis": (models.dense, with_attribute("Concat", "axis", None)),
    "a Concat whose axis is text": (models.dense, with_attribute("Concat", "axis", "one")),
    "a Concat along an axis that is not there": (models.dense, with_attribute("Concat", "axis", 7)),
    "a Concat of unequal sizes": (models.dense, with_attribute("Concat", "axis", 2)),
    "a Concat without inputs": (models.dense, without_inputs("Concat", 0)),
    "an Add without inputs": (models.residual, without_inputs("Add", 0)),
    "an Identity without inputs": (models.shared_through_identity, without_inputs("Identity", 0)),
    "a Pad without pads": (models.gated, without_inputs("Pad", 1)),
    "a Pad with too few pads": (models.gated, lambda model: pads_by_name(model, 3)),
    "a Pad whose pads are one number": (models.gated, with_shape("pads")),
    "a Clip without inputs": (models.gated, without_inputs("Clip", 0)),
    "a Pool without output": (models.gated, without_outputs("MaxPool")),
    "a Constant without value": (models.constant_nodes, with_attribute("Constant", "value", None)),
    "a Constant with a wrong value": (models.constant_nodes, with_attribute("Constant", "value", "text")),
    "a Relu that calls itself Conv": (models.chain, called("Relu", "Conv")),
    "a Relu that calls itself Pad": (models.chain, called("Relu", "Pad")),
    "a Relu that calls itself BatchNormalization": (models.chain, called("Relu", "BatchNormalization")),
    "a Conv that calls itself Constant": (models.chain, called("Conv", "Constant")),
    "a weight without filters": (models.chain, with_shape("w1", 0, 3, 3, 3)),
    "a weight of a negative size": (models.chain, with_shape("w1", -8, 3, 3, 3)),
    "a weight with less data than its shape": (models.chain, with_shape("w1", 5000, 3, 3, 3)),
    "a weight without shape": (models.chain, with_shape("w1")),
    "a bias without elements": (models.chain, with_shape("b1", 0)),
    "a scale without elements": (models.dncnn, with_shape("bn2_scale", 0)),
    "a weight without type": (models.chain, with_type("w1", 0)),
    "a weight of a type that there is not": (models.chain, with_type("w1", 99)),
    "a weight of text": (models.chain, with_type("w1", onnx.TensorProto.STRING)),
    "an output without type": (models.chain, lambda model: model.graph.output[0].ClearField("type")),
    "an input without type": (models.chain, lambda model: model.graph.input[0].ClearField("type")),
    "an input without name": (models.chain, lambda model: setattr(model.graph.input[0], "name", "")),
    "an output that nothing makes": (models.chain, lambda model: setattr(model.graph.output[0], "name", "nowhere")),
    "no outputs": (models.chain, lambda model: model.graph.ClearField("output")),
}


@pytest.mark.parametrize(("builder", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_model_is_refused_or_dealt_with_but_never_a_crash(
    builder: models.Builder, damage: Damage, tmp_path: Path
) -> None:
    model = builder(0)
    damage(model)
    path, output = save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx"
    for action in (
        lambda: trace(path),
        lambda: score(path),
        lambda: mask(path, output, AllLayers(), MaskOptions(mode="readers"), overwrite=True),
        lambda: mask(path, output, Phi(0.5), overwrite=True),
    ):
        try:
            action()
        except TgdonnxError as error:
            message = str(error)
            assert len(message.splitlines()) <= 2, message


def test_a_domain_that_is_not_known_puts_no_traceback_into_the_log(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # onnx cannot infer shapes then, and onnx_ir logs that with a traceback, which ends up on the user's terminal.
    model = models.chain()
    model.graph.node.append(helper.make_node("Fancy", ["t1"], ["unused"], domain="vendor"))
    model.opset_import.append(helper.make_opsetid("vendor", 1))
    report = trace(save(model, tmp_path / "model.onnx"))
    assert len(report.layers) == 4
    assert not any(record.exc_info for record in caplog.records)


def test_a_tensor_that_claims_more_than_it_holds_is_refused_before_anything_is_sized_by_it(tmp_path: Path) -> None:
    model = models.chain()
    model.graph.initializer[0].dims[0] = 2**40
    with pytest.raises(ModelFileError, match="has 864 bytes; expected 118,747,255,799,808"):
        score(models.save(model, tmp_path / "model.onnx"))


def test_a_gather_that_takes_the_one_number_of_a_vector_is_traced(tmp_path: Path) -> None:
    model = models.chain()
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones(1, np.float32), "numbers"),
            numpy_helper.from_array(np.array(0), "first"),
            numpy_helper.from_array(np.array([1]), "length"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["means"]),
            helper.make_node("ReduceMean", ["means"], ["mean"], keepdims=0),
            helper.make_node("Reshape", ["mean", "length"], ["vector"]),
            helper.make_node("Gather", ["vector", "first"], ["number"], axis=0),
        ]
    )
    assert len(trace(save(model, tmp_path / "model.onnx")).layers) == 4
