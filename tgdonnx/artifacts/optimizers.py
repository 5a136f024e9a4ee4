"""The optimizer model: one node of the runtime that updates all parameters, after one that clips, if asked for."""

from __future__ import annotations

from typing import Any, Literal, Optional

import onnx
from onnx import TensorProto, helper

OptimizerName = Literal["adamw", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "sgd")
_DOMAIN = "com.microsoft"


def optimizer_model(name: OptimizerName, *, clip_norm: Optional[float], opset: int, ir_version: int) -> onnx.ModelProto:
    """Returns the optimizer model.

    AdamW has beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 and bias correction (Kingma and Ba, 2015). Its decoupled weight
    decay is off: it would move frozen filters; regularisation goes into the gradient instead.

    Args:
        name: ``adamw``, or ``sgd`` (without momentum).
        clip_norm: the gradients are scaled down together so that their Euclidean norm is at most this; None for no limit.
        opset: version of the default operator set to import.
        ir_version: ONNX IR version of the model.
    """
    sequences = ["params", "gradients"]
    nodes, gradients, values = [], "gradients", []
    if clip_norm is not None:
        nodes.append(
            helper.make_node(
                "InplaceClipGradNorm", ["gradients"], ["clipped"], "clip", domain=_DOMAIN, max_norm=clip_norm
            )
        )
        gradients = "clipped"
        values.append(helper.make_tensor_sequence_value_info("clipped", TensorProto.FLOAT, None))
    if name == "adamw":
        sequences += ["first_order_moments", "second_order_moments"]
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
        inputs = ["learning_rate", gradients, "params"]
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
        value_info=values,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(_DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="tgdonnx")
