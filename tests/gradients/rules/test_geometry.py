"""A node that slides a window, and whose attributes or filters contradict one another, is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.gradients.checking import gradient_model
from tgdonnx.errors import UntrainableError


@pytest.mark.parametrize(
    ("op_type", "attributes", "filters", "message"),
    [
        ("Conv", {"kernel_shape": [2**31, 2**31]}, (6, 4, 3, 3), r"filters of \(3, 3\), but says kernel_shape"),
        ("Conv", {"group": 0}, (6, 4, 3, 3), r"filters of shape \(6, 4, 3, 3\) in 0 groups"),
        ("Conv", {"group": 2**31}, (6, 4, 3, 3), "in 2147483648 groups"),
        ("Conv", {"group": 4}, (6, 1, 3, 3), "in 4 groups"),
        ("Conv", {}, (6, 3, 3, 3), "reads 4 channels, but has filters for 3"),
        ("ConvTranspose", {}, (3, 6, 3, 3), "reads 4 channels, but has filters for 3"),
        ("Conv", {"strides": [1]}, (6, 4, 3, 3), "2 axes, but has 1 strides, 2 dilations and 4 pads"),
        ("Conv", {"pads": [1, 1]}, (6, 4, 3, 3), "2 axes, but has 2 strides, 2 dilations and 2 pads"),
    ],
)
def test_a_node_that_contradicts_itself_is_refused(
    op_type: str, attributes: dict[str, Any], filters: tuple[int, ...], message: str
) -> None:
    node = helper.make_node(op_type, ["x", "w"], ["y"], name="the node", **attributes)
    shapes = {"x": (2, 4, 5, 5), "w": filters}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, [output]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(UntrainableError, match=message):
        gradient_model(model, ["x", "w"], [np.ones((), np.float32)])
