"""A model without its weights: what can be known of shapes, quickly and in little memory."""

from __future__ import annotations

from typing import Optional

import onnx
from onnx import inliner, shape_inference

from tgdonnx.files.tensors import walk_tensors
from tgdonnx.runtime.packing import copy_but

_T = onnx.TensorProto
_SMALL = 2**14  # bytes that are kept, for the arguments of operators are among them


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a model without its large numbers, and with functions put in the place of their calls where that is possible.

    What the file declares of shapes within the graph is left out: much is wrong.

    Args:
        model: a model whose functions do not call themselves; it stays as it is.
    """
    bare: onnx.ModelProto = copy_but(model, "graph")
    bare.graph.CopyFrom(copy_but(model.graph, "initializer"))
    for tensor in model.graph.initializer:
        if tensor.data_location != _T.EXTERNAL and tensor.ByteSize() <= _SMALL:
            bare.graph.initializer.add().CopyFrom(tensor)
        else:
            bare.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    for found in walk_tensors(bare):
        if found.is_external or found.proto.ByteSize() > _SMALL:
            kept = onnx.TensorProto(name=found.proto.name, data_type=found.proto.data_type, dims=found.proto.dims)
            found.proto.CopyFrom(kept)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    if not bare.functions:
        return bare
    try:
        inlined: onnx.ModelProto = inliner.inline_local_functions(bare)
    except Exception:  # of onnx's, which share no base; then functions are looked at by themselves
        return bare
    return inlined


def with_shapes(weightless: onnx.ModelProto) -> Optional[onnx.ModelProto]:
    """Returns such a model with the shapes that follow from its inputs; None where nothing follows, since it fits nowhere."""
    try:
        inferred: onnx.ModelProto = shape_inference.infer_shapes(weightless)
    except Exception:  # as above; the runtime infers shapes, too, and will say what is wrong
        return None
    return inferred
