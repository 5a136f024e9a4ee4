"""Damage to parsed models, one place at a time: attributes, tensors, names. Seeded, and told by what it did."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, TensorProto

INTEGERS = (0, -1, 1, 2, 7, 999, 2**31, 2**62, -(2**62))
FLOATS = (0.0, -1.0, float("nan"), float("inf"), 1e38)
STRINGS = (b"", b"NONSENSE", b"\xff\xfe", b"x" * 100_000)
LISTS: tuple[tuple[int, ...], ...] = ((), (0,), (-1, -1), (2**31, 2**31), (2**62,) * 4, (1,) * 9)
NAMES = ("", "y", "x", "n" * 100_000, "[/bold]\x1b[31m\n")
DTYPES = (0, TensorProto.STRING, TensorProto.INT64, TensorProto.FLOAT16, TensorProto.COMPLEX64, 99)
DIMS: tuple[tuple[int, ...], ...] = ((), (0,), (-1,), (2**40,), (1, 1, 1, 1), (2**31, 2**33))


@dataclass(frozen=True)
class Damage:
    """One change: what it is, and what makes it in a copy."""

    what: str
    apply: Callable[[onnx.ModelProto], None]


def damages(model: onnx.ModelProto) -> Iterator[Damage]:
    """Yields everything that is done to a model, one at a time."""
    for index, node in enumerate(model.graph.node):
        yield from _of_node(index, node)
    for index, tensor in enumerate(model.graph.initializer):
        yield from _of_tensor(index, tensor)
    yield from _of_ports(model)


def sample(model: onnx.ModelProto, count: int, seed: int) -> list[Damage]:
    """Returns some of them, the same ones for the same seed."""
    every = list(damages(model))
    return random.Random(seed).sample(every, min(count, len(every)))


def damaged(model: onnx.ModelProto, damage: Damage) -> onnx.ModelProto:
    """Returns a damaged copy."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    damage.apply(copy)
    return copy


def _of_node(index: int, node: onnx.NodeProto) -> Iterator[Damage]:
    who = f"{node.op_type} {index}"

    def change(what: str, apply: Callable[[onnx.NodeProto], None]) -> Damage:
        return Damage(f"{who}: {what}", lambda model: apply(model.graph.node[index]))

    def set_attribute(place: int, **values: object) -> Callable[[onnx.NodeProto], None]:
        def apply(node: onnx.NodeProto) -> None:
            attribute = node.attribute[place]
            name = attribute.name
            attribute.Clear()
            attribute.name = name
            for key, value in values.items():
                if isinstance(value, tuple):
                    getattr(attribute, key).extend(value)
                elif isinstance(value, TensorProto):
                    getattr(attribute, key).CopyFrom(value)
                else:
                    setattr(attribute, key, value)

        return apply

    def rename(place: int, name: str) -> Callable[[onnx.NodeProto], None]:
        return lambda node: setattr(node.attribute[place], "name", name)

    def delete(place: int) -> Callable[[onnx.NodeProto], None]:
        return lambda node: node.attribute.pop(place) and None

    for place, attribute in enumerate(node.attribute):
        name = attribute.name
        yield change(f"without {name}", delete(place))
        for other in ("", "nonsense", "axis", "to"):
            yield change(f"{name} renamed {other!r}", rename(place, other))
        for value in INTEGERS:
            yield change(f"{name} = {value}", set_attribute(place, i=value, type=AttributeProto.INT))
        for number in FLOATS:
            yield change(f"{name} = {number}", set_attribute(place, f=number, type=AttributeProto.FLOAT))
        for text in STRINGS:
            yield change(f"{name} = {text[:12]!r}", set_attribute(place, s=text, type=AttributeProto.STRING))
        for numbers in LISTS:
            yield change(f"{name} = {numbers}", set_attribute(place, ints=numbers, type=AttributeProto.INTS))
        yield change(f"{name} of no type", set_attribute(place, i=1))
        yield change(f"{name} of type 99", set_attribute(place, i=1, type=AttributeProto.GRAPHS))
        yield change(f"{name} an empty tensor", set_attribute(place, t=TensorProto(), type=AttributeProto.TENSOR))
        yield change(f"{name} a reference", set_attribute(place, ref_attr_name="a", type=AttributeProto.INT))
    for name in ("axis", "group", "pads", "to", "nonsense"):
        for value in (999, 2**62):
            yield change(
                f"more: {name} = {value}",
                lambda n, k=name, v=value: n.attribute.append(onnx.helper.make_attribute(k, v)),
            )
        yield change(f"more: {name} = []", lambda n, k=name: n.attribute.add(name=k, type=AttributeProto.INTS) and None)
    for place in range(len(node.input)):
        for name in NAMES:
            yield change(f"reads {name[:12]!r}", lambda n, p=place, k=name: n.input.__setitem__(p, k))
        yield change(f"without input {place}", lambda n, p=place: n.input.pop(p) and None)
    yield change("one more input", lambda n: n.input.append(n.input[0] if n.input else "x"))
    for place in range(len(node.output)):
        for name in NAMES:
            yield change(f"gives {name[:12]!r}", lambda n, p=place, k=name: n.output.__setitem__(p, k))
    yield change("no outputs", lambda n: n.ClearField("output"))
    yield change("one more output", lambda n: n.output.append("more"))
    for op_type in ("", "Nonsense", "If", "Loop", "Cast", "Split", "Concat", "Conv", "DequantizeLinear"):
        yield change(f"is {op_type!r}", lambda n, k=op_type: setattr(n, "op_type", k))
    yield change("of another domain", lambda n: setattr(n, "domain", "nonsense"))
    for name in NAMES:
        yield change(f"is called {name[:12]!r}", lambda n, k=name: setattr(n, "name", k))


def _of_tensor(index: int, tensor: TensorProto) -> Iterator[Damage]:
    def change(what: str, apply: Callable[[TensorProto], None]) -> Damage:
        return Damage(f"{tensor.name}: {what}", lambda model: apply(model.graph.initializer[index]))

    def reshape(dims: tuple[int, ...], *, data: bool) -> Callable[[TensorProto], None]:
        def apply(tensor: TensorProto) -> None:
            del tensor.dims[:]
            tensor.dims.extend(dims)
            if data:
                tensor.raw_data = tensor.raw_data[:4] * max(0, min(100, _product(dims)))

        return apply

    for dtype in DTYPES:
        yield change(f"of type {dtype}", lambda t, k=dtype: setattr(t, "data_type", k))
    shapes = {*DIMS, tuple(tensor.dims)[::-1], tuple(tensor.dims)[1:], (1, *tensor.dims), (*tensor.dims, 1)}
    for dims in sorted(shapes):
        yield change(f"of shape {dims}", reshape(dims, data=False))
        yield change(f"of shape {dims}, with as much data", reshape(dims, data=True))
    for data in (b"", b"\0", tensor.raw_data[:-1], tensor.raw_data * 2, b"\xff" * len(tensor.raw_data)):
        yield change(f"{len(data)} bytes", lambda t, k=data: setattr(t, "raw_data", k))
    for name in NAMES:
        yield change(f"called {name[:12]!r}", lambda t, k=name: setattr(t, "name", k))
    yield change("external", lambda t: setattr(t, "data_location", TensorProto.EXTERNAL))
    yield change("in parts", lambda t: t.segment.CopyFrom(TensorProto.Segment(begin=0, end=2**62)))


def _of_ports(model: onnx.ModelProto) -> Iterator[Damage]:
    for field in ("input", "output"):
        for index in range(len(getattr(model.graph, field))):

            def port(model: onnx.ModelProto, field: str = field, index: int = index) -> onnx.ValueInfoProto:
                return getattr(model.graph, field)[index]

            for name in NAMES:
                yield Damage(f"{field} called {name[:12]!r}", lambda m, p=port, k=name: setattr(p(m), "name", k))
            for dtype in (0, 99, TensorProto.STRING, TensorProto.INT64, TensorProto.DOUBLE):
                yield Damage(
                    f"{field} of type {dtype}",
                    lambda m, p=port, k=dtype: setattr(p(m).type.tensor_type, "elem_type", k),
                )
            yield Damage(f"{field} without a type", lambda m, p=port: p(m).ClearField("type"))
            yield Damage(
                f"{field} a sequence",
                lambda m, p=port: p(m).type.sequence_type.elem_type.tensor_type.__setattr__("elem_type", 1),
            )
            yield Damage(f"{field} without a shape", lambda m, p=port: p(m).type.tensor_type.ClearField("shape"))
            for size in (0, -1, 2**40):
                yield Damage(
                    f"{field} of size {size}",
                    lambda m, p=port, k=size: (
                        [setattr(d, "dim_value", k) for d in p(m).type.tensor_type.shape.dim] and None
                    ),
                )
            yield Damage(f"no {field}", lambda m, f=field: m.graph.ClearField(f))
    for version in (0, 1, 5, 999, -1, 2**62):
        yield Damage(f"opset {version}", lambda m, k=version: setattr(m.opset_import[0], "version", k))
        if -(2**31) <= version < 2**31:
            yield Damage(f"IR version {version}", lambda m, k=version: setattr(m, "ir_version", k))


def _product(dims: tuple[int, ...]) -> int:
    result = 1
    for dim in dims:
        result *= dim
    return result
