"""The vendor's model: waifu2x's VGG-7, a denoiser for JPEG-compressed drawings, written as an ONNX file.

The vendor publishes the weights (``anime_style_noise1_y.npz``) and the network as Chainer code: seven 3x3 convolutions
with 32, 32, 64, 64, 128, 128 and 1 filters, LeakyReLU with slope 0.1 after each but the last. It works on one channel,
the luma Y of YCbCr scaled to [0, 1], and predicts the clean image itself, not the noise. No convolution pads, so
7 pixels are lost on each side: the vendor's program repeats the edge pixels of its input by 7 first, and clips the
output to [0, 1] at the end.

The ONNX graph is the network and nothing more. It takes ``[N, 1, H, W]`` and gives ``[N, 1, H - 14, W - 14]``; the
caller pads (:func:`pad_edges`). So training patches can bring 7 pixels of true surroundings instead of invented ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MARGIN = 7
"""Pixels the network loses on each side: one per convolution."""

_CONVS = 7
_SLOPE = 0.1


def vendor_model(weights: Path) -> onnx.ModelProto:
    """Build the ONNX model from the vendor's weights.

    Args:
        weights: ``anime_style_noise1_y.npz`` of waifu2x, with arrays ``conv1/W``, ``conv1/b``, ... ``conv7/b``.

    Returns:
        A model with input ``image`` float32 ``[N, 1, H, W]`` and output ``denoised`` float32
        ``[N, 1, H - 14, W - 14]``, opset 17, IR version 8, parameters ``conv1.weight``, ``conv1.bias``, ...
    """
    nodes: list[onnx.NodeProto] = []
    parameters: list[onnx.TensorProto] = []
    value = "image"
    with np.load(weights) as arrays:
        for i in range(1, _CONVS + 1):
            name = f"conv{i}"
            last = i == _CONVS
            output = "denoised" if last else f"{name}.output"
            parameters.append(numpy_helper.from_array(arrays[f"{name}/W"], f"{name}.weight"))
            parameters.append(numpy_helper.from_array(arrays[f"{name}/b"], f"{name}.bias"))
            inputs = [value, f"{name}.weight", f"{name}.bias"]
            nodes.append(helper.make_node("Conv", inputs, [output], name=name, kernel_shape=[3, 3]))
            value = output
            if not last:
                value = f"relu{i}.output"
                nodes.append(helper.make_node("LeakyRelu", [output], [value], name=f"relu{i}", alpha=_SLOPE))
    # The output is smaller than the input, so its height and width go by names of their own.
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, "H", "W"])
    denoised = helper.make_tensor_value_info("denoised", TensorProto.FLOAT, ["N", 1, "H_out", "W_out"])
    graph = helper.make_graph(nodes, "waifu2x_vgg7_noise1_y", [image], [denoised], parameters)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="waifu2x",
        producer_version="2024.0.1",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def pad_edges(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat the edge pixels of ``[..., H, W]`` images by :data:`MARGIN`, as the vendor's program does."""
    return np.pad(images, [(0, 0)] * (images.ndim - 2) + [(MARGIN, MARGIN)] * 2, mode="edge")
