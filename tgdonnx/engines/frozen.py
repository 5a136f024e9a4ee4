"""Frozen tensors of models that one message of protobuf cannot hold: aside while graphs are built, then in a file of their own.

A message ends at 2 GiB, and the builder of gradients takes a graph as bytes. What does not train need not be in it: it is
enough that it is declared. So where a model's tensors exceed `bounds.MESSAGE_BYTES`, the large ones that are frozen become
inputs of the graph, are read from disk only by who needs them, and end in ``frozen.data``, to which the training and the eval
model both refer. Smaller models hold everything themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from tgdonnx import bounds
from tgdonnx.errors import ArtifactsError, ModelFileError
from tgdonnx.files.model_file import load_model, require_external_data
from tgdonnx.graphs.captured import inner_graphs

FROZEN_DATA = "frozen.data"
_ALIGNMENT = 4096  # bytes; runtimes map pages

Aside = Mapping[str, ir.TensorProtocol]
"""By the names of inputs of a graph, the tensors that they stand for."""


def load_small(model: ir.Model) -> None:
    """Reads the external data of a model into memory, in place; of one that is large as a whole, only the small tensors."""
    if _total_bytes(model) <= bounds.MESSAGE_BYTES:
        ir.external_data.load_to_model(model)
        return
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and (tensor.nbytes <= bounds.ASIDE_BYTES or graph != model.graph):
                value.const_value = in_memory(tensor)


def set_aside(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Makes the large frozen tensors of a large model inputs of its graph, in place.

    Args:
        model: a graph of which the parameters are inputs already; what it stores is frozen.

    Returns:
        By the names of the new inputs, which are the last, the tensors.
    """
    graph = model.graph
    aside: dict[str, ir.TensorProtocol] = {}
    if _total_bytes(model) > bounds.MESSAGE_BYTES:
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= bounds.ASIDE_BYTES:
                continue
            aside[name] = tensor
            value.shape = value.shape or ir.Shape(tuple(tensor.shape))  # type: ignore[arg-type]  # all numbers
            value.dtype = value.dtype or tensor.dtype
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    ir.external_data.load_to_model(model)  # what stays is in the message
    return aside


def require_room(parameters: Iterable[onnx.TensorProto]) -> None:
    """Checks that the parameters fit into a checkpoint and into the messages that they are written with.

    Raises:
        ArtifactsError: they do not.
    """
    size = sum(len(tensor.raw_data) for tensor in parameters)
    if size > bounds.MESSAGE_BYTES:
        raise ArtifactsError(
            f"what trains takes {size / 2**30:.1f} GiB; expected at most {bounds.MESSAGE_BYTES / 2**30:g} GiB: select fewer "
            "filters, or whole ones in form thin, of which only these are kept"
        )


def put_back(model: ir.Model, aside: Aside) -> None:
    """Makes what was set aside stored tensors again, in place; nothing is read."""
    graph = model.graph
    for value in [value for value in graph.inputs if value.name in aside]:
        graph.inputs.remove(value)
        value.const_value = aside[str(value.name)]
        graph.register_initializer(value)


def write_frozen(path: Path, *several: Aside) -> dict[int, tuple[int, int]]:
    """Writes tensors one after the other; the same one is written once.

    Returns:
        For the `id` of each tensor where it begins and how long it is, in bytes.
    """
    places: dict[int, tuple[int, int]] = {}
    with path.open("wb") as file:
        for tensor in (tensor for aside in several for tensor in aside.values()):
            if id(tensor) in places:
                continue
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            places[id(tensor)] = (file.tell(), tensor.nbytes)
            if isinstance(tensor, ir.ExternalTensor):
                file.write(memoryview(tensor.tobytes()))
                tensor.release()
            else:
                file.write(tensor.tobytes())
    return places


def refer(model: onnx.ModelProto, aside: Aside, places: Mapping[int, tuple[int, int]]) -> None:
    """Lets a model read what was set aside from `FROZEN_DATA`, in place.

    Args:
        model: a graph with inputs in place of the tensors.
        aside: the tensors, by the names of these inputs.
        places: as `write_frozen` gives them.
    """
    graph = model.graph
    inputs = [value for value in graph.input if value.name not in aside]
    kept = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in inputs]
    del graph.input[:]
    graph.input.extend(kept)
    for name, tensor in aside.items():
        offset, length = places[id(tensor)]
        stored = graph.initializer.add(
            name=name, data_type=int(tensor.dtype), dims=list(tensor.shape), data_location=onnx.TensorProto.EXTERNAL
        )
        for key, entry in (("location", FROZEN_DATA), ("offset", offset), ("length", length)):
            stored.external_data.add(key=key, value=str(entry))


def share_large(models: Sequence[ir.Model], directory: Path) -> None:
    """Puts the large tensors of models into `FROZEN_DATA`, each once, where all of them together are large; in place.

    Args:
        models: graphs, some of whose initializers are the same tensors.
        directory: where the file goes, and the models will.
    """
    values = [value for model in models for value in model.graph.initializers.values()]
    tensors = {id(value.const_value): value.const_value for value in values if value.const_value is not None}
    if sum(tensor.nbytes for tensor in tensors.values()) <= bounds.SHARED_BYTES:
        return
    large = {str(key): tensor for key, tensor in tensors.items() if tensor.nbytes > bounds.ASIDE_BYTES}
    places = write_frozen(directory / FROZEN_DATA, large)
    for value in values:
        tensor = value.const_value
        if tensor is not None and id(tensor) in places:
            offset, length = places[id(tensor)]
            value.const_value = ir.ExternalTensor(
                FROZEN_DATA,
                offset,
                length,
                tensor.dtype,
                shape=ir.Shape(tuple(tensor.shape)),  # type: ignore[arg-type]  # all numbers
                name=str(value.name),
                base_dir=directory,
            )


def require_frozen(models: Collection[Path]) -> None:
    """Checks that what models of an artifacts directory refer to is there, whole: a runtime may die of what is not.

    Raises:
        ArtifactsError: it is not.
    """
    for path in models:
        try:
            require_external_data(load_model(path))
        except ModelFileError as error:
            raise ArtifactsError(str(error), remedy="build the artifacts again") from error


def in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Returns a tensor with its elements in memory."""
    if not isinstance(tensor, ir.ExternalTensor):
        return tensor
    loaded: ir.TensorProtocol = ir.external_data.convert_tensors_from_external([tensor])[0]
    tensor.release()
    return loaded


def _total_bytes(model: ir.Model) -> int:
    """Returns the bytes of all tensors, those of parameters included."""
    return sum(tensor.nbytes for tensor in _tensors(model))


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        values = {*graph.initializers.values(), *graph.inputs}
        yield from (value.const_value for value in values if value.const_value is not None)
        for node in graph:
            yield from (a.as_tensor() for a in node.attributes.values() if a.type == ir.AttributeType.TENSOR)
            pending += inner_graphs(node)
