"""What must hold of a file before we work with it: versions, domains, nodes of the right form, tensors as large as they say.

A checker would refuse more, also files that run well: declared shapes, for one, are wrong in many of them. Names are
looked at in ``names``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Optional

import onnx
from google.protobuf.message import Message
from onnx import helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.files.tensors import bits_of, describe, walk_tensors
from tgdonnx.graphs.operators import CONVOLUTIONS, MATRIX_PRODUCTS, STANDARD_DOMAINS
from tgdonnx.layers.names import at_fault, graphs_of, require_names
from tgdonnx.layers.workload import require_bounded

_T = onnx.TensorProto
_NO_VERSION = 2**31  # numbers this large are damage, and onnx cannot take them
_AGAIN = "get the file again, or export it again"
# Domains whose operators runtimes bring along; of others the file has to define them.
RUNTIME_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"}
)


def require_consistent(file: ModelFile) -> None:
    """Checks the graph of a file, its subgraphs and its functions.

    Raises:
        ModelFileError: an operator set is not there or not known, a function is missing, a name leads nowhere or to two
            things, nodes read each other in a circle, a tensor has other data than it says, or a node has too few or too
            many inputs or an attribute of a type that its operator does not know.
    """
    opsets = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in file.proto.opset_import}
    require_bounded(file)
    _require_text(file.proto, file)
    _require_versions(opsets, file)
    for tensor in walk_tensors(file.proto):
        require_data(tensor.proto, file, tensor.path)
    for graph in graphs_of(file.proto.graph):
        _require_nodes(graph.node, opsets, file)
        for node in graph.node:
            _require_form(node, opsets, file)
    for function in file.proto.functions:
        own = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in function.opset_import}
        _require_nodes(function.node, {**opsets, **own}, file)
    require_names(file)
    _require_numbers(file)


def _require_text(message: Message, file: ModelFile) -> None:
    """Checks that names are text: files can hold any bytes for one."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_MESSAGE, field.TYPE_STRING):
            continue
        for each in value if field.is_repeated else (value,):
            if isinstance(each, bytes):
                raise ModelFileError(f"{file.path} holds {each!r} where a name should be; {_AGAIN}")
            if field.type == field.TYPE_MESSAGE:
                _require_text(each, file)


def _require_versions(opsets: dict[str, int], file: ModelFile) -> None:
    for domain, version in opsets.items():
        if not 1 <= version < _NO_VERSION:
            raise ModelFileError(
                f"{file.path} imports version {version} of the operator set {domain or 'ai.onnx'!r}; "
                f"expected 1 or more: {_AGAIN}"
            )
    newest = onnx.defs.onnx_opset_version()
    if opsets.get("", 1) > newest:
        raise ModelFileError(
            f"{file.path} is of opset {opsets['']}; the installed onnx knows up to {newest}: "
            "update onnx, or export the model with an older opset"
        )


def _require_nodes(nodes: Iterable[onnx.NodeProto], opsets: dict[str, int], file: ModelFile) -> None:
    """Checks that operators are from sets that the file imports, and functions there."""
    functions = {(function.domain, function.name) for function in file.proto.functions}
    domains = {domain for domain, _ in functions}
    for node in nodes:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in opsets and file.proto.opset_import:  # the oldest files import none
            raise at_fault(
                node, file, f"is of the domain {domain or 'ai.onnx'!r}, which the file does not import", _AGAIN
            )
        if domain in domains - RUNTIME_DOMAINS and (domain, node.op_type) not in functions:
            raise at_fault(
                node, file, f"calls the function {domain}.{node.op_type}, which the file does not define", _AGAIN
            )
        if node.op_type == "Constant" and not any(node.output):
            raise at_fault(node, file, "makes a value without a name", _AGAIN)
        for attribute in node.attribute:
            is_tensor = attribute.type == onnx.AttributeProto.TENSOR and not attribute.ref_attr_name
            if is_tensor and not attribute.HasField("t"):
                raise at_fault(node, file, f"has no tensor in {attribute.name!r}", _AGAIN)


def require_data(tensor: onnx.TensorProto, file: ModelFile, path: Optional[wire.FieldPath] = None) -> None:
    """Checks type and dimensions of a tensor, and that it holds as much, before anything is sized by them.

    Args:
        tensor: the tensor.
        file: where it is.
        path: its place there; without it, the tensor goes by its name.
    """
    what = f"{tensor.name!r} in {file.path}" if path is None else f"{describe(file.proto, path)} of {file.path}"
    if any(dim < 0 for dim in tensor.dims):
        raise ModelFileError(f"{what} has a negative size: {list(tensor.dims)}; {_AGAIN}")
    if tensor.data_type not in _T.DataType.values() or tensor.data_type == _T.UNDEFINED:
        raise ModelFileError(f"{what} is of the data type {tensor.data_type}, which there is not; {_AGAIN}")
    if tensor.data_location == _T.EXTERNAL:
        return  # compared with the file when it is read
    elements, bits = math.prod(tensor.dims), bits_of(tensor.data_type)
    if tensor.HasField("raw_data"):
        found, expected, unit = len(tensor.raw_data), -(-elements * bits // 8), "bytes"
    else:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        found, expected, unit = len(getattr(tensor, field)), elements, "numbers"
        if tensor.data_type in (_T.COMPLEX64, _T.COMPLEX128):
            expected *= 2
        elif 0 < bits < 8:
            expected = -(-elements * bits // 8)
    if found != expected:
        raise ModelFileError(f"{what} has {found:,} {unit}; expected {expected:,} for {list(tensor.dims)}: {_AGAIN}")


def _require_numbers(file: ModelFile) -> None:
    """Checks that layers do not compute with text or with nothing, and that no input of the graph has a size of 0."""
    graph = file.proto.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in graph.input if value.name not in stored}
    for name, kind in inputs.items():
        if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in kind.shape.dim):
            raise ModelFileError(
                f"the input {name!r} of {file.path} has an axis of size 0",
                remedy="give the axis its size, or a name if it is open",
            )
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS | MATRIX_PRODUCTS or node.domain not in STANDARD_DOMAINS:
            continue
        for name in node.input:
            kind = stored[name].data_type if name in stored else inputs[name].elem_type if name in inputs else _T.FLOAT
            if kind == _T.STRING:
                raise at_fault(node, file, f"reads {name!r}, which is text", _AGAIN)
            if name in stored and 0 in stored[name].dims:
                raise at_fault(node, file, f"reads {name!r}, which is empty: {list(stored[name].dims)}", _AGAIN)


def _is_dtype(number: int) -> bool:
    return number in _T.DataType.values() and number != _T.UNDEFINED


def _require_ports(node: onnx.NodeProto, schema: onnx.defs.OpSchema, file: ModelFile) -> None:
    """Checks that no input is left out that an operator needs, and that it has no more outputs than it gives."""
    needed = onnx.defs.OpSchema.FormalParameterOption.Single
    for formal, name in zip(schema.inputs, node.input):
        if formal.option == needed and not name:
            raise at_fault(node, file, f"leaves out its input {formal.name!r}", _AGAIN)
    if len(node.output) > schema.max_output:
        raise at_fault(node, file, f"has {len(node.output)} outputs; expected at most {schema.max_output}", _AGAIN)


def _require_form(node: onnx.NodeProto, opsets: dict[str, int], file: ModelFile) -> None:
    """Checks how many inputs a node has and of which types its attributes are, if its operator is known."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain, 1)
    if not onnx.defs.has(node.op_type, domain=domain, max_inclusive_version=version):
        return
    schema = onnx.defs.get_schema(node.op_type, version, domain)
    if not schema.min_input <= len(node.input) <= schema.max_input:
        least, most = schema.min_input, schema.max_input
        raise at_fault(
            node,
            file,
            f"has {len(node.input)} inputs; expected {least if least == most else f'{least} to {most}'}",
            _AGAIN,
        )
    if node.op_type == "Constant" and domain == "" and [a.name in schema.attributes for a in node.attribute] != [True]:
        raise at_fault(node, file, "has no value, or several", _AGAIN)
    if node.op_type == "Constant" and domain == "" and node.attribute[0].name == "sparse_value":
        raise at_fault(node, file, "has a sparse value", "export the model with dense tensors")
    _require_ports(node, schema, file)
    types = onnx.AttributeProto.AttributeType
    given = {attribute.name for attribute in node.attribute}
    for name, expectation in schema.attributes.items():
        if expectation.required and name not in given:
            raise at_fault(node, file, f"has no attribute {name!r}", _AGAIN)
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            raise at_fault(node, file, f"takes {attribute.name!r} from a function that it is not in", _AGAIN)
        if attribute.name not in schema.attributes:
            continue
        expected = types.Value(str(schema.attributes[attribute.name].type).rpartition(".")[2])
        if attribute.type != expected:
            what = f"{types.Name(attribute.type)}; expected {types.Name(expected)}"
            raise at_fault(node, file, f"has {attribute.name!r} of type {what}", _AGAIN)
        if node.op_type == "Cast" and attribute.name == "to" and not _is_dtype(attribute.i):
            raise at_fault(node, file, f"casts to the data type {attribute.i}, which there is not", _AGAIN)
