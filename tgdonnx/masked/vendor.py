"""The vendor's model, out of a masked one."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from tgdonnx.masked.reading import MaskedModel
from tgdonnx.modelfile import ModelFile, Pieces, copy_external_data, write_bytes
from tgdonnx.overwriting import overwrite_values
from tgdonnx.tensors import tensor_at


def runnable_vendor(masked: MaskedModel) -> ModelFile:
    """Returns a model that computes what the vendor's does, to be opened in memory.

    It is the vendor's file, but that weights whose external data holds other values now are in the file.
    """
    outside = {
        name: values
        for name, values in masked.vendor_values.items()
        if isinstance(masked.network.stored_parameters[name].tensor, ir.ExternalTensor)
    }
    if not outside:
        return masked.base
    model = onnx.ModelProto()
    model.CopyFrom(masked.base.proto)
    for name, values in outside.items():
        parameter = masked.network.stored_parameters[name]
        tensor = tensor_at(model, parameter.path)
        stored_name = tensor.name  # a Constant's tensor may have another name than its value, or none
        tensor.CopyFrom(ir.to_proto(ir.tensor(values, dtype=parameter.dtype)))
        tensor.name = stored_name
    return ModelFile(masked.base.path, model.SerializeToString(), model)


def write_vendor(masked: MaskedModel, output: Path) -> None:
    """Writes the vendor's file, with its external data beside it.

    Raises:
        ModelFileError: external data is missing.
        OutputError: external data is in the way, or is that of the masked model itself.
    """
    copy_external_data(masked.base, output, changes=_external(masked))
    write_bytes(output, masked.base.data)


def _external(masked: MaskedModel) -> Pieces:
    """Returns what of the external data beside a masked model is not the vendor's, as the vendor has it."""
    parameters = masked.network.stored_parameters
    vendor = {parameters[name]: values for name, values in masked.vendor_values.items()}
    return overwrite_values(masked.start, vendor).external
