"""Broken models: every command says which node or tensor is wrong and what would help, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import random
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from tests.cli.commands import save_pairs
from tests.support import models
from tgdonnx.cli import main
from tgdonnx.files import wire

Damage = Callable[[onnx.ModelProto], None]

COMMANDS: dict[str, tuple[str, ...]] = {
    "inspect": (),
    "score": (),
    "trace": (),
    "check": (),
    "mask": ("-o", "out.onnx", "--all"),
    "build": ("-o", "artifacts"),
    "finetune": ("-o", "out.onnx", "--all", "--data", "data.npz", "--epochs", "1"),
}


def circle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[1].output[0]


def own_result(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = model.graph.node[1].output[0]


def domain(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "vendor.ops"


def missing_function(model: onnx.ModelProto) -> None:
    body = helper.make_node("Relu", ["a"], ["b"])
    opset = helper.make_opsetid("", 17)
    model.functions.append(helper.make_function("vendor.ops", "Other", ["a"], ["b"], [body], [opset]))
    model.opset_import.append(helper.make_opsetid("vendor.ops", 1))
    domain(model)


def function_of_itself(model: onnx.ModelProto) -> None:
    body = helper.make_node("Relu", ["a"], ["b"], domain="vendor.ops")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("vendor.ops", 1)]
    model.functions.append(helper.make_function("vendor.ops", "Relu", ["a"], ["b"], [body], opsets))
    model.opset_import.append(opsets[1])
    domain(model)


def version(number: int) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = number

    return damage


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def stored_and_made(model: onnx.ModelProto) -> None:
    model.graph.initializer[1].name = model.graph.node[0].output[0]


def branch_of_nothing(model: onnx.ModelProto) -> None:
    branch = onnx.parser.parse_graph("g () => (float[a] p) { p = Relu(nowhere) }")
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "condition"))
    model.graph.node.append(helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch))


def empty_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 0


def empty_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((0, 3, 3, 3), np.float32), "w1"))


def text_weight(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w1", TensorProto.STRING, [1], [b"text"]))


def text_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING


def huge(field: str, data_type: int, *, dims: tuple[int, ...] = (2**40, 3, 3, 3)) -> Damage:
    def damage(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.CopyFrom(TensorProto(name="w1", data_type=data_type, dims=dims))
        if field == "raw_data":
            tensor.raw_data = b"1234"
        elif field:
            getattr(tensor, field).append(1)

    return damage


def huge_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[2**40, 3], float_data=[1])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["large"], value=tensor))


def no_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def misspelled_constant(model: onnx.ModelProto) -> None:
    node = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.zeros(1, np.float32)))
    node.attribute[0].name = "valuE"
    model.graph.node.insert(0, node)


def attribute_without_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].ClearField("type")


BAD: dict[str, tuple[Damage, str]] = {
    "a circle": (circle, r"node 'conv1' \(Conv\) .*computed from its own result; export"),
    "a node that reads its own result": (own_result, r"node 'a1' \(Relu\) .*computed from its own result; export"),
    "a domain that is not imported": (
        domain,
        r"node 'a1' \(Relu\) .*'vendor.ops', which the file does not import; get",
    ),
    "a function that is not there": (
        missing_function,
        r"node 'a1' \(Relu\) .*vendor.ops.Relu, which .*not define; get",
    ),
    "a function that calls itself": (function_of_itself, r"vendor.ops.Relu.*; export"),
    "operator set 0": (version(0), r"version 0 of the operator set 'ai.onnx'; expected 1 or more: get"),
    "an operator set of the future": (version(999), r"opset 999; the installed onnx knows up to \d+: update"),
    "a name that two nodes make": (made_twice, r"'t1' twice, for node 'conv1' \(Conv\) and for node 't1' .*: export"),
    "a name that is stored and made": (
        stored_and_made,
        r"'t1' twice, for a stored tensor and for node 'conv1' .*: export",
    ),
    "a tensor that is stored twice": (
        lambda model: model.graph.initializer.append(model.graph.initializer[0]),
        r"stores 2 tensors under the name 'w1'; expected one: export",
    ),
    "an input that is there twice": (
        lambda model: model.graph.input.append(model.graph.input[0]),
        r"'x' twice, for an input and for an input; expected one: export",
    ),
    "a branch that reads what is not there": (branch_of_nothing, r"node 'p' \(Relu\) .*reads 'nowhere'.*; export"),
    "an output that nothing makes": (no_output, r"gives out 'nowhere', which nothing makes; export"),
    "an input of size 0": (empty_axis, r"the input 'x' .*an axis of size 0; give"),
    "a weight without elements": (empty_weight, r"node 'conv1' \(Conv\) .*reads 'w1', which is empty: .*; get"),
    "a weight of text": (text_weight, r"node 'conv1' \(Conv\) .*reads 'w1', which is text; get"),
    "an input of text": (text_input, r"node 'conv1' \(Conv\) .*reads 'x', which is text; get"),
    "more sizes than bytes": (huge("raw_data", TensorProto.FLOAT), r"'w1' .*has 4 bytes; expected .*: get"),
    "more sizes than floats": (huge("float_data", TensorProto.FLOAT), r"'w1' .*has 1 numbers; expected .*: get"),
    "more sizes than doubles": (huge("double_data", TensorProto.DOUBLE), r"'w1' .*has 1 numbers; expected .*: get"),
    "more sizes than halves": (huge("int32_data", TensorProto.FLOAT16), r"'w1' .*has 1 numbers; expected .*: get"),
    "more sizes than int64": (huge("int64_data", TensorProto.INT64), r"'w1' .*has 1 numbers; expected .*: get"),
    "sizes whose product overflows": (
        huge("int32_data", TensorProto.INT8, dims=(2**62, 2**62)),
        r"'w1' .*has 1 numbers; expected .*: get",
    ),
    "a tensor without data": (huge("", TensorProto.FLOAT), r"'w1' .*has 0 numbers; expected .*: get"),
    "a constant with less than it says": (
        huge_constant,
        r"node 'large' \(Constant\) .*has 1 numbers; expected .*: get",
    ),
    "a Constant without value": (misspelled_constant, r"node 'k' \(Constant\) .*has no value, or several; get"),
    "an attribute without type": (attribute_without_type, r"node 'conv1' \(Conv\) .*of type UNDEFINED; expected"),
    "a model without output": (lambda model: model.graph.ClearField("output"), r"gives out nothing; .*: export"),
    "an operator set of 2^40": (
        lambda model: model.opset_import.append(helper.make_opsetid("other", 2**40)),
        r"version 1099511627776 of the operator set 'other'; .*: get",
    ),
    "a data type that there is not": (huge("", 99), r"'w1' .*of the data type 99, which there is not; get"),
}


def invoke(command: str, model: Path, *, artifacts: str = "artifacts") -> Any:
    """Runs a command beside the model; returns what it did."""
    directory = model.parent
    options = [str(directory / each) if "." in each or each == "artifacts" else each for each in COMMANDS[command]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return CliRunner().invoke(main, [command, str(model), *options])


def masked(model: onnx.ModelProto, damage: Damage) -> bytes:
    """A masked model whose base was damaged before: what `build` may be given."""
    damage(model)
    base = model.SerializeToString()
    mask = numpy_helper.from_array(np.ones((8, 1, 1, 1), np.float32), "w1.retrain_mask").SerializeToString()
    metadata = (("format", "1"), ("selection", "{}"), ("base_sha256", hashlib.sha256(base).hexdigest()))
    entries = [onnx.StringStringEntryProto(key=f"tgdonnx.{key}", value=value) for key, value in metadata]
    return wire.append_fields(
        base,
        graph=wire.length_delimited(wire.INITIALIZER, mask),
        model=b"".join(wire.length_delimited(wire.METADATA_PROPS, entry.SerializeToString()) for entry in entries),
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_a_broken_model_is_refused_with_name_and_remedy(
    damage: Damage, message: str, command: str, tmp_path: Path
) -> None:
    model, path = models.chain(0), tmp_path / "model.onnx"
    if command == "build":
        path.write_bytes(masked(model, damage))
    else:
        damage(model)
        path.write_bytes(model.SerializeToString())
    save_pairs(tmp_path / "data.npz", (2, 3, 12, 12), (2, 4, 6, 11))
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    result = invoke(command, path)
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.chain(0).SerializeToString().replace(b"conv1", b"conv\xee"))
    for command in ("inspect", "trace", "check", "mask"):
        result = invoke(command, path)
        assert result.exit_code == 2
        assert re.search(r"holds b'conv\\xee' where a name should be; get", result.stderr), result.stderr


def test_nodes_in_another_order_are_sorted_to_train_and_given_back_as_they_were(tmp_path: Path) -> None:
    model, path = models.chain(0), tmp_path / "model.onnx"
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    path.write_bytes(model.SerializeToString())
    save_pairs(tmp_path / "data.npz", (2, 3, 12, 12), (2, 4, 6, 11))
    result = invoke("finetune", path)
    assert result.exit_code == 0, result.stderr
    tuned = onnx.load(tmp_path / "out.onnx")
    assert [node.output[0] for node in tuned.graph.node] == [node.output[0] for node in nodes]
    changed = [
        old.name
        for old, new in zip(model.graph.initializer, tuned.graph.initializer)
        if not np.array_equal(numpy_helper.to_array(old), numpy_helper.to_array(new))
    ]
    assert "w1" in changed
    for tensor in tuned.graph.initializer:
        tensor.ClearField("raw_data")
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    assert tuned.graph.SerializeToString(deterministic=True) == model.graph.SerializeToString(deterministic=True)


def byte_damage(data: bytes, chance: random.Random) -> bytes:
    """Changes, drops, doubles or cuts a few bytes."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(out))
        kind = chance.randrange(5)
        if kind == 0:
            out[place] = chance.randrange(256)
        elif kind == 1:
            out[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del out[place : place + chance.randint(1, 8)]
        elif kind == 3:
            out[place:place] = out[place : place + chance.randint(1, 8)]
        elif chance.random() < 0.2:
            del out[place:]
    return bytes(out) or b"\0"


def field_damage(data: bytes, chance: random.Random) -> bytes:
    """Changes a field, somewhere in the graph, to another value of its type."""
    model = onnx.ModelProto.FromString(data)
    for _ in range(chance.randint(1, 2)):
        message: Any = model
        while True:
            present = [(field, value) for field, value in message.ListFields()]
            if not present:
                break
            field, value = chance.choice(present)
            index = chance.randrange(len(value)) if field.is_repeated else None
            inner = value[index] if index is not None else value
            if field.message_type is not None and chance.random() < 0.93:
                message = inner
                continue
            if field.message_type is not None or chance.random() < 0.2:
                if index is not None:
                    del value[index]
                else:
                    message.ClearField(field.name)
                break
            new: Any
            if isinstance(inner, bytes):
                new = inner[: len(inner) // 2] if chance.random() < 0.5 else b""
            elif isinstance(inner, str):
                new = chance.choice(["", "x", "w1", "t1", "Conv", "group", "nowhere"])
            elif isinstance(inner, float):
                new = chance.choice([0.0, -1.0, 1e30, float("nan")])
            elif field.enum_type is not None:
                new = chance.choice([v.number for v in field.enum_type.values])
            else:
                new = (
                    chance.choice([0, 1, -1, 2, 7, 2**31 - 1, 2**40])
                    if field.name != "data_type"
                    else chance.randrange(20)
                )
            if field.cpp_type in (1, 3, 5) and isinstance(new, int):
                new = min(new, 2**31 - 1)
            if index is not None:
                value[index] = new
            else:
                setattr(message, field.name, new)
            break
    return model.SerializeToString()


SUBJECTS: dict[str, models.Builder] = {
    b.__name__: b for b in (models.chain, models.gated, models.constant_nodes, models.ir_3)
}


@pytest.mark.parametrize("damage", [byte_damage, field_damage])
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("seed", range(4))
def test_random_damage_ends_no_command_with_a_fault_of_ours(
    seed: int, subject: str, damage: Callable[[bytes, random.Random], bytes], tmp_path: Path
) -> None:
    chance = random.Random(f"{seed} {subject} {damage.__name__}")
    whole = SUBJECTS[subject](0).SerializeToString()
    path = tmp_path / "model.onnx"
    for _ in range(10):
        path.write_bytes(damage(whole, chance))
        for command in ("inspect", "trace", "score", "check", "mask"):
            result = invoke(command, path)
            assert result.exit_code in (0, 1, 2), result.output
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            assert "fault of tgdonnx" not in result.stderr, result.stderr
            assert "Traceback" not in result.stderr, result.stderr
        (tmp_path / "out.onnx").unlink(missing_ok=True)
        assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
