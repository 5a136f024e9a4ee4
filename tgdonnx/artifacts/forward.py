"""The graph that trains, up to its output: the vendor's, cut to what the output needs, lowered, and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Optional

import onnx_ir as ir
from onnx_ir.passes import common as passes

from tgdonnx.errors import UntrainableError
from tgdonnx.layers import CONVOLUTIONS, Network
from tgdonnx.lowering import lower

# What the runtime imports and the operator sets it differentiates (measured with onnxruntime-training 1.19.2).
OPSETS = range(8, 22)
MAX_IR_VERSION = 10

# Operators with a gradient on CPU: each trained for one step between two Convs with onnxruntime-training 1.19.2.
DIFFERENTIABLE = frozenset(
    [
        "Abs",
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "Div",
        "Erf",
        "Exp",
        "Expand",
        "Gather",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "Identity",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Mul",
        "Neg",
        "Pow",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)


@dataclass(frozen=True)
class ForwardGraph:
    """A model ready for a loss.

    Attributes:
        model: the lowered graph; its one output is the one to train on.
        trained: the tensors that train: those of the wanted ones that the output depends on.
        layer_outputs: for names of layers, the activation that their filters make. Where batch norm was drawn into the
            layer it is included.
    """

    model: ir.Model = field(repr=False)
    trained: tuple[str, ...]
    layer_outputs: Mapping[str, ir.Value] = field(repr=False)

    @property
    def output(self) -> ir.Value:
        """The output to train on."""
        return self.model.graph.outputs[0]


def forward_graph(network: Network, wanted: Collection[str], output: Optional[str]) -> ForwardGraph:
    """Prepares a model for training.

    Args:
        network: the vendor's model. Its graph is used up: open it again for anything else.
        wanted: the names of the tensors to train.
        output: which output to train on; may be None when there is one.

    Raises:
        UntrainableError: the opset is not supported, the output is not there, is no float32 or depends on no wanted
            tensor, or a node on the way to it has no gradient.
    """
    model = network.model
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    _adapt_versions(model)
    for node, name in network.node_names.items():
        node.meta["name"] = name
    _keep_output(model.graph, output)
    ir.external_data.load_to_model(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveInitializersFromInputsPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    graph = model.graph
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    lower(model)
    trained = tuple(name for name in wanted if name in graph.initializers)
    if not trained:
        raise UntrainableError(f"the output {graph.outputs[0].name!r} depends on no retrained filter; choose another")
    layer_outputs = {
        str(node.meta["name"]): node.outputs[0]
        for node in graph
        if node.op_type in CONVOLUTIONS and "name" in node.meta
    }
    _require_differentiable(graph, trained)
    return ForwardGraph(model, trained, layer_outputs)


def _adapt_versions(model: ir.Model) -> None:
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    if opset not in OPSETS:
        raise UntrainableError(
            f"the model uses opset {opset}; training handles {OPSETS[0]} to {OPSETS[-1]}: convert it with "
            "onnx.version_converter, or export it again"
        )
    # Newer IR versions add data types and fields, none of which a float32 graph uses.
    model.ir_version = min(max(model.ir_version, 4), MAX_IR_VERSION)


def _keep_output(graph: ir.Graph, name: Optional[str]) -> None:
    names = [str(value.name) for value in graph.outputs]
    if name is None and len(names) > 1:
        raise UntrainableError(f"the model has {len(names)} outputs; choose one with --output: {', '.join(names)}")
    if name is not None and name not in names:
        raise UntrainableError(f"the model has no output {name!r}; expected one of {', '.join(names)}")
    chosen = graph.outputs[names.index(name) if name is not None else 0]
    if chosen.dtype not in (ir.DataType.FLOAT, None):
        raise UntrainableError(f"the output {chosen.name!r} is {chosen.dtype.name}; training handles float32 outputs")
    graph.outputs[:] = [chosen]


def _require_differentiable(graph: ir.Graph, trained: Collection[str]) -> None:
    for name in trained:
        dtype = graph.initializers[name].dtype
        if dtype != ir.DataType.FLOAT:
            kind = dtype.name if dtype is not None else "of unknown type"
            raise UntrainableError(f"{name!r} would retrain, but it is {kind}; training handles float32 weights")
    moving = {graph.initializers[name] for name in trained}
    for node in graph:
        if not any(value in moving for value in node.inputs if value is not None):
            continue
        node_name = node.meta.get("name") or node.name or node.outputs[0].name
        if node.domain not in ("", "ai.onnx") or (
            node.op_type not in DIFFERENTIABLE and node.op_type not in ("Pad", "Shape")
        ):
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise UntrainableError(
                f"node {node_name!r} ({operator}) lies between a retrained filter and the output, and has no gradient; "
                "choose filters behind it, for example with --last"
            )
        if node.op_type == "Pad" and "mode" in node.attributes and node.attributes["mode"].as_string() != "constant":
            mode = node.attributes["mode"].as_string()
            raise UntrainableError(
                f"node {node_name!r} (Pad, mode {mode}) lies between a retrained filter and the output, and has no gradient; "
                "choose filters behind it, for example with --last"
            )
        if node.op_type != "Shape":
            moving.update(node.outputs)
