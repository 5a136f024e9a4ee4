"""Lower a model on its own, outside of a build."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
from onnx_ir.passes.common import ShapeInferencePass

from tests.support.models import Array
from tests.support.sessions import open_session
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import open_network
from tgdonnx.lowering import lower


def lowered(model: onnx.ModelProto, *, shapes_are_known: bool = True) -> onnx.ModelProto:
    """The lowered graph, checked; its shapes too, unless an operator of another domain hides them."""
    network = open_network(ModelFile(Path("vendor.onnx"), model.SerializeToString(), model))
    ShapeInferencePass(check_type=False, strict_mode=False)(network.model)
    lower(network.model, ())
    proto = ir.to_proto(network.model)
    if shapes_are_known:  # the checker wants one for every output
        onnx.checker.check_model(proto, full_check=True)
    return proto


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> Array:
    """The first output, by ONNX Runtime without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_session(model, options).run(None, feeds)[0]
