"""Pads that nodes compute from what is known, as constants.

TensorFlow's padding, done in PyTorch, is computed from the size of the image that is padded. Inference does not follow that
arithmetic: behind such a Pad it knows no size, and so not that of the image that the next one pads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import Builder
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import optional_input
from tgdonnx.graphs.operators import is_standard


class StoreKnownPads(ir.passes.InPlacePass):
    """Stores the pads of every Pad of the main graph that are known though computed; needs shapes inferred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        modified = False
        for node in list(model.graph):
            given = optional_input(node, 1) if is_standard(node, "Pad") else None
            if given is None or ir.convenience.get_const_tensor(given) is not None:
                continue
            known = known_array(given)
            if known is not None:
                build = Builder.before(node)
                node.replace_input_with(1, build.ints(*known.astype(np.int64).reshape(-1).tolist()))
                modified = True
        return ir.passes.PassResult(model, modified=modified)
