"""The same function in operators that have a gradient, and with the original parameters.

What has a rule in `tgdonnx.gradients` stays as it is. A lowering is for what has none, or where a rule leaves a form out: pads
that are left to the runtime for sizes that are open, averages that round their size up, padding with what is inside. Batch
norms are drawn into their Convs, which spares a pass over the activations.

One module per operator family, each an ``onnx_ir`` pass that says when it applies and refuses with a reason; `lower` runs
them. ``emitting``: what they share; ``precision``, ``raising``: adapting whole graphs.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from tgdonnx.graphs.paths import gradient_path
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.auto_pad import LowerAutoPad
from tgdonnx.lowering.batch_norm import LowerBatchNormalization
from tgdonnx.lowering.clip import LowerClip
from tgdonnx.lowering.conv_transpose import LowerConvTranspose
from tgdonnx.lowering.dropout import LowerDropout
from tgdonnx.lowering.einsum import LowerEinsum
from tgdonnx.lowering.emitting import Lowering
from tgdonnx.lowering.global_pool import LowerGlobalPool
from tgdonnx.lowering.grid_sample import LowerGridSample
from tgdonnx.lowering.group_norm import LowerGroupNormalization
from tgdonnx.lowering.lrn import LowerLRN
from tgdonnx.lowering.new_operators import LowerNewOperators
from tgdonnx.lowering.pad import LowerPad
from tgdonnx.lowering.pooling import LowerPooling
from tgdonnx.lowering.quantized import LowerQuantized
from tgdonnx.lowering.recurrent import LowerRecurrent
from tgdonnx.lowering.resize import LowerResize

__all__ = ["EVERY", "LOWERINGS", "lower", "may_lower", "prepare"]

LOWERINGS: tuple[type[Lowering], ...] = (
    LowerQuantized,
    LowerAutoPad,
    LowerConvTranspose,
    LowerClip,
    LowerResize,
    LowerEinsum,
    LowerGridSample,
    LowerLRN,
    LowerRecurrent,
    LowerPad,
    LowerPooling,
    LowerGlobalPool,
)
"""In this order: what one writes, a later one may take."""

EVERY = (LowerBatchNormalization, LowerDropout, LowerGroupNormalization, LowerNewOperators, *LOWERINGS)
"""Those that do not ask for a gradient path included."""


def lower(model: ir.Model, trained: Collection[str]) -> None:
    """Lowers the main graph of ``model``, in place.

    Args:
        model: sorted topologically, with shapes inferred.
        trained: the names of the parameters that train.

    Raises:
        UntrainableError: a node cannot be lowered; the message names it.
    """
    prepare(model)
    path = gradient_path(model.graph, trained)
    for lowering in LOWERINGS:
        if lowering([node for node in path if may_lower(node)], path)(model).modified:
            path = gradient_path(model.graph, trained)


def prepare(model: ir.Model) -> None:
    """Does what comes first, and wherever it stands in the graph.

    Raises:
        UntrainableError: a node is in its training form, or of one that is withdrawn; the message names it.
    """
    LowerDropout()(model)
    LowerBatchNormalization()(model)
    if LowerGroupNormalization()(model).modified:
        InferShapes()(model)


def may_lower(node: ir.Node) -> bool:
    """Whether a lowering may have a node; others are of the form that a rule has."""
    attributes = node.attributes
    auto_pad = (attributes.get_string("auto_pad", "NOTSET") or "NOTSET") not in ("NOTSET", "VALID")
    if node.op_type == "ConvTranspose":
        return auto_pad or "output_shape" in attributes
    if node.op_type == "MaxPool":
        return auto_pad or bool(attributes.get_int("storage_order", 0))
    if node.op_type == "AveragePool":
        dilated = any(size != 1 for size in attributes.get_ints("dilations") or ())
        return auto_pad or dilated or bool(attributes.get_int("ceil_mode", 0))
    if node.op_type == "Pad":
        return attributes.get_string("mode", "constant") != "constant"
    return True
