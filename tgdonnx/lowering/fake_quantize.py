"""Rounding to a grid as one node, so that its gradient can be other than that of its parts.

    y, inside = FakeQuantize(x, s, z):    y = (limit(n, least, most) - z) s,    inside = [least <= n <= most],
                                          with n = round(x / s) + z

The operator is our own, and no runtime knows it: `expand_fake_quantize` writes it out when the gradient is there.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tgdonnx.graphs.builder import AttributeValue, Builder

DOMAIN = "tgdonnx"
FAKE_QUANTIZE = "FakeQuantize"


def limits(least: int, most: int) -> dict[str, AttributeValue]:
    """Returns the attributes of the node."""
    return {"least": least, "most": most}


def is_fake_quantize(node: ir.Node) -> bool:
    """Whether a node is of this operator."""
    return (node.domain, node.op_type) == (DOMAIN, FAKE_QUANTIZE)


def fake_quantize(build: Builder, x: ir.Value, scale: float, offset: float, least: int, most: int) -> ir.Value:
    """Writes the node for numbers of a whole tensor, and returns what it rounds to."""
    inputs = (x, build.scalar(scale), build.scalar(offset))
    return build.several(FAKE_QUANTIZE, inputs, limits(least, most), 2, domain=DOMAIN)[0]


def expand_fake_quantize(model: ir.Model) -> None:
    """Writes every FakeQuantize of the main graph out in standard operators, in place."""
    graph = model.graph
    for node in [node for node in graph if is_fake_quantize(node)]:
        x, scale, offset = (value for value in node.inputs if value is not None)
        build = Builder(graph, str(node.outputs[0].name))
        least, most = (
            build.constant(np.array(node.attributes[name].as_int(), np.float32)) for name in ("least", "most")
        )
        steps = build("Add", build("Round", build("Div", x, scale)), offset)
        limited = build("Clip", steps, least, most)
        results = [build("Mul", build("Sub", limited, offset), scale)]
        if len(node.outputs) > 1 and node.outputs[1].uses():
            results.append(build("And", build("GreaterOrEqual", steps, least), build("LessOrEqual", steps, most)))
        graph.insert_before(node, build.nodes)
        for old, new in zip(node.outputs, results):
            name = old.name
            new.shape, new.type = old.shape, new.type if old.type is None else old.type
            old.replace_all_uses_with(new, replace_graph_outputs=True)
            if new.is_graph_output():
                old.name, new.name = new.name, name
        graph.remove(node, safe=True)
    graph.opset_imports.pop(DOMAIN, None)
