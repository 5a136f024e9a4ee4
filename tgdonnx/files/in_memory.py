"""A model that a program holds in memory, as the file that it would be.

The vendor's file of such a model is its bytes: those given, or those that protobuf writes of it. All that is said of a vendor's
file, its hash and which bytes stay, is said of them. Whoever tunes what lies on disk and wants it proved against that very file
gives its path, or its bytes: protobuf may write the same model in other bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Union

import onnx
import onnx_ir as ir
from onnx_ir import external_data

from tgdonnx.errors import ModelFileError

IN_MEMORY = Path("the model in memory")
"""What messages and reports name in place of a path."""
ModelInMemory = Union[bytes, onnx.ModelProto, ir.Model]


def bytes_of(model: ModelInMemory) -> bytes:
    """Returns the file that a model would be; the model stays as it is. External data that onnx_ir can find is put into it.

    Raises:
        ModelFileError: it is no model, or too large for a file without external data.
    """
    if isinstance(model, bytes):
        return model
    try:
        if isinstance(model, ir.Model):
            model = ir.to_proto(external_data.load_to_model(model.clone()))
        if isinstance(model, onnx.ModelProto):
            content: bytes = model.SerializeToString()
            return content
    except Exception as error:  # both libraries raise whatever they stumble over
        raise ModelFileError(
            f"{IN_MEMORY} cannot be written as a file: {error or type(error).__name__}",
            remedy="save it, with external data if it has more than 2 GiB, and give the path",
        ) from error
    raise ModelFileError(
        f"expected a model as a path, bytes, onnx.ModelProto or onnx_ir.Model; got {type(model).__name__}"
    )
