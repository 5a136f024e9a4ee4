"""The same function with operators that the training runtime differentiates, and with the original parameters.

One module per operator family, each an ``onnx_ir`` pass that says when it applies and refuses with a reason; `lower` runs
them. ``emitting`` and ``rewriting``: what they share; ``precision``,
``opsets``: adapting whole graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from tgdonnx.graphs.paths import gradient_path
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.activations import LowerActivations
from tgdonnx.lowering.auto_pad import LowerAutoPad
from tgdonnx.lowering.batch_norm import LowerBatchNormalization
from tgdonnx.lowering.clip import LowerClip
from tgdonnx.lowering.conv_transpose import LowerConvTranspose
from tgdonnx.lowering.depth_space import LowerDepthSpace
from tgdonnx.lowering.dialects import Dialect
from tgdonnx.lowering.dropout import LowerDropout
from tgdonnx.lowering.einsum import LowerEinsum
from tgdonnx.lowering.emitting import Lowering
from tgdonnx.lowering.global_pool import LowerGlobalPool
from tgdonnx.lowering.grid_sample import LowerGridSample
from tgdonnx.lowering.grouped_conv import LowerGroupedConv
from tgdonnx.lowering.instance_norm import LowerInstanceNormalization
from tgdonnx.lowering.layer_norm import LowerLayerNormalization
from tgdonnx.lowering.lp_norm import LowerLpNormalization
from tgdonnx.lowering.lrn import LowerLRN
from tgdonnx.lowering.mean_variance_norm import LowerMeanVarianceNormalization
from tgdonnx.lowering.pad import LowerPad
from tgdonnx.lowering.piecewise import LowerPiecewise
from tgdonnx.lowering.pooling import LowerPooling
from tgdonnx.lowering.quantized import LowerQuantized, lower_idle_quantizers
from tgdonnx.lowering.reductions import LowerReductions
from tgdonnx.lowering.resize import LowerResize
from tgdonnx.lowering.split import LowerSplit
from tgdonnx.lowering.step_functions import LowerStepFunctions
from tgdonnx.lowering.sum_mean import LowerSumMean
from tgdonnx.lowering.transpose_pow import LowerTransposePow
from tgdonnx.lowering.where import LowerWhere

__all__ = ["PATH_LOWERINGS", "PREPARING_LOWERINGS", "lower"]

# In this order: what one writes, a later one may have to lower.
PATH_LOWERINGS: tuple[type[Lowering], ...] = (
    LowerQuantized,
    LowerAutoPad,
    LowerTransposePow,
    LowerConvTranspose,
    LowerResize,
    LowerDepthSpace,
    LowerEinsum,
    LowerGridSample,
    LowerActivations,
    LowerClip,
    LowerPiecewise,
    LowerLayerNormalization,
    LowerLpNormalization,
    LowerLRN,
    LowerReductions,
    LowerGlobalPool,
    LowerSumMean,
    LowerPad,
    LowerPooling,
    LowerGroupedConv,
    LowerWhere,
    LowerSplit,
)


def lower(model: ir.Model, trained: Collection[str], dialect: Dialect) -> None:
    """Lowers the main graph of ``model``, in place.

    Args:
        model: sorted topologically, with shapes inferred.
        trained: the names of the parameters that train.
        dialect: what to lower, and to what.

    Raises:
        UntrainableError: a node cannot be lowered; the message names it.
    """
    for prepare in dialect.preparing:
        prepare(model, trained)
    for lowering in dialect.lowerings:
        path = dialect.path(model.graph, trained)
        lowering([node for node in path if dialect.takes(node)], path)(model)


def _lower_norms_that_hide_ranks(model: ir.Model, trained: Collection[str]) -> None:
    # Inference loses the rank of what these norms give; they themselves need none.
    for norm in (LowerInstanceNormalization, LowerMeanVarianceNormalization):
        if norm(gradient_path(model.graph, trained))(model).modified:
            InferShapes()(model)


# What has to be done first, and wherever it stands in the graph. The training graph would let Dropout and BatchNormalization
# behave otherwise; its gradient does not stop at step functions, and its optimizer may fail at roundings to a grid.
PREPARING_LOWERINGS: tuple[Callable[[ir.Model, Collection[str]], object], ...] = (
    lambda model, _: LowerDropout()(model),
    _lower_norms_that_hide_ranks,
    lambda model, _: LowerBatchNormalization()(model),
    lambda model, _: LowerStepFunctions()(model),
    lower_idle_quantizers,
)
