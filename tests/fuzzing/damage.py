"""Damage to files: what bad disks, bad exporters and people who mean harm make of them. All of it follows from a seed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAMES = (
    "[/bold]",
    "[link=http://example.com]x",
    "[bold red]",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "a\nError: b",
    "a\tb\rc",
    "\u202egnp.exe",
    "\u200b",
    "zero\u200dwidth\ufeff",
    "\x00",
    "\x9b31m",
    "n" * 100_000,
    "$x^2$",
    "<script>alert(1)</script>",
    "' onload='x",
    "../../../etc/passwd",
    "权重:0",
    "{{ 7*7 }}",
    "%s%n{0}",
    "loss",
    "target",
    "labels",
    "",
    " ",
    "w1.retrain_mask",
    "tgdonnx.x",
    "x_grad",
)
JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "\x1b[31m",
    "\ud800",
    "n" * 100_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["x", 1],
    {"x": [1]},
    [[[[[[[[]]]]]]]],
)
NUMBERS = (0, 1, -1, 2, 3, 7, 999, 2**31, 2**40, -(2**40), 2**63 - 1, -(2**63))
OURS = ("tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256", "tgdonnx.provenance", "tgdonnx.tuned")


def damage(rng: random.Random, path: Path, copies: Path) -> None:
    """Damages the file or directory at a path, which lies, links resolved, below the directory of copies.

    Raises:
        ValueError: it lies elsewhere, where the damage would be real.
    """
    if copies.resolve() not in path.resolve().parents:
        raise ValueError(f"{path} is none of the copies in {copies}")
    if path.is_dir():
        _damage_directory(rng, path, copies)
        return
    if rng.random() < 0.75:
        try:
            _damage_content(rng, path)
            return
        except Exception:  # damaged before, so that its content cannot be read any more
            pass
    _damage_bytes(rng, path)


def _damage_content(rng: random.Random, path: Path) -> None:
    if path.suffix == ".onnx":
        path.write_bytes(damaged_model(rng, path.read_bytes()))
    elif path.suffix in (".json", ".jsonl", ".yaml", ".toml"):
        _damage_text(rng, path)
    elif path.suffix in (".npz", ".npy"):
        _damage_arrays(rng, path)
    else:
        _damage_bytes(rng, path)


def _damage_directory(rng: random.Random, path: Path, copies: Path) -> None:
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    if not files:
        return
    chosen = rng.choice(files)
    kind = rng.randrange(5)
    if kind == 0:
        chosen.unlink()
    elif kind == 1:
        chosen.unlink()
        chosen.symlink_to(rng.choice(("nowhere", chosen.name, "../in/dncnn.onnx", "/dev/null", "..")))
    elif kind == 2:
        (path / rng.choice(("[bold].npy", "\x1b[31m.png", os.fsdecode(b"\xff\xfe.npy"), "loop"))).write_bytes(b"junk")
    else:
        damage(rng, chosen, copies)


def _damage_bytes(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    kind = rng.randrange(6)
    if kind == 0:
        content = content[: rng.randrange(len(content) + 1)]
    elif kind == 1:
        content = bytearray(rng.randbytes(rng.randrange(200))) if hasattr(rng, "randbytes") else content[:0]
    elif kind == 2:
        content = bytearray()
    elif kind == 3 and content:
        at = rng.randrange(len(content))
        content[at:at] = bytes(rng.getrandbits(8) for _ in range(rng.randrange(1, 9)))
    elif content:
        for _ in range(rng.choice((1, 1, 3, 20))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _damage_text(rng: random.Random, path: Path) -> None:
    kind = rng.randrange(6)
    if kind == 0:
        deep = rng.choice((100, 5_000, 200_000))
        path.write_text(rng.choice(("[" * deep, "[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep)))
    elif kind == 1:
        path.write_text(rng.choice(("null", "[]", "3", '"x"', "{", "a: b: c", "!!python/object/apply:os.system [id]")))
    elif kind == 2:
        path.write_bytes(rng.choice((b"\xff\xfe\x00", b"\xef\xbb\xbf{}", b"{}\x00", b"x = 1" * 50_000)))
    elif path.suffix == ".jsonl":
        lines = path.read_text().splitlines() or ["{}"]
        at = rng.randrange(len(lines))
        lines[at] = _damaged_json(rng, lines[at])
        path.write_text("\n".join(lines))
    elif path.suffix == ".json":
        path.write_text(_damaged_json(rng, path.read_text()))
    else:
        key = rng.choice(("steps", "batch", "lr", "data", "metric", "nonsense", "config", "json", "loss", "scale"))
        value = json.dumps(rng.choice([junk for junk in JUNK if junk != "\ud800"]))
        path.write_text(f"{key}: {value}\n" if path.suffix == ".yaml" else f"{key} = {value}\n")


def _damaged_json(rng: random.Random, text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text[:-1]
    holder: Any = document
    while isinstance(holder, (dict, list)) and holder:
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(JUNK)
        break
    return json.dumps(document)


def _damage_arrays(rng: random.Random, path: Path) -> None:
    with np.load(path) if path.suffix == ".npz" else _Single(path) as stored:
        arrays = dict(stored)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    changes: tuple[Callable[[], Any], ...] = (
        lambda: array.astype(rng.choice(("f8", "f2", "i1", "i8", "u1", "c8", "?", "S3", "U3", ">f4"))),
        lambda: array[..., 0],
        lambda: array[:0],
        lambda: array[..., :0],
        lambda: np.full_like(array, rng.choice((np.nan, np.inf, 1e38, -1e38, 0))),
        lambda: array[:, :1],
        lambda: array[:1],
        lambda: array.transpose(0, 2, 3, 1),
        lambda: np.float32(1),
        lambda: np.zeros(4, [("a", "f4"), ("b", "i2")]),
        lambda: np.array([{"a": 1}, None], dtype=object),
        lambda: np.array(["2020-01-01"], "M8[D]"),
        lambda: np.broadcast_to(np.float32(0), (1, 3, 2, 2)),
    )
    kind = rng.randrange(4)
    if kind == 0 and path.suffix == ".npy":
        path.write_bytes(_npy_header(rng))
        return
    if kind == 1:
        arrays[rng.choice([name for name in NAMES if name and len(name) < 1000 and "\x00" not in name])] = arrays.pop(
            name
        )
    elif kind == 2 and rng.random() < 0.3:
        del arrays[name]
    else:
        with np.errstate(invalid="ignore"):  # NaN as a whole number
            arrays[name] = rng.choice(changes)()
    if path.suffix == ".npy":
        np.save(path, next(iter(arrays.values()), np.zeros(0)), allow_pickle=True)
    else:
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=True, **{key: value for key, value in arrays.items() if key != "file"})
        path.write_bytes(buffer.getvalue())


class _Single:
    """A .npy file read like an .npz file."""

    def __init__(self, path: Path) -> None:
        self.arrays = {"": np.load(path)}

    def __enter__(self) -> dict[str, Any]:
        return self.arrays

    def __exit__(self, *_: object) -> None:
        pass


def _npy_header(rng: random.Random) -> bytes:
    shape = rng.choice(("(-1, 3)", "(99999999999999999999,)", f"({2**40}, {2**40})", "(3, 'x')", "[3]", "(True,)", "9"))
    kind = rng.choice(("'<f4'", "'|O'", "'<f99'", "3", "'<U999999999'", "[('a', '<f4')]"))
    header = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(48)


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


def odd_place(rng: random.Random, directory: Path) -> str:
    """Makes something at a path that is no honest file; returns the path, relative to the directory."""
    kind = rng.randrange(9)
    path = directory / "odd"
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("odd")
    elif kind == 2:
        path.symlink_to("nowhere")
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        name = rng.choice(
            (
                "[/bold].onnx",
                "\x1b[31m.npz",
                "\u202egpj.npy",
                os.fsdecode(b"\xff\xfe.onnx"),
                "$x$.onnx",
                "-x",
                "a b.onnx",
            )
        )
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(directory / "in" / "dncnn.onnx", path)
        return name
    elif kind == 6:
        # Only for what is read: a program that is wrong must not be able to harm the machine that tests it.
        return rng.choice(("/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "/etc/passwd", "/", ".", "..", "~"))
    elif kind == 7:
        return rng.choice(
            ("", "-", "n" * 300, "d/" * 2500 + "x", "a\x00b", "in/dncnn.onnx/x", "nowhere/x", "in/../in/dncnn.onnx")
        )
    else:
        return rng.choice(("\udcff\udcfe", "\ud800", "a\nb", "\x1b[31mx", "in", "out", "built", "trained/checkpoint"))
    return "odd"
