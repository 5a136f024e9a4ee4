"""BatchNormalization in inference form, as what it is: one affine map per channel.

    y = a * x + b,    a = scale / sqrt(var + epsilon),    b = offset - a * mean

ONNX Runtime's training graph would put batch statistics in place of the running ones, even when nothing in the node
trains. Where x comes straight from a Conv, the affine map is drawn into its parameters,

    conv(x; W, c) * a + b  =  conv(x; a * W, a * c + b)

so that neither forward nor backward passes over the activations for it: a, b and the products are as small as the
weights. They are computed in the graph, so the gradients of W, c, scale and offset are those of the original.
"""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.errors import UntrainableError
from tgdonnx.lowering.rewriting import PREFIX, before, constant, replace


class LowerBatchNormalization(ir.passes.InPlacePass):
    """Replaces every BatchNormalization of the main graph; subgraphs are left alone."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        nodes = [
            node for node in model.graph if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")
        ]
        for node in nodes:
            _lower(node)
        return ir.passes.PassResult(model, modified=bool(nodes))

    def ensures(self, model: ir.Model) -> None:
        """Checks that none is left."""
        if any(node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx") for node in model.graph):
            raise ir.passes.PostconditionError("a BatchNormalization is left")


def _lower(node: ir.Node) -> None:
    name = node.name or str(node.outputs[0].name)
    training = node.attributes.get("training_mode")
    if (training is not None and training.as_int() != 0) or any(output.name for output in node.outputs[1:]):
        raise UntrainableError(
            f"node {name!r} (BatchNormalization) is in training form, so its output depends on the batch; "
            "export the model for inference"
        )
    spatial = node.attributes.get("spatial")
    if spatial is not None and spatial.as_int() == 0:
        raise UntrainableError(
            f"node {name!r} (BatchNormalization) has statistics per pixel (spatial = 0); export it with a newer opset"
        )
    x, scale, offset, mean, var = node.inputs[:5]
    assert x is not None
    assert scale is not None
    assert offset is not None
    statistics = [ir.convenience.get_const_tensor(v) if v is not None else None for v in (mean, var)]
    if statistics[0] is None or statistics[1] is None:
        raise UntrainableError(
            f"node {name!r} (BatchNormalization) computes its mean or variance; they must be constants"
        )
    graph, y = node.graph, str(node.outputs[0].name)
    assert graph is not None
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    moments = [np.asarray(tensor.numpy(), np.float32) for tensor in statistics if tensor is not None]
    inverse = (1 / np.sqrt(moments[1] + np.float32(epsilon))).astype(np.float32)
    a = before(node, "Mul", [scale, constant(graph, f"{y}.inverse_std", inverse)], f"{y}.a")
    shift = constant(graph, f"{y}.mean", moments[0])
    conv = _foldable_conv(x)
    if conv is not None:
        _fold(conv, node, a, shift, offset)
        return
    if x.shape is None:
        raise UntrainableError(f"the rank of the input of node {name!r} (BatchNormalization) is not known")
    b = before(node, "Sub", [offset, before(node, "Mul", [a, shift], f"{y}.shift")], f"{y}.b")
    shape = constant(graph, f"{y}.channel_shape", np.array([-1] + [1] * (len(x.shape) - 2), np.int64))
    scaled = before(node, "Mul", [x, before(node, "Reshape", [a, shape], f"{y}.a_map")], f"{y}.scaled")
    replace(node, before(node, "Add", [scaled, before(node, "Reshape", [b, shape], f"{y}.b_map")], f"{y}.affine"))


def _foldable_conv(x: ir.Value) -> Optional[ir.Node]:
    """Returns the Conv that makes ``x``, if nobody else reads it and its weight is at hand."""
    conv = x.producer()
    if conv is None or conv.op_type != "Conv" or conv.domain not in ("", "ai.onnx"):
        return None
    weight = conv.inputs[1]
    known = weight is not None and weight.shape is not None and len(weight.shape) > 2
    return conv if known and len(list(x.uses())) == 1 and not x.is_graph_output() else None


def _fold(conv: ir.Node, node: ir.Node, a: ir.Value, mean: ir.Value, offset: ir.Value) -> None:
    graph, y, weight = node.graph, str(node.outputs[0].name), conv.inputs[1]
    assert graph is not None
    assert weight is not None
    assert weight.shape is not None
    bias = conv.inputs[2] if len(conv.inputs) > 2 else None
    shape = constant(graph, f"{y}.filter_shape", np.array([-1] + [1] * (len(weight.shape) - 1), np.int64))
    new_weight = before(node, "Mul", [weight, before(node, "Reshape", [a, shape], f"{y}.a_filter")], f"{y}.weight")
    if bias is None:
        new_bias = before(node, "Sub", [offset, before(node, "Mul", [a, mean], f"{y}.shift")], f"{y}.bias")
    else:
        centred = before(node, "Sub", [bias, mean], f"{y}.centred_bias")
        new_bias = before(node, "Add", [before(node, "Mul", [centred, a], f"{y}.scaled_bias"), offset], f"{y}.bias")
    new_weight.shape = weight.shape
    # The Conv moves to where the BatchNormalization was: its new inputs are computed just before.
    folded = ir.node("Conv", [conv.inputs[0], new_weight, new_bias], attributes=conv.attributes, name=conv.name)
    folded.outputs[0].name = f"{PREFIX}{y}.folded"
    folded.meta.update(conv.meta)
    graph.insert_before(node, folded)
    replace(node, folded.outputs[0])
    graph.remove(conv, safe=True)
