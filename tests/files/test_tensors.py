"""The walk over the tensors of a file: none is left out, wherever it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

import tgdonnx
from tests.support import models
from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import load_model, require_external_data
from tgdonnx.files.tensors import StoredTensor, describe, tensor_at, walk_tensors
from tgdonnx.layers import open_network
from tgdonnx.sweeping.dropping import whole_model

PLACES = {
    "initializer": "the tensor 'initializer'",
    "sparse values": "the values of the sparse initializer 'sparse values'",
    "sparse indices": "the indices of the sparse initializer 'sparse values'",
    "constant": "the attribute 'value' of the node 'c' (Constant)",
    "second of several": "number 1 of the attribute 'several' of the node 'x' (Custom)",
    "values of an attribute": "the values of the attribute 'sparse' of the node 'x' (Custom)",
    "indices of several": "the indices of number 0 of the attribute 'sparse_several' of the node 'x' (Custom)",
    "in a branch": "the tensor 'in a branch' of the attribute 'then_branch' of the node 'branches' (If)",
    "in a branch of a branch": "the attribute 'value' of the node 'deep' (Constant) of the attribute 'else_branch' of the "
    "node 'inner' (If) of the attribute 'then_branch' of the node 'branches' (If)",
    "in the second graph": "the tensor 'in the second graph' of number 1 of the attribute 'bodies' of the node 'x' (Custom)",
    "in a function": "the attribute 'value' of the node 'k' (Constant) of the function 'F'",
    "default of a function": "the attribute 'table' of the function 'F'",
    "training": "the tensor 'training' of training info 0",
    "initialization": "the tensor 'initialization' of training info 0",
}


def tensor(name: str, values: object = (1.0, 2.0)) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64 if "indices" in name else np.float32), name)


def sparse(values: str, indices: str) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(tensor(values), tensor(indices, (0, 3)), [5])


def graph(name: str, *nodes: onnx.NodeProto, tensors: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [], tensors)


def tensors_everywhere() -> onnx.ModelProto:
    """A model with one tensor, named for its place, wherever onnx.proto lets one be; it need not compute anything."""
    constant = helper.make_node("Constant", [], ["c"], value=tensor("constant"))
    deep = helper.make_node("Constant", [], ["d"], "deep", value=tensor("in a branch of a branch"))
    inner = helper.make_node("If", ["c"], ["i"], "inner", else_branch=graph("e", deep))
    branches = helper.make_node(
        "If", ["c"], ["b"], "branches", then_branch=graph("t", inner, tensors=(tensor("in a branch"),))
    )
    custom = helper.make_node("Custom", [], ["x"], domain="example")
    several = custom.attribute.add(name="several", type=AttributeProto.TENSORS)
    several.tensors.extend([tensor("first of several"), tensor("second of several")])
    custom.attribute.add(name="sparse", type=AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(
        sparse("values of an attribute", "indices of an attribute")
    )
    custom.attribute.add(name="sparse_several", type=AttributeProto.SPARSE_TENSORS).sparse_tensors.append(
        sparse("values of several", "indices of several")
    )
    custom.attribute.add(name="bodies", type=AttributeProto.GRAPHS).graphs.extend(
        [graph("g1"), graph("g2", tensors=(tensor("in the second graph"),))]
    )
    model = helper.make_model(
        graph("main", constant, branches, custom, tensors=(tensor("first"), tensor("initializer")))
    )
    model.graph.sparse_initializer.append(sparse("sparse values", "sparse indices"))
    inside = helper.make_node("Constant", [], ["k"], value=tensor("in a function"))
    function = helper.make_function("local", "F", [], ["k"], [inside], [helper.make_opsetid("", 17)])
    default = function.attribute_proto.add(name="table", type=AttributeProto.TENSOR)
    default.t.CopyFrom(tensor("default of a function"))
    model.functions.append(function)
    info = model.training_info.add()
    info.algorithm.initializer.append(tensor("training"))
    info.initialization.initializer.append(tensor("initialization"))
    return model


def test_a_tensor_is_found_wherever_it_stands_and_its_bytes_are_where_its_path_leads() -> None:
    model = tensors_everywhere()
    found = {stored.proto.name: stored for stored in walk_tensors(model)}
    others = {"first", "first of several", "indices of an attribute", "values of several"}
    assert set(found) == {*PLACES, *others}
    data = model.SerializeToString()
    spans = wire.locate(data, [stored.path for stored in found.values()])
    for name, stored in found.items():
        span = spans[stored.path]
        assert data[span.start : span.end] == stored.proto.SerializeToString(), name
        assert tensor_at(model, stored.path) == stored.proto
    assert {name: describe(model, found[name].path) for name in PLACES} == PLACES


def test_every_message_of_onnx_that_can_hold_a_tensor_was_in_that_model() -> None:
    """When onnx.proto grows a place for tensors, this fails, and the model above needs one there."""
    reached, pending = set(), [tensors_everywhere()]
    while pending:
        message = pending.pop()
        for field, value in message.ListFields():
            if field.message_type:
                reached.add((message.DESCRIPTOR.name, field.name))
                pending += list(value) if wire.is_repeated(field) else [value]
    holders = {TensorProto.DESCRIPTOR.full_name}
    wanted: set[tuple[str, str]] = set()
    messages = [m.DESCRIPTOR for m in (onnx.ModelProto, onnx.GraphProto, onnx.NodeProto, AttributeProto)]
    messages += [m.DESCRIPTOR for m in (onnx.SparseTensorProto, onnx.FunctionProto, onnx.TrainingInfoProto)]
    for _ in messages:
        holders |= {
            m.full_name for m in messages for f in m.fields if f.message_type and f.message_type.full_name in holders
        }
    for m in messages:
        wanted |= {(m.name, f.name) for f in m.fields if f.message_type and f.message_type.full_name in holders}
    assert wanted - reached == set()


def test_a_message_that_is_there_once_and_stored_in_two_pieces_has_no_fixed_place() -> None:
    model = tensors_everywhere()
    (stored,) = (each for each in walk_tensors(model) if each.proto.name == "sparse values")
    data = model.SerializeToString()
    span = wire.locate(data, [stored.path[:-1]])[stored.path[:-1]]
    values, piece = stored.path[-1][0], TensorProto(doc_string="more").SerializeToString()
    sparse_tensor = data[span.start : span.end] + wire.length_delimited(values, piece)
    twice = onnx.ModelProto.FromString(data)
    del twice.graph.sparse_initializer[:]
    data = wire.append_fields(twice.SerializeToString(), graph=wire.length_delimited(stored.path[-2][0], sparse_tensor))
    with pytest.raises(ModelFileError, match="expected one field 1 in a message, found 2"):
        wire.locate(data, [stored.path])


def external(name: str, location: str, size: int, *, offset: int = 0) -> TensorProto:
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[size // 4])
    found.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(size))):
        found.external_data.add(key=key, value=value)
    return found


def put_outside(model: onnx.ModelProto, name: str, location: str) -> bytes:
    """Makes a tensor of a model external; returns its bytes."""
    (stored,) = (each.proto for each in walk_tensors(model) if each.proto.name == name)
    content = stored.raw_data
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value=location)
    return content


@pytest.mark.parametrize("name", PLACES)
def test_external_data_is_collected_checked_and_read_wherever_its_tensor_stands(name: str, tmp_path: Path) -> None:
    model = tensors_everywhere()
    content = put_outside(model, name, "beside.bin")
    file = load_model(models.save(model, tmp_path / "model.onnx"))
    assert file.external_files == ("beside.bin",)
    with pytest.raises(ModelFileError, match=r"in 'beside\.bin', which is not in"):
        require_external_data(file)
    (tmp_path / "beside.bin").write_bytes(content)
    require_external_data(file)
    whole = {each.proto.name: each.proto for each in walk_tensors(whole_model(file))}
    assert whole[name].raw_data == content
    assert not any(StoredTensor((), each).is_external for each in whole.values())


@pytest.mark.parametrize("name", PLACES)
def test_external_data_outside_of_the_directory_is_refused_wherever_its_tensor_stands(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secret")
    (tmp_path / "inside").mkdir()
    model = tensors_everywhere()
    put_outside(model, name, "../secret.bin")
    file = load_model(models.save(model, tmp_path / "inside" / "model.onnx"))
    for action in (require_external_data, whole_model):
        with pytest.raises(ModelFileError, match=r"'\.\./secret\.bin', outside of its own directory"):
            action(file)


def test_where_external_data_lies_is_read_as_the_file_says_it() -> None:
    stored = StoredTensor((), external("w", "a/b.bin", 12, offset=4096))
    assert (stored.external.location, stored.external.offset, stored.external.length) == ("a/b.bin", 4096, 12)
    assert stored.nbytes == 12


@pytest.mark.parametrize("text", ["-1", "12a", "", "1" * 30, "1.5", " 7", "٣"])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_a_place_that_is_no_number_of_bytes_is_refused_by_name(key: str, text: str) -> None:
    proto = external("w", "b.bin", 12)
    (entry,) = (entry for entry in proto.external_data if entry.key == key)
    entry.value = text
    with pytest.raises(ModelFileError, match=f"the external data of 'w' has the {key} "):
        _ = StoredTensor((), proto).external


def test_external_data_without_a_location_or_with_two_is_refused(tmp_path: Path) -> None:
    proto = external("w", "b.bin", 12)
    proto.external_data.add(key="location", value="../c.bin")
    assert StoredTensor((), proto).location == "../c.bin"  # as runtimes take it
    with pytest.raises(ModelFileError, match="two entries 'location'"):
        _ = StoredTensor((), proto).external
    del proto.external_data[:]
    with pytest.raises(ModelFileError, match="has no location"):
        _ = StoredTensor((), proto).external
    model = models.chain()
    model.graph.initializer.append(proto)
    with pytest.raises(ModelFileError, match="has no location"):
        require_external_data(load_model(models.save(model, tmp_path / "model.onnx")))


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT4E2M1", "FLOAT16", "DOUBLE", "BOOL"])
def test_the_bytes_of_a_tensor_are_counted_by_its_type(kind: str) -> None:
    proto = TensorProto(data_type=TensorProto.DataType.Value(kind), dims=[3, 7])
    bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "FLOAT16": 16, "DOUBLE": 64, "BOOL": 8}[kind]
    assert StoredTensor((), proto).nbytes == int(np.ceil(21 * bits / 8))


def test_a_weight_that_shares_bytes_with_a_sparse_initializer_cannot_train(tmp_path: Path) -> None:
    model = models.chain()
    (weight,) = (each.proto for each in walk_tensors(model) if each.proto.name == "w1")
    content = put_outside(model, "w1", "b.bin")
    (tmp_path / "b.bin").write_bytes(content)
    extra = helper.make_sparse_tensor(external("other", "./b.bin", 8, offset=8), tensor("indices", (0, 3)), [5])
    network = open_network(models.save(model, tmp_path / "alone.onnx"))
    assert network.why_untrainable("w1") is None
    model.graph.sparse_initializer.append(extra)
    network = open_network(models.save(model, tmp_path / "shared.onnx"))
    reason = network.why_untrainable(weight.name)
    assert reason is not None
    assert "as \"the values of the sparse initializer 'other'\"" in str(reason)


@pytest.mark.parametrize(
    "name",
    ["sparse values", "sparse indices", "in a function", "default of a function", "training", "second of several"],
)
def test_one_changed_byte_of_external_data_is_found_by_verify_wherever_its_tensor_stands(
    name: str, tmp_path: Path
) -> None:
    model, odd = models.chain(), tensors_everywhere()
    content = put_outside(odd, name, "odd.bin")
    model.graph.sparse_initializer.extend(odd.graph.sparse_initializer)
    model.functions.extend(odd.functions)
    model.training_info.extend(odd.training_info)
    if name == "second of several":
        model.functions[0].node[0].attribute.append(odd.graph.node[2].attribute[0])
    for side in ("vendor", "copy"):
        (tmp_path / side).mkdir()
        models.save(model, tmp_path / side / "model.onnx")
        (tmp_path / side / "odd.bin").write_bytes(content)
    files = [tmp_path / side / "model.onnx" for side in ("vendor", "copy")]
    assert tgdonnx.verify(*files).proof == "identical"
    for place in (0, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "copy" / "odd.bin").write_bytes(changed)
        report = tgdonnx.verify(*files)
        assert not report.ok
        assert any("odd.bin" in violation for violation in report.violations), report.violations
