"""Conv in three dimensions with groups, one group at a time.

Measured with onnxruntime-training 1.19.2: the gradient of such a Conv is wrong, that of its weight by any amount, without
an error. In one and two dimensions, and without groups, it is right. So

    conv(x; W, b)  =  concat over g of conv(x_g; W_g, b_g)
"""

from __future__ import annotations

from typing import ClassVar, Optional, final

import onnx_ir as ir

from tgdonnx.lowering.emitting import Emitter, Lowering, first_input, optional_input, required_input
from tgdonnx.lowering.rewriting import PREFIX


@final
class LowerGroupedConv(Lowering):
    """Replaces every Conv with groups and three spatial axes."""

    op_types: ClassVar = frozenset(["Conv"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes one Conv per group."""
        group = node.attributes.get_int("group", 1)
        if group == 1 or emit.rank(required_input(node, 1)) != 5:
            return None
        attributes = {name: attribute for name, attribute in node.attributes.items() if name != "group"}
        bias = optional_input(node, 2)
        weight = required_input(node, 1)
        assert weight.shape is not None
        filters, maps = weight.shape[:2]
        if not isinstance(filters, int) or not isinstance(maps, int):
            raise emit.refusal("has a weight of unknown shape", "store the weight in the model")
        operands = [_split(emit, first_input(node), 1, [maps] * group)]
        parts_of_filters = [filters // group] * group
        operands += [_split(emit, value, 0, parts_of_filters) for value in (weight, bias) if value is not None]
        parts = []
        for index, inputs in enumerate(zip(*operands)):
            conv = ir.node("Conv", inputs)
            conv.attributes.update(attributes)
            conv.outputs[0].name = f"{PREFIX}{node.outputs[0].name}.group{index}"
            assert isinstance(node.graph, ir.Graph)
            node.graph.insert_before(node, conv)
            parts.append(conv.outputs[0])
        return emit("Concat", *parts, axis=1)


def _split(emit: Emitter, value: ir.Value, axis: int, sizes: list[int]) -> list[ir.Value]:
    """Splits a value along one axis."""
    node = ir.node("Split", [value, emit.ints(*sizes)], {"axis": axis}, num_outputs=len(sizes))
    for index, output in enumerate(node.outputs):
        output.name = f"{PREFIX}{emit.node.outputs[0].name}.{value.name}.part{index}"
    assert isinstance(emit.node.graph, ir.Graph)
    emit.node.graph.insert_before(emit.node, node)
    return list(node.outputs)
