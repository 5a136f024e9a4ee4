"""Where the elements of trained tensors lie in the vendor's files, so that any language can export by overwriting bytes.

A tensor that is stored in one piece, row-major and little-endian, and whose numbers are floating-point, needs no more than
that: the numbers of the checkpoint, of the stored type, go to their places in a copy of the file. Of others only
`tgdonnx.export` knows how; the manifest says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from tgdonnx.artifacts.manifest import StoredBytes, WriteBack
from tgdonnx.artifacts.thin import ThinParameter
from tgdonnx.files import wire
from tgdonnx.layers import Parameter
from tgdonnx.masked_model import MaskedModel

_ROUNDED = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def write_back_of(model: MaskedModel, parameters: Sequence[Parameter]) -> Mapping[str, WriteBack]:
    """Returns for the names of stored tensors how new values get into the vendor's files.

    Args:
        model: the masked model.
        parameters: the tensors, as stored.
    """
    if model.adapted is not None:
        reason = "it is of a side path, which the vendor's file does not have"
        return {parameter.name: WriteBack("export", None, reason) for parameter in parameters}
    data, outside = model.base.data, {tensor.path: tensor for tensor in model.base.outside}
    spans = wire.locate(data, [parameter.path for parameter in parameters])
    found = {}
    for parameter in parameters:
        external = outside.get(parameter.path)
        if external is not None:
            stored = [StoredBytes(external.location, external.offset, external.length)]
        else:
            pieces = wire.locate_elements(data, spans[parameter.path], parameter.itemsize)
            stored = [StoredBytes(None, piece.start, len(piece)) for piece in pieces]
        found[parameter.name] = _write_back(parameter, stored, set_besides=bool(model.vendor_values))
    return found


def write_back_of_piece(whole: WriteBack, piece: ThinParameter, dtype: ir.DataType) -> WriteBack:
    """Returns how a parameter that holds all or a piece of a tensor gets into the vendor's files."""
    if dtype == ir.DataType.DOUBLE and not piece.part and whole.how == "rounded":
        return WriteBack("export", whole.stored, "frozen numbers of float64 have more digits than the parameter")
    return whole


def _write_back(parameter: Parameter, stored: Sequence[StoredBytes], *, set_besides: bool) -> WriteBack:
    place = stored[0] if len(stored) == 1 else None
    if set_besides:
        return WriteBack("export", place, "mode regrow sets numbers besides those that train")
    if parameter.dtype != ir.DataType.FLOAT and parameter.dtype not in _ROUNDED:
        return WriteBack("export", place, "integers take the scale and zero point of their DequantizeLinear")
    if place is None:
        return WriteBack("export", None, f"the elements lie in {len(stored)} pieces")
    return WriteBack("copied" if parameter.dtype == ir.DataType.FLOAT else "rounded", place)
