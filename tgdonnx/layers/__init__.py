"""The layers of a graph, and where in the vendor's file their parameters live.

``network``: a file opened for analysis; ``parameters``: from a stored tensor to what a node reads, and back;
``quantization``: integers that stand for real numbers; ``layouts``: where filters and kernels are in a weight; ``sizes``: how
long every axis is.
"""

from tgdonnx.graphs.operators import CONVOLUTIONS, MATRIX_PRODUCTS, is_integer_arithmetic
from tgdonnx.layers.consistency import RUNTIME_DOMAINS
from tgdonnx.layers.layouts import Layout, MatrixLayout
from tgdonnx.layers.network import Layer, Network, open_network, opset_version
from tgdonnx.layers.parameters import Parameter
from tgdonnx.layers.quantization import (
    INTEGER_REMEDY,
    TRAINABLE_INTEGERS,
    Quantization,
    find_quantization,
)
from tgdonnx.layers.sizes import Sizes

__all__ = [
    "CONVOLUTIONS",
    "INTEGER_REMEDY",
    "MATRIX_PRODUCTS",
    "RUNTIME_DOMAINS",
    "TRAINABLE_INTEGERS",
    "Layer",
    "Layout",
    "MatrixLayout",
    "Network",
    "Parameter",
    "Quantization",
    "Sizes",
    "find_quantization",
    "is_integer_arithmetic",
    "open_network",
    "opset_version",
]
