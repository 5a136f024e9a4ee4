"""QuantizeLinear and DequantizeLinear, with a straight-through gradient.

A pair of them rounds x to the grid of a scale s and a zero point z, and limits it to what the integers reach:

    y = (limit(round(x / s) + z, least, most) - z) s        dy/dx := 1 where the limits change nothing, else 0

Forward it is what the integers compute, to the last bit. Backward, rounding counts as the identity: its derivative is zero
almost everywhere, and nothing would learn. Limiting keeps its true derivative (the clipped straight-through estimator:
Bengio et al., arXiv 1308.3432; for simulated quantisation Krishnamoorthi, arXiv 1806.08342): beyond the
limits no change of x changes y, so passing a gradient there would only drive x farther away. The limits are looked at after
rounding. A weight that stands for the greatest integer, as the largest of every symmetrically quantised filter does, lies
inside and can learn.

The same holds for weights that the file stores as integers behind a DequantizeLinear: `DequantizeParameters` makes of them the
numbers that they stand for, which train, and the DequantizeLinear becomes such a pair.

The pair is one node for scalars s and z (`tgdonnx.lowering.fake_quantize`). Scales per channel are divided and multiplied
outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import PREFIX
from tgdonnx.graphs.constants import known_array
from tgdonnx.graphs.nodes import first_input
from tgdonnx.graphs.operators import is_standard
from tgdonnx.layers import INTEGER_REMEDY, TRAINABLE_INTEGERS, Parameter, Quantization, find_quantization
from tgdonnx.lowering.emitting import Emitter, Lowering
from tgdonnx.lowering.fake_quantize import fake_quantize

# Whole numbers that no float32 activation of use reaches: limits that only round.
_NO_LIMIT = 2**62


class DequantizeParameters(ir.passes.InPlacePass):
    """Turns stored integers into the float32 numbers that they stand for, up to the DequantizeLinear that reads them.

    That node is left behind reading float32, until `LowerQuantized` takes it.

    Args:
        parameters: by name of the initializer, the tensor as a DequantizeLinear gives it.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        super().__init__()
        self._parameters = parameters

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        for name, parameter in self._parameters.items():
            grid = parameter.quantization
            assert grid is not None
            value = model.graph.initializers[name]
            value.const_value = ir.tensor(parameter.dequantized(), name=name)
            for node in _dequantizers(value):
                node.meta[_TYPE] = grid.dtype
        return ir.passes.PassResult(model, modified=bool(self._parameters))


_TYPE = f"{PREFIX}integers"  # of a DequantizeLinear that reads float32: the type that it read


def _dequantizers(value: ir.Value) -> Iterator[ir.Node]:
    """Declares a value, and what nodes rearrange it to, to be float32; yields the nodes behind."""
    value.dtype = ir.DataType.FLOAT
    for node, _ in value.uses():
        if node.op_type == "DequantizeLinear":
            yield node
        else:
            yield from _dequantizers(node.outputs[0])


@final
class LowerQuantized(Lowering):
    """Replaces each DequantizeLinear, with the QuantizeLinear in front of it, by what has a straight-through gradient."""

    op_types: ClassVar = frozenset(["DequantizeLinear"])

    def candidates(self, model: ir.Model) -> Iterator[Emitter]:
        """Yields a builder for every node that the pass may replace, whatever integers it reads."""
        for node in self.chosen(model):
            if (self._nodes is None or node in self._nodes) and node.op_type in self.op_types and not node.domain:
                yield Emitter(node)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass."""
        result = super().call(model)
        if result.modified:
            for node in [node for node in model.graph if node.op_type == "QuantizeLinear"]:
                if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                    model.graph.remove(node, safe=True)
        return result

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the rounding to the grid."""
        x = first_input(node)
        grid = _grid(emit, node)
        if _TYPE not in node.meta:
            quantizer = x.producer()
            if quantizer is None or not is_standard(quantizer, "QuantizeLinear"):
                made = "read from the model's inputs" if quantizer is None else f"made by {quantizer.op_type}"
                raise emit.refusal(
                    f"gives out integers {made}, through which no gradient passes",
                    INTEGER_REMEDY,
                )
            if not grid.same_grid(_grid(emit, quantizer)):
                raise emit.refusal(
                    "has another scale or zero point than the QuantizeLinear in front of it",
                    "ask the vendor for the float model",
                )
            x = first_input(quantizer)
        return _round_to(emit, x, grid)


def _grid(emit: Emitter, node: ir.Node) -> Quantization:
    grid = find_quantization(node, known_array, node.meta.get(_TYPE))
    remedy = "ask the vendor for a model with INT8 or UINT8 per tensor or per channel, or for the float model"
    if isinstance(grid, str):
        raise emit.refusal(f"has a grid {grid}", remedy)
    if grid.dtype not in TRAINABLE_INTEGERS:
        raise emit.refusal(f"has a grid of type {grid.dtype.name}", remedy)
    return grid


def _round_to(emit: Emitter, x: ir.Value, grid: Quantization) -> ir.Value:
    least, most = grid.limits
    scale = grid.scale.astype(np.float32)
    offset = grid.zero_point.astype(np.float32)
    if scale.size == 1:
        return fake_quantize(emit, x, float(scale.reshape(())), float(offset.reshape(())), least, most)
    rank = emit.rank(first_input(emit.node))
    divisor = emit.constant(grid.aligned(scale, rank))
    x = emit("Div", x, divisor)
    if (offset == offset.flat[0]).all():
        x = fake_quantize(emit, x, 1, float(offset.flat[0]), least, most)
    else:
        shift = emit.constant(grid.aligned(offset, rank))
        x = emit("Add", fake_quantize(emit, x, 1, 0, -_NO_LIMIT, _NO_LIMIT), shift)
        x = emit("Sub", fake_quantize(emit, x, 1, 0, least, most), shift)
    return emit("Mul", x, divisor)
