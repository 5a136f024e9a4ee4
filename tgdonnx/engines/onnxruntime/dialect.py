"""What our own gradient differentiates: every operator that has a rule, and what is lowered to those.

A lowering is for what has no rule, or where a rule leaves a form out: pads that are left to the runtime for sizes that are
open, averages that round their size up, padding with what is inside. Batch norms are drawn into their Convs, which spares a
pass over the activations.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

import onnx_ir as ir

from tgdonnx.engines.differentiability import why_no_gradient
from tgdonnx.gradients.rule import entry_of
from tgdonnx.graphs.operators import is_standard
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.lowering.auto_pad import LowerAutoPad
from tgdonnx.lowering.batch_norm import LowerBatchNormalization
from tgdonnx.lowering.clip import LowerClip
from tgdonnx.lowering.conv_transpose import LowerConvTranspose
from tgdonnx.lowering.dialects import Dialect
from tgdonnx.lowering.dropout import LowerDropout
from tgdonnx.lowering.einsum import LowerEinsum
from tgdonnx.lowering.global_pool import LowerGlobalPool
from tgdonnx.lowering.grid_sample import LowerGridSample
from tgdonnx.lowering.instance_norm import LowerInstanceNormalization
from tgdonnx.lowering.lrn import LowerLRN
from tgdonnx.lowering.pad import LowerPad
from tgdonnx.lowering.pooling import LowerPooling
from tgdonnx.lowering.quantized import LowerQuantized
from tgdonnx.lowering.recurrent import LowerRecurrent
from tgdonnx.lowering.resize import LowerResize

OPSET = 17
_SCALE_PER_CHANNEL = 21
"""The operator set from which GroupNormalization has a scale for every channel; ONNX withdrew the form before."""


def _path(graph: ir.Graph, trained: Collection[str]) -> list[ir.Node]:
    """Returns the gradient path, which ends at casts to whole numbers: their derivative is zero."""
    return gradient_path(graph, trained, through_casts=False)


def _takes(node: ir.Node) -> bool:
    """Whether a node has to be lowered."""
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
    if node.op_type in ("InstanceNormalization", "GlobalMaxPool"):
        return False  # lowered with others that have no rule
    if node.op_type == "LRN":
        return attributes["size"].as_int() % 2 == 0  # ONNX Runtime runs odd sizes only
    if node.op_type == "GroupNormalization":
        assert node.graph is not None
        return node.graph.opset_imports[""] < _SCALE_PER_CHANNEL
    return True


def _why_not(node: ir.Node) -> Optional[tuple[str, str]]:
    if is_standard(node, "If"):
        return None  # what is inside says so itself
    return None if entry_of(node) is not None else why_no_gradient(node)


DIALECT = Dialect(
    opset=OPSET,
    preparing=(
        lambda model, _: LowerDropout()(model),
        lambda model, _: LowerBatchNormalization()(model),
    ),
    lowerings=(
        LowerQuantized,
        LowerAutoPad,
        LowerConvTranspose,
        LowerClip,
        LowerResize,
        LowerEinsum,
        LowerGridSample,
        LowerRecurrent,
        LowerGlobalPool,
        LowerLRN,
        LowerInstanceNormalization,
        LowerPad,
        LowerPooling,
    ),
    takes=_takes,
    path=_path,
    why_not=_why_not,
    enters_branches=True,
)
