"""Element by element: an output element depends on the input elements at the same place (after broadcasting)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tgdonnx.tracing.origins import OriginIds, OriginTable
from tgdonnx.tracing.rule import Rule, UntraceableError


def _every_input(node: ir.Node, inputs: Sequence[OriginIds], table: OriginTable) -> OriginIds:
    try:
        return table.union(*inputs)
    except ValueError:
        shapes = " and ".join(str(list(ids.shape)) for ids in inputs)
        raise UntraceableError(f"its inputs do not broadcast: {shapes}") from None


def _first_input(node: ir.Node, inputs: Sequence[OriginIds], table: OriginTable) -> OriginIds:
    """For operators whose further inputs hold one number per channel, or one for the whole node."""
    for ids in inputs[1:]:
        origins = [table[int(i)] for i in ids.flat]
        if any(origin.producers or origin.opaque for origin in origins):
            raise UntraceableError("its parameters are computed by layers")
    if any(output.name and output.uses() for output in node.outputs[1:]):
        raise UntraceableError("more than its first output is used")
    return inputs[0]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Identity"), _every_input),
    **dict.fromkeys(("Add", "Sub", "Mul"), _every_input),
    **dict.fromkeys(("Clip", "Dropout", "BatchNormalization"), _first_input),
}
