"""Split of which an output is not used: the runtime gives its input a gradient of the used parts alone, which is too short.

So the others are used: times 0, summed, and added to one that is.
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.graphs.builder import replace_value
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerSplit(Lowering):
    """Lets every Split use all of its outputs."""

    op_types: ClassVar = frozenset(["Split"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes the node again, and what uses its outputs."""
        used = [bool(value.uses()) or value.is_graph_output() for value in node.outputs]
        if all(used) or not any(used):
            return None
        parts = list(emit.several("Split", node.inputs, node.attributes, len(used), word="part"))
        first = used.index(True)
        for part, wanted in list(zip(parts, used)):
            if not wanted:
                zeros = emit("Mul", part, emit.mask("Less", part, part))
                parts[first] = emit("Add", parts[first], emit("ReduceSum", zeros, keepdims=0))
        for old, new in list(zip(node.outputs, parts))[1:]:
            replace_value(old, new)
        return parts[0]
