"""Conv with groups in one and in three dimensions.

Measured with onnxruntime-training 1.19.2, whose gradient of such a Conv by its input clears, group by group, as much memory as
all groups take: behind the last one it overwrites what lies there, up to the bookkeeping of the heap, and the process ends
some time later, or other gradients are wrong (valgrind: an invalid write in memset, 0 bytes after the block of dX). In two
dimensions, and without groups, it is right. So

    in one dimension      conv(x; W, b)  =  conv of two dimensions, the first of size 1
    in three dimensions   conv(x; W, b)  =  concat over g of conv(x_g; W_g, b_g)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Optional, Union, final

import onnx_ir as ir

from tgdonnx.graphs.builder import AttributeValue
from tgdonnx.graphs.nodes import first_input, optional_input, required_input
from tgdonnx.lowering.emitting import Emitter, Lowering


@final
class LowerGroupedConv(Lowering):
    """Replaces every Conv with groups and one or three spatial axes."""

    op_types: ClassVar = frozenset(["Conv"])

    def rewrite(self, emit: Emitter, node: ir.Node) -> Optional[ir.Value]:
        """Writes a Conv of two dimensions, or one per group."""
        group = node.attributes.get_int("group", 1)
        rank = emit.rank(required_input(node, 1))
        if group == 1 or rank == 4:
            return None
        return _in_two_dimensions(emit, node) if rank == 3 else _one_per_group(emit, node, group)


def _in_two_dimensions(emit: Emitter, node: ir.Node) -> ir.Value:
    data, weight = (emit.unsqueeze(required_input(node, place), [2]) for place in (0, 1))
    bias = optional_input(node, 2)
    attributes: dict[str, Union[AttributeValue, ir.Attr]] = dict(node.attributes)
    for name in ("kernel_shape", "strides", "dilations"):
        if name in node.attributes:
            attributes[name] = [1, *node.attributes[name].as_ints()]
    if "pads" in node.attributes:
        before, after = node.attributes["pads"].as_ints()
        attributes["pads"] = [0, before, 0, after]
    (flat,) = emit.several("Conv", [data, weight, bias], attributes, word="flat")
    return emit("Squeeze", flat, emit.ints(2))


def _one_per_group(emit: Emitter, node: ir.Node, group: int) -> ir.Value:
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
    parts = [emit.several("Conv", inputs, attributes, word="group")[0] for inputs in zip(*operands)]
    return emit("Concat", *parts, axis=1)


def _split(emit: Emitter, value: ir.Value, axis: int, sizes: list[int]) -> Sequence[ir.Value]:
    """Splits a value along one axis."""
    return emit.several("Split", [value, emit.ints(*sizes)], {"axis": axis}, len(sizes), word=f"{value.name}.part")
