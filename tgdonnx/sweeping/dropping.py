"""The vendor's model with filters set to zero, in memory.

The paper drops meaningless filters to see whether the network needs them (Chen, Asma, Chan, MICCAI 2021, section 3.2). It
does not say what belongs to a filter; for us it is what would retrain with it: of every tensor the elements that the retrain
mask of mode ``paper`` sets to 1. To drop a filter sets them all to zero:

- its weights and its bias, so the layer gives 0 in that map;
- scale and offset of a norm over the map, so that the norm gives 0 too and not an offset. Running mean and variance stay;
- every other stored number of that map: a slope, a factor, a summand.

From there the zero goes where the graph takes it: through ReLU, pooling, resizing and padding with zeros it stays 0; a sum
or a Concat with maps of other filters keeps what those give; a Sigmoid makes the constant 0.5 of it, Softmax and norms over
several maps see a 0 among the others. A map in which a useful filter has a part keeps that part, and numbers per channel of
such a map stay, as do tensors that are frozen because something else uses them: then the map is constant and need not be 0.
Integer weights (behind DequantizeLinear) get their zero point, which is how they store 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import external_data_helper

from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import ModelFile, require_external_data
from tgdonnx.files.tensors import tensor_at, walk_tensors
from tgdonnx.layers import Parameter
from tgdonnx.selection import RetrainMask


def whole_model(file: ModelFile) -> onnx.ModelProto:
    """Returns a copy of a model with its external data in it; the file is as it was.

    Raises:
        ModelFileError: external data is missing, lies outside of the model's directory, or is shorter than it should be.
    """
    require_external_data(file)
    model = onnx.ModelProto()
    model.CopyFrom(file.proto)
    try:
        for tensor in walk_tensors(model):
            if tensor.is_external:
                external_data_helper.load_external_data_for_tensor(tensor.proto, str(file.path.parent))
                # Older versions leave it to the caller to say that the data is in the model now.
                tensor.proto.data_location = onnx.TensorProto.DEFAULT
                del tensor.proto.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelFileError(f"the external data of {file.path} cannot be read: {error}") from error
    return model


def drop_filters(model: onnx.ModelProto, masks: Sequence[RetrainMask]) -> onnx.ModelProto:
    """Returns a copy of a model in which whatever the masks let train is zero.

    Args:
        model: the vendor's model. What is external data in it stays so where nothing is dropped.
        masks: of mode ``paper``, planned on that model's file.
    """
    return replace_tensors(model, ((mask.parameter, _dropped(mask)) for mask in masks if mask.values.any()))


def _dropped(mask: RetrainMask) -> NDArray[Any]:
    """Returns the elements of a tensor with zero wherever the mask is 1."""
    parameter = mask.parameter
    stored = parameter.numpy()
    zero: NDArray[Any] = np.zeros((), stored.dtype)
    if parameter.quantization is not None:
        zero = parameter.quantized(np.zeros(parameter.shape, np.float32))
    return np.where(mask.values == 1, zero, stored).astype(stored.dtype, copy=False)


def replace_tensors(model: onnx.ModelProto, tensors: Iterable[tuple[Parameter, NDArray[Any]]]) -> onnx.ModelProto:
    """Returns a copy of a model in which stored tensors hold other elements, in their shape and type.

    Args:
        model: any model; tensors that are not replaced may be external data.
        tensors: what to replace, and by what.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for parameter, values in tensors:
        tensor = tensor_at(changed, parameter.path)
        name = tensor.name  # a Constant's tensor may have another name than its value, or none
        tensor.CopyFrom(ir.to_proto(ir.tensor(values, dtype=parameter.dtype)))
        tensor.name = name
    return changed
