"""ConvTranspose with its pads spelled out, before shapes are inferred: see `tgdonnx.layers.conv_transpose_pads`."""

from __future__ import annotations

import onnx_ir as ir

from tgdonnx.graphs.operators import is_standard
from tgdonnx.layers.conv_transpose_pads import write_pads


class ExplicitConvTransposePads(ir.passes.InPlacePass):
    """Writes the pads of every ConvTranspose whose weight has a known shape, subgraphs included."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for node in model.graph.all_nodes():
            if is_standard(node, "ConvTranspose"):
                weight = node.inputs[1]
                shape = weight.shape if weight is not None else None
                kernel = [dim for dim in shape[2:] if isinstance(dim, int)] if shape is not None else []
                if shape is not None and kernel and len(kernel) == len(shape) - 2:
                    modified |= write_pads(node, kernel)
        return ir.passes.PassResult(model, modified=modified)
