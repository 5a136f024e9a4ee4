"""What the gradient builder of onnxruntime-training differentiates."""

from __future__ import annotations

from typing import Optional

import onnx_ir as ir

from tgdonnx.engines.differentiability import why_no_gradient
from tgdonnx.graphs.operators import is_standard, rounds
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.lowering import PATH_LOWERINGS, PREPARING_LOWERINGS
from tgdonnx.lowering.dialects import Dialect
from tgdonnx.lowering.opset_upgrade import OLDEST
from tgdonnx.lowering.quantized import DOMAIN, FAKE_QUANT

# Operators with a gradient on CPU, after lowering: each trained between two Convs with onnxruntime-training 1.19.2.
DIFFERENTIABLE = frozenset(
    [
        *("Abs", "Add", "Cast", "Clip", "Concat", "Conv", "Cos", "Div", "Erf", "Exp", "Expand", "Flatten", "Gather"),
        *("GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "Identity", "LayerNormalization"),
        *("LeakyRelu", "Log", "LogSoftmax", "MatMul", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "Reciprocal"),
        *("ReduceLogSumExp", "ReduceMean", "ReduceSum", "Relu", "Reshape", "ScatterElements", "ScatterND", "Sigmoid"),
        *("Sin", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "TopK", "Transpose", "Trilu"),
        *("Unsqueeze", "Where"),
    ]
)


def _why_not(node: ir.Node) -> Optional[tuple[str, str]]:
    """Says why the runtime has no gradient for a node, or a wrong one."""
    if (node.domain, node.op_type) == (DOMAIN, FAKE_QUANT):
        return None
    reason, remedy = why_no_gradient(node)
    if not is_standard(node, DIFFERENTIABLE):
        return reason, remedy
    if node.op_type.startswith("Scatter"):
        reduction = node.attributes.get_string("reduction", "none") or "none"
        if reduction != "none":
            return f"combines values (reduction = {reduction}), of which the runtime's gradient is wrong", remedy
    # It hands the gradient of a cast to whole numbers straight through, as if nothing had been rounded.
    if rounds(node):
        return reason, remedy
    return None


DIALECT = Dialect(
    opset=OLDEST,
    preparing=PREPARING_LOWERINGS,
    lowerings=PATH_LOWERINGS,
    takes=lambda _: True,
    path=gradient_path,
    why_not=_why_not,
    enters_branches=False,
)
