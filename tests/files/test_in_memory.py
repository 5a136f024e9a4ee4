"""Models that a program holds in memory: as the file that they would be, and as they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.support import models
from tests.support.external_models import external_model
from tests.support.sessions import open_session
from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import load_model


def test_bytes_are_the_file_as_it_is() -> None:
    data = models.chain().SerializeToString()
    file = load_model(data)
    assert file.in_memory
    assert file.data == data
    assert file.sha256 == hashlib.sha256(data).hexdigest()


def test_a_proto_is_taken_as_protobuf_writes_it_and_stays_as_it_is() -> None:
    model = models.chain()
    file = load_model(model)
    assert file.data == model.SerializeToString()
    assert file.proto == model
    model.graph.node[0].name = "changed later"
    assert file.proto.graph.node[0].name != "changed later"


def test_a_model_of_onnx_ir_computes_the_same_and_gives_the_same_bytes_each_time() -> None:
    proto = models.chain()
    model = ir.from_proto(proto)
    file = load_model(model)
    assert load_model(model).data == file.data
    feeds = models.random_feeds(proto)
    (theirs,), (ours,) = open_session(proto).run(None, feeds), open_session(file.proto).run(None, feeds)
    assert np.array_equal(theirs, ours)


def test_what_was_read_already_stays_as_it_is(tmp_path: Path) -> None:
    file = load_model(models.save(models.chain(), tmp_path / "model.onnx"))
    assert load_model(file) is file
    assert not file.in_memory


def test_external_data_that_onnx_ir_finds_is_put_into_the_file_and_not_into_the_model(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    model = ir.load(path)
    file = load_model(model)
    assert file.external_files == ()
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in file.proto.graph.initializer}
    expected = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    assert stored.keys() == expected.keys()
    assert all(np.array_equal(stored[name], values) for name, values in expected.items())
    assert all(isinstance(value.const_value, ir.ExternalTensor) for value in model.graph.initializers.values())


def test_external_data_that_nobody_knows_the_place_of_is_refused(tmp_path: Path) -> None:
    model = onnx.load(external_model(tmp_path), load_external_data=False)
    with pytest.raises(ModelFileError, match=r"the model in memory keeps weights in 'w\.bin', and where that lies is"):
        load_model(model)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"nonsense", "the model in memory is no ONNX model"),
        (b"", "the model in memory is no ONNX model: it has no IR version"),
        (onnx.ModelProto(ir_version=8), "the model in memory is no ONNX model: it has no graph"),
        (5, "expected a model as a path, bytes, onnx.ModelProto or onnx_ir.Model; got int"),
        (onnx.GraphProto(), "expected a model as a path, bytes, onnx.ModelProto or onnx_ir.Model; got GraphProto"),
    ],
)
def test_what_is_no_model_is_refused_by_name(given: object, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        load_model(given)  # type: ignore[arg-type]


def test_a_model_that_no_file_holds_is_refused() -> None:
    broken = ir.Model(ir.Graph([], [], nodes=[ir.Node("", "Relu", [ir.Value()])]), ir_version=8)
    with pytest.raises(ModelFileError, match="the model in memory cannot be written as a file") as caught:
        load_model(broken)
    assert caught.value.__cause__ is not None
