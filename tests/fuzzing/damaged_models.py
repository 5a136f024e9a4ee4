"""Models with one to three things in them changed: names, links, operators, attributes, weights, metadata."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.fuzzing.junk import NAMES, NUMBERS, OURS


def damaged_model(rng: random.Random, content: bytes) -> bytes:
    """Returns the bytes of a model with one to three things in it changed."""
    model = onnx.ModelProto.FromString(content)
    after: list[Callable[[bytes], bytes]] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_CHANGES)(rng, model, after)
    serialized = model.SerializeToString()
    for change in after:
        serialized = change(serialized)
    return serialized


After = list[Callable[[bytes], bytes]]


def _rename(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    """One value by another name, everywhere."""
    graph = model.graph
    names = sorted({name for node in graph.node for name in (*node.input, *node.output) if name})
    if not names:
        return
    old, new = rng.choice(names), rng.choice(NAMES)
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [new if name == old else name for name in places]
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        if value.name == old:
            value.name = new


def _rename_node(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    for node in model.graph.node:
        if rng.random() < 0.5:
            node.name = rng.choice(NAMES)


def _not_utf8(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    node = rng.choice(model.graph.node or [onnx.NodeProto()])
    field = rng.choice(("name", "op_type", "domain", "doc_string"))
    setattr(node, field, "QXQXQXQX")
    after.append(lambda content: content.replace(b"QXQXQXQX", b"\xff\xfe\xff\xfe\xed\xa0\x80\xc0"))


def _break_link(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    nodes = [node for node in model.graph.node if node.input]
    if nodes:
        node = rng.choice(nodes)
        node.input[rng.randrange(len(node.input))] = rng.choice(
            ("", "nowhere", *(n.output[0] for n in nodes if n.output))
        )


def _drop_node(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    if model.graph.node:
        del model.graph.node[rng.randrange(len(model.graph.node))]


def _drop_stored(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    part = rng.choice((model.graph.initializer, model.graph.input, model.graph.output, model.opset_import))
    if len(part):
        del part[rng.randrange(len(part))]


def _double(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    part = rng.choice(
        (model.graph.initializer, model.graph.input, model.graph.output, model.opset_import, model.graph.node)
    )
    if len(part):
        part.add().CopyFrom(part[rng.randrange(len(part))])


def _operator(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    if model.graph.node:
        node = rng.choice(model.graph.node)
        kinds = (
            "Cast",
            "If",
            "Loop",
            "Scan",
            "Resize",
            "Gather",
            "Concat",
            "LSTM",
            "Nonsense",
            "Reshape",
            "Einsum",
            "Slice",
        )
        node.op_type = rng.choice((*kinds, "ConvTranspose", "Gemm", "MatMul", "Softmax", "LayerNormalization", "Pad"))


def _attribute(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if not nodes:
        return
    node = rng.choice(nodes)
    name = rng.choice(node.attribute).name
    if rng.random() < 0.3:
        name = rng.choice(
            ("to", "axis", "group", "strides", "auto_pad", "epsilon", "value", "perm", "then_branch", "dilations")
        )
    values: tuple[Any, ...] = (
        rng.choice(NUMBERS),
        [rng.choice(NUMBERS) for _ in range(rng.randrange(1, 5))],
        rng.choice((float("nan"), float("inf"), -1.0, 1e38)),
        rng.choice(("SAME_UPPER", "x", "\x1b[31m")),
        b"\xff\xfe",
        numpy_helper.from_array(np.zeros((2, 0), np.float32), "t"),
    )
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if rng.random() < 0.85:
        node.attribute.append(helper.make_attribute(name, rng.choice(values)))


def _dims(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    values = [v for v in (*model.graph.input, *model.graph.output) if v.type.tensor_type.shape.dim]
    if values:
        dims = rng.choice(values).type.tensor_type.shape.dim
        dim = rng.choice(dims)
        if rng.random() < 0.3:
            dim.dim_param = rng.choice([name for name in NAMES if name])
        elif rng.random() < 0.2:
            del dims[:]
        else:
            dim.dim_value = rng.choice(NUMBERS)


def _element_type(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    value = rng.choice((*model.graph.input, *model.graph.output) or [onnx.ValueInfoProto()])
    value.type.tensor_type.elem_type = rng.choice((0, 2, 3, 7, 8, 9, 10, 11, 14, 16, 17, 20, 999))


def _weight(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    tensors = [tensor for tensor in model.graph.initializer if tensor.dims]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    kind = rng.randrange(7)
    if kind == 0:
        tensor.raw_data = tensor.raw_data[: -rng.randrange(1, 9)]
    elif kind == 1:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind == 2:
        tensor.data_type = rng.choice((0, 2, 7, 8, 9, 10, 11, 14, 16, 17, 21, 999))
    elif kind == 3:
        del tensor.dims[:]
    elif kind == 4 and len(tensor.raw_data) >= 4:
        tensor.raw_data = struct.pack("<f", rng.choice((np.nan, np.inf, 1e38))) + tensor.raw_data[4:]
    elif kind == 5:
        tensor.float_data.extend([1.0, 2.0])
    else:
        tensor.raw_data = bytes(len(tensor.raw_data))


def _external(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    if not model.graph.initializer:
        return
    tensor = rng.choice(model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    places = (
        "external.onnx.data",
        "dncnn.onnx",
        "nowhere",
        "/etc/passwd",
        "../built/manifest.json",
        "",
        ".",
        "a\x00b",
        *NAMES,
    )
    entries = {"location": rng.choice(places)}
    for key in ("offset", "length"):
        if rng.random() < 0.7:
            entries[key] = rng.choice(("0", "-1", "x", "9" * 30, "1.5", "4", str(2**63), ""))
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _metadata(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    values = ("1", "2", "", "x", "{}", "[]", "null", "[" * 100_000, '{"strategy": 3}', '{"format": 1}', *NAMES)
    for _ in range(rng.choice((1, 1, 2, 4))):
        model.metadata_props.add(key=rng.choice((*OURS, *NAMES)), value=rng.choice(values))


def _mask(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    """An initializer that is called like a mask of ours."""
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        shape = rng.choice(([], [1], list(tensor.dims), [tensor.dims[0] if tensor.dims else 1, 1, 1, 1], [0], [999]))
        if np.prod(shape, dtype=float) < 1e6:
            with np.errstate(invalid="ignore"):  # NaN as a whole number
                values = np.full(shape, rng.choice((0, 1, 0.5, np.nan)), rng.choice((np.float32, np.float64, np.int64)))
            model.graph.initializer.append(numpy_helper.from_array(values, f"{tensor.name}.retrain_mask"))


def _versions(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    if rng.random() < 0.5 or not model.opset_import:
        model.ir_version = rng.choice((0, 1, 2, 3, 4, 9, 10, 11, 12, 99, 2**40, -1))
    else:
        model.opset_import[0].version = rng.choice((0, 1, 5, 6, 7, 11, 13, 18, 21, 22, 23, 99, 2**40, -1))
        model.opset_import[0].domain = rng.choice(("", "", "ai.onnx", "com.microsoft", "x\x1b[31m"))


def _sparse(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    if model.graph.initializer:
        at = rng.randrange(len(model.graph.initializer))
        tensor = model.graph.initializer[at]
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), tensor.name))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, rng.choice(NUMBERS)], np.int64), "i"))
        sparse.dims.extend(tensor.dims)
        if rng.random() < 0.8:
            del model.graph.initializer[at]


def _nested(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    """A branch in a branch in a branch."""
    if not model.graph.output:
        return
    name = model.graph.output[0].name
    body = helper.make_graph(
        [helper.make_node("Identity", [name], ["b"])], "b", [], [helper.make_empty_tensor_value_info("b")]
    )
    for _ in range(rng.choice((1, 5, 40, 90))):
        node = helper.make_node(
            "If", ["c"], ["b"], then_branch=body, else_branch=body if rng.random() < 0.02 else _same(name)
        )
        body = helper.make_graph([node], "b", [], [helper.make_empty_tensor_value_info("b")])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    model.graph.node.add().CopyFrom(helper.make_node("If", ["c"], ["b"], then_branch=body, else_branch=_same(name)))
    model.graph.output[0].name = "b"


def _same(name: str) -> onnx.GraphProto:
    node = helper.make_node("Identity", [name], ["e"])
    return helper.make_graph([node], "e", [], [helper.make_empty_tensor_value_info("e")])


def _huge(rng: random.Random, model: onnx.ModelProto, after: After) -> None:
    """A node that makes something huge of nothing."""
    size = rng.choice((2**20, 2**34, 2**40, 2**62))
    model.graph.initializer.append(numpy_helper.from_array(np.array([size], np.int64), "size"))
    kind = rng.choice(("ConstantOfShape", "Range", "Tile", "Expand"))
    scalar = numpy_helper.from_array
    if kind == "Range":
        for name, value in (("r0", 0), ("r1", size), ("r2", 1)):
            model.graph.initializer.append(scalar(np.array(value, np.int64), name))
    model.graph.initializer.append(scalar(np.zeros(1, np.float32), "one"))
    inputs = {
        "ConstantOfShape": ["size"],
        "Range": ["r0", "r1", "r2"],
        "Tile": ["one", "size"],
        "Expand": ["one", "size"],
    }
    model.graph.node.add().CopyFrom(helper.make_node(kind, inputs[kind], ["huge"]))
    if model.graph.node[0].input and rng.random() < 0.7:
        model.graph.node.add().CopyFrom(helper.make_node("Shape", ["huge"], ["extent"]))


_CHANGES: tuple[Callable[[random.Random, onnx.ModelProto, After], None], ...] = (
    _rename,
    _rename,
    _rename_node,
    _not_utf8,
    _break_link,
    _drop_node,
    _drop_stored,
    _double,
    _operator,
    _attribute,
    _attribute,
    _dims,
    _element_type,
    _weight,
    _weight,
    _external,
    _metadata,
    _mask,
    _versions,
    _sparse,
    _nested,
    _huge,
)
