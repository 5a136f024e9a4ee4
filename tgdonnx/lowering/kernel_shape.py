"""Conv and ConvTranspose state the size of their filters.

ONNX lets a node leave that to its weight. Not every runtime does: onnxruntime-web 1.30.0, in the build with WebGPU that a page
loads by default (JSEP), stops at such a Conv with "dilations should be 2D".
"""

from __future__ import annotations

from typing import final

import onnx_ir as ir

from tgdonnx.graphs.operators import is_standard

_CONVOLUTIONS = frozenset(["Conv", "ConvTranspose"])
_KERNEL_SHAPE = "kernel_shape"


@final
class StateKernelShape(ir.passes.InPlacePass):
    """Adds the attribute wherever it is left out and the shape of the weight is known, in the main graph and its subgraphs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for node in model.graph.all_nodes():
            if not is_standard(node, _CONVOLUTIONS) or _KERNEL_SHAPE in node.attributes or len(node.inputs) < 2:
                continue
            weight = node.inputs[1]
            sizes = [] if weight is None or weight.shape is None else list(weight.shape[2:])
            kernel = [size for size in sizes if isinstance(size, int)]
            if kernel and len(kernel) == len(sizes):
                node.attributes[_KERNEL_SHAPE] = ir.AttrInt64s(_KERNEL_SHAPE, kernel)
                modified = True
        return ir.passes.PassResult(model, modified)
