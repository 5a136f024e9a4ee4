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
        operands = [_split(emit, first_input(node), 1, group), _split(emit, required_input(node, 1), 0, group)]
        operands += [_split(emit, bias, 0, group)] if bias is not None else []
        parts = []
        for index, inputs in enumerate(zip(*operands)):
            conv = ir.node("Conv", inputs)
            conv.attributes.update(attributes)
            conv.outputs[0].name = f"{PREFIX}{node.outputs[0].name}.group{index}"
            assert isinstance(node.graph, ir.Graph)
            node.graph.insert_before(node, conv)
            parts.append(conv.outputs[0])
        return emit("Concat", *parts, axis=1)


def _split(emit: Emitter, value: ir.Value, axis: int, count: int) -> list[ir.Value]:
    """Splits a value in equal parts."""
    size = value.shape[axis] if value.shape is not None else None
    if not isinstance(size, int):
        raise emit.refusal("has an unknown number of channels", "declare the shapes of the inputs of the model")
    if emit.opset >= 13:
        node = ir.node("Split", [value, emit.ints(*[size // count] * count)], {"axis": axis}, num_outputs=count)
    else:
        node = ir.node("Split", [value], {"axis": axis, "split": [size // count] * count}, num_outputs=count)
    for index, output in enumerate(node.outputs):
        output.name = f"{PREFIX}{emit.node.outputs[0].name}.{value.name}.part{index}"
    assert isinstance(emit.node.graph, ir.Graph)
    emit.node.graph.insert_before(emit.node, node)
    return list(node.outputs)
