"""Rounding to a grid, with a straight-through gradient; see `tgdonnx.lowering.quantized` for why, and whose it is.

    y = (limit(round(x / s) + z, least, most) - z) s        dX = dY where the limits change nothing, else 0

The forward graph has it as one node, FakeQuant, whose second output tells where the limits change nothing. Only
onnxruntime-training has that operator; for any other runtime `expand_fake_quant` writes it out, when the gradient is there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.graphs.builder import Builder
from tgdonnx.lowering.quantized import DOMAIN, FAKE_QUANT


@rule(FAKE_QUANT, carries=(0,), domain=DOMAIN)
def _fake_quant(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Mul", step.dy, step.build.cast(step.node.outputs[1], step.x))}


def expand_fake_quant(model: ir.Model) -> None:
    """Writes every FakeQuant of the main graph out in standard operators, in place."""
    graph = model.graph
    for node in [node for node in graph if (node.domain, node.op_type) == (DOMAIN, FAKE_QUANT)]:
        x, scale, offset = (value for value in node.inputs if value is not None)
        build = Builder(graph, str(node.outputs[0].name))
        least, most = (
            build.constant(np.array(node.attributes[name].as_int(), np.float32)) for name in ("quant_min", "quant_max")
        )
        steps = build("Add", build("Round", build("Div", x, scale)), offset)
        limited = build("Clip", steps, least, most)
        results = [build("Mul", build("Sub", limited, offset), scale)]
        if len(node.outputs) > 1 and node.outputs[1].uses():
            inside = build("And", build("GreaterOrEqual", steps, least), build("LessOrEqual", steps, most))
            results.append(inside)
        graph.insert_before(node, build.nodes)
        for old, new in zip(node.outputs, results):
            name = old.name
            new.shape, new.type = old.shape, new.type if old.type is None else old.type
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            if new.is_graph_output():
                old.name, new.name = new.name, name
        graph.remove(node, safe=True)
    graph.opset_imports.pop(DOMAIN, None)
