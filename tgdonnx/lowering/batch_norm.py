"""BatchNormalization in inference form, as what it is: one affine map per channel.

    y = a * x + b,    a = scale / sqrt(var + epsilon),    b = offset - a * mean

onnxruntime-training would put batch statistics in place of the running ones, even when nothing in the node trains.
Where x comes straight from a Conv, the affine map is drawn into its parameters,

    conv(x; W, c) * a + b  =  conv(x; a * W, a * c + b)

so that neither forward nor backward passes over the activations for it: a, b and the products are as small as the
weights. They are computed in the graph, so the gradients of W, c, scale and offset are those of the original.

Reshape hands its input's memory on, and onnxruntime-training 1.19.2 with its memory pattern on (the default) forgets that in
some training graphs: it gives the memory of a computed tensor away while the reshaped one is still to be read, and gradients
come out wrong. So only parameters and constants are reshaped here, whose memory lives as long as the session.
"""

from __future__ import annotations

from typing import ClassVar, Optional

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.graphs.builder import Builder, replace
from tgdonnx.graphs.nodes import optional_input, refusal, required_input
from tgdonnx.graphs.operators import is_standard


class LowerBatchNormalization(ir.passes.InPlacePass):
    """Replaces every BatchNormalization of the main graph; subgraphs are left alone."""

    op_types: ClassVar = frozenset(["BatchNormalization"])

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        nodes = [node for node in model.graph if is_standard(node, self.op_types)]
        for node in nodes:
            _lower(node)
        return ir.passes.PassResult(model, modified=bool(nodes))

    def ensures(self, model: ir.Model) -> None:
        """Checks that none is left."""
        if any(is_standard(node, self.op_types) for node in model.graph):
            raise ir.passes.PostconditionError("a BatchNormalization is left")


def _lower(node: ir.Node) -> None:
    training = node.attributes.get("training_mode")
    if (training is not None and training.as_int() != 0) or any(output.name for output in node.outputs[1:]):
        raise refusal(node, "is in training form, so its output depends on the batch", "export the model for inference")
    x, scale, offset, mean, var = node.inputs[:5]
    assert x is not None
    assert scale is not None
    assert offset is not None
    statistics = [ir.convenience.get_const_tensor(v) if v is not None else None for v in (mean, var)]
    if statistics[0] is None or statistics[1] is None:
        raise refusal(node, "computes its mean or variance", "export the model with constants there")
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    moments = [np.asarray(tensor.numpy(), np.float32) for tensor in statistics if tensor is not None]
    if not (moments[1] + np.float32(epsilon) > 0).all():
        raise refusal(node, "has a variance that is negative or no number", "get the model again")
    inverse = (1 / np.sqrt(moments[1] + np.float32(epsilon))).astype(np.float32)
    conv = _foldable_conv(x)
    if conv is not None:
        _fold(conv, node, inverse, moments[0])
        return
    if x.shape is None:
        raise refusal(node, "has an input of unknown rank", "declare the shapes of the inputs of the model")
    # Parameters are reshaped, never what is computed from them: see the note on Reshape above.
    channels = (-1, *(1,) * (len(x.shape) - 2))
    build = Builder.before(node)
    a = build("Mul", build.reshape(scale, channels), build.constant(inverse.reshape(channels), "inverse_std"))
    shift = build("Mul", a, build.constant(moments[0].reshape(channels), "mean"))
    b = build("Sub", build.reshape(offset, channels), shift)
    replace(node, build("Add", build("Mul", x, a), b))


def _foldable_conv(x: ir.Value) -> Optional[ir.Node]:
    """Returns the Conv that makes ``x``, if nobody else reads it and its weight is at hand."""
    conv = x.producer()
    if conv is None or not is_standard(conv, "Conv"):
        return None
    weight = conv.inputs[1]
    known = weight is not None and weight.shape is not None and len(weight.shape) > 2
    return conv if known and len(list(x.uses())) == 1 and not x.is_graph_output() else None


def _fold(conv: ir.Node, node: ir.Node, inverse: NDArray[np.float32], mean: NDArray[np.float32]) -> None:
    build, bias = Builder.before(node), optional_input(conv, 2)
    weight, scale, offset = required_input(conv, 1), required_input(node, 1), required_input(node, 2)
    assert weight.shape is not None
    filters = (-1, *(1,) * (len(weight.shape) - 1))
    a_filter = build(
        "Mul", build.reshape(scale, filters), build.constant(inverse.reshape(filters), "inverse_std_filter")
    )
    new_weight = build("Mul", weight, a_filter)
    a, shift = build("Mul", scale, build.constant(inverse, "inverse_std")), build.constant(mean, "mean")
    if bias is None:
        new_bias = build("Sub", offset, build("Mul", a, shift))
    else:
        new_bias = build("Add", build("Mul", build("Sub", bias, shift), a), offset)
    new_weight.shape, new_weight.type = weight.shape, weight.type
    # The Conv moves to where the BatchNormalization was: its new inputs are computed just before.
    (output,) = build.several("Conv", [conv.inputs[0], new_weight, new_bias], conv.attributes, word="folded")
    folded, graph = output.producer(), conv.graph
    assert folded is not None
    assert graph is not None
    folded.name = conv.name
    folded.meta.update(conv.meta)
    replace(node, output)
    graph.remove(conv, safe=True)
