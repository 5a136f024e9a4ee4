"""Shape inference: what it takes from a file, and what graphs inside nodes are told."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from tests.support import models
from tests.support.training_models import text_model
from tgdonnx.layers.inference import InferShapes


def shapes(model: ir.Model) -> dict[str, ir.Shape | None]:
    return {str(v.name): v.shape for graph in model.graphs() for node in graph for v in node.outputs}


def test_a_size_of_minus_one_is_an_open_one() -> None:
    proto = models.chain(0)
    for size in proto.graph.input[0].type.tensor_type.shape.dim:
        if size.dim_param:
            size.dim_value = -1
    proto.graph.value_info.extend(proto.graph.input)
    proto.graph.value_info[0].name = "a1"
    model = ir.from_proto(proto)
    assert any(size == -1 for size in model.graph.inputs[0].shape or ())
    InferShapes()(model)
    for name, shape in {"x": model.graph.inputs[0].shape, **shapes(model)}.items():
        assert shape is not None, name
        assert len(shape) == 4, name
        assert not any(isinstance(size, int) and size < 0 for size in shape), name
    assert model.graph.inputs[0].shape[1] == 3  # type: ignore[index]


def test_graphs_inside_nodes_know_what_is_stored_outside() -> None:
    model = ir.from_proto(
        text_model(
            """g (float[N, 3, 1] x, bool c) => (float[N, 3] y) {
                y = If<then_branch = p () => (u) { u = Squeeze(x, axes) },
                       else_branch = q () => (v) {
                           v = If<then_branch = r () => (s) { s = Squeeze(x, axes) },
                                  else_branch = t () => (w) { w = ReduceMax<axes = [2], keepdims = 0>(x) }>(c) }>(c)
            }""",
            axes=np.array([2]),
        )
    )
    before = {graph.name: list(graph.initializers) for graph in model.graphs()}
    InferShapes()(model)
    found = shapes(model)
    assert {name: len(found[name] or ()) for name in "usy"} == {"u": 2, "s": 2, "y": 2}
    assert {graph.name: list(graph.initializers) for graph in model.graphs()} == before
