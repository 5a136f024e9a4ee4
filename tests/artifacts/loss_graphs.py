"""Losses as graphs of their own, with their gradients, and what the runtime computes of them."""

from __future__ import annotations

from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.artifacts.losses import add_loss, parse_loss
from tgdonnx.gradients import differentiate
from tgdonnx.graphs.builder import PREFIX
from tgdonnx.runtime import session_options

IDENTITY = "y = Identity(x)"


def graph(
    loss: str,
    shape: tuple[int, ...],
    ending: str = IDENTITY,
    opset: int = 17,
    dims: Optional[str] = None,
    data_range: float = 1.0,
) -> ir.Model:
    """The loss of the input ``x``, through what the model ends in."""
    dims = dims or ", ".join(map(str, shape))
    text = f"g (float[{dims}] x) => (float[{dims}] y) {{ {ending} }}"
    model = ir.from_proto(text_model(text, opset=opset, ir_version=10 if opset > 19 else 8))
    result = add_loss(model, model.graph.outputs[0], parse_loss(loss), data_range=data_range)
    model.graph.outputs[:] = [result]
    return model


def loss_and_gradient(
    loss: str,
    x: Array,
    target: Array,
    ending: str = IDENTITY,
    opset: int = 17,
    dims: Optional[str] = None,
    data_range: float = 1.0,
    weight: Optional[Array] = None,
) -> tuple[float, Array]:
    """What the runtime computes, with ``x`` in the place of a parameter; the weights of the loss are called ``m``."""
    model = graph(loss, x.shape, ending, opset, dims, data_range)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    by_name = {value.name: value for value in model.graph.inputs}
    model.graph.outputs.extend(differentiate(model, model.graph.outputs[0], [by_name["x"]]))
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    feeds = {"x": x, "target": target, **({} if weight is None else {f"{PREFIX}weight.m": weight})}
    value, gradient = open_session(proto, session_options()).run(None, feeds)
    return float(value), gradient


def off_by(gradient: Array, expected: Array) -> float:
    """The largest error, in units of the largest expected magnitude or of the share of one element."""
    return float(np.abs(gradient - expected).max() / max(np.abs(expected).max(), 1 / expected.size))
