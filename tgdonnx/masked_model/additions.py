"""What a masked file has besides the vendor's: tensors known by the ends of their names, and metadata by its keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from tgdonnx.errors import MaskedModelError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelFile
from tgdonnx.overwriting import little_endian

MASKS, REGROWN, ADAPTED = "1", "2", "3"
"""The formats: masks alone, masks with values to start from, and masks with side paths."""

SUFFIX, VENDOR_SUFFIX, SET_SUFFIX = ".retrain_mask", ".vendor_values", ".set_mask"
FORMAT_KEY, SELECTION_KEY, BASE_KEY = "tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256"
VENDOR_KEY = "tgdonnx.vendor_values_sha256"
EXTERNAL_KEY = "tgdonnx.vendor_external_data"
"""Only there where the model has external data."""
GATE_KEY = "tgdonnx.gate"
"""The metadata of gated models, which hold two networks: none is trained from."""

SUFFIXES: Mapping[str, tuple[str, ...]] = {
    MASKS: (SUFFIX,),
    REGROWN: (SUFFIX, VENDOR_SUFFIX, SET_SUFFIX),
    ADAPTED: (SUFFIX,),
}
KEYS: Mapping[str, tuple[str, ...]] = {
    MASKS: (FORMAT_KEY, SELECTION_KEY, BASE_KEY),
    REGROWN: (FORMAT_KEY, SELECTION_KEY, BASE_KEY, VENDOR_KEY),
    ADAPTED: (FORMAT_KEY, SELECTION_KEY, BASE_KEY),
}


def metadata_bytes(entries: Mapping[str, str]) -> bytes:
    """Returns serialised metadata, to be added at the end of a model."""
    model = onnx.ModelProto()
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString())


def is_masked(file: ModelFile) -> bool:
    """Whether a file says of itself that it is a masked model: all that such a file has to say, for a part proves nothing."""
    return {entry.key for entry in file.proto.metadata_props} >= set(KEYS[MASKS])


def require_unmasked(file: ModelFile) -> None:
    """Checks that a model is no masked or gated one, and has nothing that would make a masked one of it that is not ours.

    Raises:
        MaskedModelError: it is or has.
    """
    if any(entry.key == GATE_KEY for entry in file.proto.metadata_props):
        raise MaskedModelError(
            f"{file.path} is gated: it holds the vendor's network and a tuned one",
            remedy="start from the vendor's file, or from the tuned one",
        )
    if is_masked(file):
        raise MaskedModelError(f"{file.path} has retrain masks already", remedy="start from the vendor's file")
    for what, name in _marks(file):
        raise MaskedModelError(
            f"{file.path} has {what} {name!r}, which is how masked models are marked, though it is none",
            remedy="start from the vendor's file, or rename it there if that is the vendor's file",
        )


def _marks(file: ModelFile) -> Iterator[tuple[str, str]]:
    """Yields what in a file goes by a name that masked models keep for themselves."""
    for entry in file.proto.metadata_props:
        if entry.key in (*KEYS[REGROWN], EXTERNAL_KEY):
            yield "metadata", entry.key
    stored = [tensor.name for tensor in file.proto.graph.initializer]
    stored += [tensor.values.name for tensor in file.proto.graph.sparse_initializer]
    for name in map(str, stored):  # a damaged file can have bytes there
        if name.endswith(SUFFIXES[REGROWN]):
            yield "a tensor", name


def without_additions(data: bytes, version: str) -> bytes:
    """Returns a masked file of a format without what the format adds."""
    return wire.remove_fields(
        data,
        graph=lambda field, data: _is_tensor(field, data, SUFFIXES[version]),
        model=lambda field, data: _is_metadata(field, data, (*KEYS[version], EXTERNAL_KEY)),
    )


def hash_of_values(values: Mapping[str, NDArray[Any]]) -> str:
    """Returns the SHA-256 of tensors by name, in hex."""
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode() + b"\0" + little_endian(values[name]))
    return digest.hexdigest()


def _is_tensor(field: wire.Field, data: wire.Buffer, suffixes: tuple[str, ...]) -> bool:
    number = {wire.INITIALIZER: wire.TENSOR_NAME, wire.GRAPH_INPUT: wire.VALUE_INFO_NAME}.get(field.number)
    return number is not None and wire.text_in(field, data, number).endswith(suffixes)


def _is_metadata(field: wire.Field, data: wire.Buffer, keys: tuple[str, ...]) -> bool:
    return field.number == wire.METADATA_PROPS and wire.text_in(field, data, wire.ENTRY_KEY) in keys
