"""The vendor's model, out of a masked one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir

from tgdonnx.files.access import writing
from tgdonnx.files.external_data import chunks
from tgdonnx.files.model_file import ModelFile, require_external_data, write_bytes
from tgdonnx.files.tensors import tensor_at
from tgdonnx.masked_model.reading import MaskedModel, with_vendor_values
from tgdonnx.overwriting import overwrite_values


def runnable_vendor(masked: MaskedModel) -> ModelFile:
    """Returns a model that computes what the vendor's does, to be opened in memory.

    It is the file that training starts from, with the vendor's values in it; those whose external data holds other values now
    are in the file.
    """
    outside = {
        name: values
        for name, values in masked.vendor_values.items()
        if isinstance(masked.network.stored_parameters[name].tensor, ir.ExternalTensor)
    }
    if not masked.vendor_values:
        return masked.start
    vendor = with_vendor_values(masked.network, masked.vendor_values)
    if not outside:
        return vendor
    model = onnx.ModelProto()
    model.CopyFrom(vendor.proto)
    for name, values in outside.items():
        parameter = masked.network.stored_parameters[name]
        tensor = tensor_at(model, parameter.path)
        stored_name = tensor.name  # a Constant's tensor may have another name than its value, or none
        tensor.CopyFrom(ir.to_proto(ir.tensor(values, dtype=parameter.dtype)))
        tensor.name = stored_name
    return ModelFile(masked.file.path, model.SerializeToString(), model)


def write_vendor(masked: MaskedModel, directory: Path) -> Path:
    """Writes the vendor's file into an empty directory, with its external data where it says that it is.

    Of external files no more is written than what tensors need.

    Returns:
        The model.

    Raises:
        ModelFileError: external data is missing.
        OutputError: something cannot be written.
    """
    base, start = masked.base, masked.start
    files = require_external_data(start)
    name = "vendor.onnx"
    while name in {Path(location).parts[0] for location in base.external_files}:
        name = f"_{name}"
    values = {masked.network.stored_parameters[name]: values for name, values in masked.vendor_values.items()}
    with writing(directory):
        for theirs, ours in zip(base.outside, start.outside):
            _put(directory / theirs.location, theirs.offset, chunks(files[ours.location], ours.offset, ours.length))
        for location, pieces in overwrite_values(base, values).external.items():
            for offset, content in pieces.items():
                _put(directory / location, offset, (content,))
    write_bytes(directory / name, base.data)
    return directory / name


def _put(path: Path, offset: int, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if path.exists() else "wb") as file:
        file.seek(offset)
        file.writelines(pieces)
