"""Frozen tensors of large models, in a file of their own: one message of protobuf cannot hold more than 2 GiB.

Where a model's tensors exceed `bounds.MESSAGE_BYTES`, the large ones are read from disk only by who needs them. Where those of
all models of a directory exceed `bounds.SHARED_BYTES`, the large ones end in ``frozen.data``, to which the models refer.
Smaller models hold everything themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import onnx_ir as ir

from tgdonnx import bounds
from tgdonnx.errors import ArtifactsError, ModelFileError
from tgdonnx.files.model_file import load_model, require_external_data
from tgdonnx.graphs.captured import inner_graphs

FROZEN_DATA = "frozen.data"
_ALIGNMENT = 4096  # bytes; runtimes map pages


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


def require_room(parameters: Iterable[ir.TensorProtocol]) -> None:
    """Checks that the parameters fit into a checkpoint.

    Raises:
        ArtifactsError: they do not.
    """
    size = sum(tensor.nbytes for tensor in parameters)
    if size > bounds.MESSAGE_BYTES:
        raise ArtifactsError(
            f"what trains takes {size / 2**30:.1f} GiB; expected at most {bounds.MESSAGE_BYTES / 2**30:g} GiB: select fewer "
            "filters, or whole ones in form thin, of which only these are kept"
        )


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
    large = [tensor for tensor in tensors.values() if tensor.nbytes > bounds.ASIDE_BYTES]
    places = _write(directory / FROZEN_DATA, large)
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


def _write(path: Path, tensors: Iterable[ir.TensorProtocol]) -> dict[int, tuple[int, int]]:
    """Writes tensors one after the other.

    Returns:
        For the `id` of each tensor where it begins and how long it is, in bytes.
    """
    places: dict[int, tuple[int, int]] = {}
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT))
            places[id(tensor)] = (file.tell(), tensor.nbytes)
            if isinstance(tensor, ir.ExternalTensor):
                file.write(memoryview(tensor.tobytes()))
                tensor.release()
            else:
                file.write(tensor.tobytes())
    return places


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
