"""The optimizer model: one node of the runtime that updates all parameters, behind nodes that clip, if asked for."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tgdonnx.engines.protocol import OptimizerName

_DOMAIN, _OPSET = "com.microsoft", 17


def optimizer_model(name: OptimizerName, count: int, *, clip_norm: Optional[float], ir_version: int) -> onnx.ModelProto:
    """Returns the optimizer model.

    AdamW has beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 and bias correction (Kingma and Ba, 2015). Its decoupled weight
    decay is off: it would move frozen filters; regularisation goes into the gradient instead.

    Args:
        name: ``adamw``, or ``sgd`` (without momentum).
        count: the number of parameters.
        clip_norm: the gradients are scaled down together so that their Euclidean norm is at most this; None for no limit.
        ir_version: ONNX IR version of the model.
    """
    sequences = ["params", "gradients", "first_order_moments"]
    nodes: list[onnx.NodeProto] = []
    values: list[onnx.TensorProto] = []
    gradients = "gradients"
    if clip_norm is not None:
        nodes, values = _clip(count, clip_norm)
        gradients = "clipped"
    if name == "adamw":
        sequences.append("second_order_moments")
        inputs = ["learning_rate", "step", "params", gradients, "first_order_moments", "second_order_moments"]
        attributes: dict[str, Any] = {
            "alpha": 0.9,
            "beta": 0.999,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "correct_bias": 1,
            "adam_mode": 0,
        }
        nodes.append(helper.make_node("AdamWOptimizer", inputs, ["updated"], "adamw", domain=_DOMAIN, **attributes))
    else:
        # The runtime hands over moments to any optimizer; this one does not read them.
        inputs = ["learning_rate", "params", gradients]
        nodes.append(helper.make_node("SGDOptimizerV2", inputs, ["updated"], "sgd", domain=_DOMAIN))
    graph = helper.make_graph(
        nodes,
        "optimizer",
        [
            helper.make_tensor_value_info("learning_rate", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("step", TensorProto.INT64, [1]),
            *(helper.make_tensor_sequence_value_info(sequence, TensorProto.FLOAT, None) for sequence in sequences),
        ],
        [helper.make_tensor_value_info("updated", TensorProto.BOOL, [1])],
        initializer=values,
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tgdonnx")


def average_gradients(model: onnx.ModelProto, count: int, batches: int) -> None:
    """Makes an optimizer model take gradients that were summed over several batches, and use their mean; in place.

    Args:
        model: as `optimizer_model` gives it.
        count: the number of parameters.
        batches: how many batches are summed.
    """
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["mean_gradients" if value == "gradients" else value for value in node.input]
    before: list[onnx.NodeProto] = []
    graph.initializer.append(numpy_helper.from_array(np.array(batches, np.float32), "batches"))
    for i in range(count):
        graph.initializer.append(numpy_helper.from_array(np.array(i, np.int64), f"place{i}"))
        before.append(helper.make_node("SequenceAt", ["gradients", f"place{i}"], [f"sum{i}"], f"sum{i}"))
        before.append(helper.make_node("Div", [f"sum{i}", "batches"], [f"mean{i}"], f"mean{i}"))
    means = [f"mean{i}" for i in range(count)]
    before.append(helper.make_node("SequenceConstruct", means, ["mean_gradients"], "mean_gradients"))
    after = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *after])


def _clip(count: int, limit: float) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Returns nodes that scale the gradients by ``min(1, limit / norm)``, and the numbers they read.

    The runtime has a node for that, ``InplaceClipGradNorm``, but two runs of it differ in the last bits, and a resumed run
    must not differ from one that was not cut off. So do sums in float32, with the place of the data in memory; those of
    float64 differ too, but not in what is left of them in float32.
    """
    nodes, parts, clipped = [], [], []

    def op(op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    for i in range(count):
        gradient = op("SequenceAt", ["gradients", f"index{i}"], f"gradient{i}")
        exact = op("Cast", [gradient], f"exact{i}", to=TensorProto.DOUBLE)
        parts.append(op("ReduceSumSquare", [exact], f"square{i}", keepdims=0))
    norm = op("Cast", [op("Sqrt", [op("Sum", parts, "squares")], "root")], "norm", to=TensorProto.FLOAT)
    # Where nothing exceeds the limit the factor is exactly 1.
    factor = op("Div", ["limit", op("Max", [norm, "limit"], "larger")], "factor")
    for i in range(count):
        clipped.append(op("Mul", [f"gradient{i}", factor], f"clipped{i}"))
    op("SequenceConstruct", clipped, "clipped")
    numbers = [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in range(count)]
    return nodes, [*numbers, numpy_helper.from_array(np.array(limit, np.float32), "limit")]
