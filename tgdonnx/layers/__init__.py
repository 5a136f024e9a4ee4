"""The layers of a graph, and where in the vendor's file their parameters live.

``opening``: a file opened for analysis, which is a ``network``; ``layer``: its nodes with filters; ``obstacles``: why what is
stored cannot train; ``parameters``: from a stored tensor to what a node reads, and back, by ``steps``; ``quantization``:
integers that stand for real numbers; ``layouts``: where filters and kernels are in a weight; ``sizes``: how long every axis is;
``refusals``: nodes that ONNX refuses.
"""

from tgdonnx.graphs.operators import CONVOLUTIONS, MATRIX_PRODUCTS, is_integer_arithmetic
from tgdonnx.layers.consistency import RUNTIME_DOMAINS
from tgdonnx.layers.layer import Layer
from tgdonnx.layers.layouts import Layout, MatrixLayout
from tgdonnx.layers.network import Network, opset_version
from tgdonnx.layers.opening import open_network
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
