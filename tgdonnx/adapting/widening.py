"""The vendor's file with side paths in it: nodes and initializers are put in, and one name changes per layer.

Whoever reads the output of a layer goes on reading the value of that name, which is now the sum; the layer's own output gets
another name. So the bytes that change are those of one name in one node, and all others of the vendor's stay. For each side
path come, right behind the node that made the output:

    NAME.maps = Conv(x, NAME.down)          with the attributes of the layer; MatMul beside Gemm and MatMul
    NAME.path = Conv(NAME.maps, NAME.up)    1 x 1, with the group of the layer; MatMul
    output    = Add(NAME.vendor, NAME.path)

and at the end of the graph the initializers NAME.down and NAME.up, in files of IR version 3 as inputs too.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from tgdonnx.adapting.initial_values import initial_tensors
from tgdonnx.adapting.side_paths import SidePath, prefix_of
from tgdonnx.errors import MaskedModelError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile

_FIRST_INPUT_WITHOUT_INITIALIZERS = 4  # the IR version


def widen(file: ModelFile, paths: Sequence[SidePath], seed: int) -> ModelFile:
    """Returns a file with side paths in it, which computes what it did before; nothing on disk changes.

    Args:
        file: the vendor's.
        paths: planned for it.
        seed: of the initial values.

    Raises:
        ModelFileError: it is written in a way that would not allow to take them out again.
    """
    nodes = file.proto.graph.node
    places = {str(name): index for index, node in enumerate(nodes) for name in node.output}
    renamed: dict[wire.FieldPath, bytes] = {}
    added: dict[int, bytes] = {}
    graph = onnx.GraphProto()
    for path in paths:
        index = places[path.sum_of]
        position = list(nodes[index].output).index(path.sum_of)
        own = f"{path.name}.vendor"
        renamed[((wire.GRAPH, 0), (wire.NODE, index), (wire.NODE_OUTPUT, position))] = own.encode()
        layer = nodes[places[str(path.layer.node.outputs[0].name)]]
        added[index] = onnx.GraphProto(node=_nodes(path, layer, own)).SerializeToString()
        graph.initializer.extend(initial_tensors(path, seed))
    if file.proto.ir_version < _FIRST_INPUT_WITHOUT_INITIALIZERS:
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in graph.initializer)
    data = wire.insert_after(wire.substitute(file.data, renamed), wire.NODE, added)
    data = wire.append_fields(data, graph=graph.SerializeToString())
    return ModelFile(file.path, data, onnx.ModelProto.FromString(data))


def narrow(data: bytes, number: int) -> bytes:
    """Returns a file without the side paths of a round: undoes `widen`.

    Args:
        data: the file.
        number: of the round.

    Raises:
        MaskedModelError: they are not as `widen` puts them there.
        ModelFileError: the bytes are no ONNX file.
    """
    prefix = prefix_of(number)
    left = wire.remove_fields(data, graph=lambda field, data: _is_ours(field, data, prefix), model=lambda *_: False)
    try:
        proto, outer = onnx.ModelProto.FromString(left), onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise MaskedModelError("side paths cannot be taken out of a damaged file") from error
    sums = [node for node in outer.graph.node if node.name.startswith(prefix) and node.op_type == "Add"]
    theirs = {str(name): str(output) for node in sums for name, output in zip(node.input[:1], node.output)}
    back: dict[wire.FieldPath, bytes] = {
        ((wire.GRAPH, 0), (wire.NODE, index), (wire.NODE_OUTPUT, position)): theirs[name].encode()
        for index, node in enumerate(proto.graph.node)
        for position, name in enumerate(node.output)
        if name in theirs
    }
    return wire.substitute(left, back) if back else left


def _nodes(path: SidePath, layer: onnx.NodeProto, own: str) -> list[onnx.NodeProto]:
    maps, out = f"{path.name}.maps", f"{path.name}.path"
    if path.is_matrix:
        first = helper.make_node("MatMul", [layer.input[0], path.down], [maps], maps)
        second = helper.make_node("MatMul", [maps, path.up], [out], out)
    else:
        first = helper.make_node(layer.op_type, [layer.input[0], path.down], [maps], maps, domain=layer.domain)
        first.attribute.extend(layer.attribute)
        second = helper.make_node("Conv", [maps, path.up], [out], out, group=path.layer.group)
    return [first, second, helper.make_node("Add", [own, out], [path.sum_of], f"{path.name}.sum")]


def _is_ours(field: wire.Field, data: wire.Buffer, prefix: str) -> bool:
    """Whether a field of the graph is a node, an initializer or an input whose name begins with a prefix."""
    number = {
        wire.NODE: wire.NODE_NAME,
        wire.INITIALIZER: wire.TENSOR_NAME,
        wire.GRAPH_INPUT: wire.VALUE_INFO_NAME,
    }.get(field.number)
    return number is not None and wire.text_in(field, data, number).startswith(prefix)
