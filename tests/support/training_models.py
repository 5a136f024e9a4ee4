"""Networks for the training tests, beside those of `models`: graphs as text, with random tensors of the right kind."""

from __future__ import annotations

from typing import Any, Union

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.support import models

Array = NDArray[Any]


def text_model(
    text: str, *, seed: int = 0, opset: int = 17, ir_version: int = 8, **tensors: Union[tuple[int, ...], Array]
) -> onnx.ModelProto:
    """Parses a graph and gives it initializers.

    Args:
        text: the graph, as in ``g (float[N,2,H,W] x) => (float[N,3,H,W] y) { y = Conv(x, w) }``. Nodes without a name get
            that of their first output in capitals.
        seed: of the random numbers.
        opset: version of the default operator set.
        ir_version: of the model.
        tensors: for names of initializers their values, or their shape; then they are random, and positive where they
            are variances.
    """
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": {opset}]>\n{text}')
    rng = np.random.default_rng(seed)
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for name, given in tensors.items():
        array = given
        if isinstance(given, tuple):
            fan_in = np.prod(given[1:]) if len(given) > 1 else 1
            values = rng.uniform(0.5, 2.0, given) if name in variances else rng.normal(size=given) / np.sqrt(fan_in)
            array = values.astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        if ir_version < 4:
            model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, np.shape(array)))
    for node in model.graph.node:
        node.name = node.name or node.output[0].upper()
    onnx.checker.check_model(model, full_check=True)
    return model


def dncnn_without_batch_norm(seed: int = 0) -> onnx.ModelProto:
    """`tests.support.models.dncnn` with every batch norm taken out."""
    model = models.dncnn(seed)
    renamed: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        if node.op_type == "BatchNormalization":
            renamed[node.output[0]] = inputs[0]
        else:
            node.input[:] = inputs
            kept.append(node)
    used = {name for node in kept for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model, full_check=True)
    return model
