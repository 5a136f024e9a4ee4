"""The graph that trains, up to its output: the vendor's, cut to what the output needs, lowered, and checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from tgdonnx.engines.frozen import load_small
from tgdonnx.errors import UntrainableError
from tgdonnx.gradients.differentiability import why_no_gradient
from tgdonnx.graphs.captured import inner_graphs
from tgdonnx.graphs.nodes import refusal
from tgdonnx.graphs.operators import is_standard
from tgdonnx.graphs.paths import gradient_path
from tgdonnx.layers import RUNTIME_DOMAINS, Network, Parameter
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering import lower
from tgdonnx.lowering.branches import InlineKnownBranches
from tgdonnx.lowering.computed_pads import StoreKnownPads
from tgdonnx.lowering.conv_transpose_pads import ExplicitConvTransposePads
from tgdonnx.lowering.fake_quantize import is_fake_quantize
from tgdonnx.lowering.hoisting import HoistFromBranches
from tgdonnx.lowering.kernel_shape import StateKernelShape
from tgdonnx.lowering.new_operators import LowerNewOperators
from tgdonnx.lowering.opset_upgrade import UpgradeOpset
from tgdonnx.lowering.precision import ComputeInFloat32, RemoveIdleCasts
from tgdonnx.lowering.quantized import DequantizeParameters
from tgdonnx.runtime.opsets import MAX_IR_VERSION, DowngradeOpset

_REFUSED = "refused"  # why ONNX says that a node cannot be


@dataclass(frozen=True)
class ForwardGraph:
    """A model ready for a loss.

    Attributes:
        model: the lowered graph; its outputs are those to train on.
        trained: the tensors that train: those of the wanted ones that the output depends on.
        layer_outputs: for names of layers, the name of the activation that their filters make. Where batch norm was drawn
            into the layer it is included.
    """

    model: ir.Model = field(repr=False)
    trained: tuple[str, ...]
    layer_outputs: Mapping[str, str] = field(repr=False)

    @property
    def outputs(self) -> tuple[ir.Value, ...]:
        """The outputs to train on."""
        return tuple(self.model.graph.outputs)


def forward_graph(network: Network, wanted: Collection[str], outputs: Sequence[str] = ()) -> ForwardGraph:
    """Prepares a model for training.

    Args:
        network: the vendor's model.
        wanted: the names of the tensors to train.
        outputs: which outputs to train on, in this order; may be left out when the model has one.

    Raises:
        UntrainableError: the opset is not supported, an output is not there or is no float32, none depends on a wanted
            tensor, or a node on the way to one has no gradient.
    """
    network = network.clone()
    adapt(network)
    trained = cut(network, wanted, outputs)
    layer_outputs = {layer.name: str(layer.node.outputs[0].name) for layer in network.layers}
    lower(network.model, trained)
    finish(network.model, trained)
    # Where batch norm was drawn into a Conv, the Conv gives what the norm gave; other lowerings keep the names of values.
    folded = {str(node.meta["name"]): str(node.outputs[0].name) for node in network.graph if "name" in node.meta}
    layer_outputs.update((name, folded[name]) for name in layer_outputs if name in folded)
    return ForwardGraph(network.model, trained, layer_outputs)


def adapt(network: Network) -> None:
    """Brings a graph to an operator set that the lowerings know, and infers shapes; in place.

    Raises:
        UntrainableError: a node cannot be brought there.
    """
    model, opsets = network.model, network.graph.opset_imports
    refused = network.sizes.refused  # by nodes, before any is replaced
    infer = InferShapes()
    ExplicitConvTransposePads()(model)
    infer(model)
    for node, name in network.node_names.items():
        node.meta["name"] = name
        if node in refused:
            node.meta[_REFUSED] = refused[node]
    if "" not in opsets:
        opsets[""] = opsets.pop("ai.onnx", 1)  # a file without a version is of the first
    if LowerNewOperators()(model).modified:
        infer(model)
    DowngradeOpset()(model)
    raised = UpgradeOpset()(model).modified
    if InlineKnownBranches()(model).modified or raised:
        infer(model)
    while StoreKnownPads()(model).modified:  # behind which sizes are known, and with them the pads of the next
        infer(model)
    # Newer IR versions add data types and fields, none of which a float32 graph uses.
    model.ir_version = min(max(model.ir_version, 4), MAX_IR_VERSION)


def cut(network: Network, wanted: Collection[str], outputs: Sequence[str] = ()) -> tuple[str, ...]:
    """Reduces a graph to what some outputs need, in float32, in place; returns the wanted tensors that are left.

    Raises:
        UntrainableError: an output is not there or is no number, or none depends on a wanted tensor.
    """
    model, graph = network.model, network.graph
    integers = require_trainable(network, wanted)
    _keep_outputs(graph, outputs)
    load_small(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveInitializersFromInputsPass()(model)
    HoistFromBranches(wanted)(model)
    passes.RemoveUnusedNodesPass()(model)
    for node in graph.all_nodes():
        if _REFUSED in node.meta:
            raise refusal(node, f"cannot be as it is: {node.meta[_REFUSED]}", "export the model again")
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
    trained = tuple(name for name in wanted if name in graph.initializers)
    if not trained:
        inside = next((name for name in wanted if name in _made_inside_nodes(graph)), None)
        if inside is not None:
            raise UntrainableError(
                f"{inside!r} would retrain, but lies inside a branch of If or the body of a loop, and gradients do not get in",
                remedy="ask for the model exported without If and Loop",
            )
        depends = "outputs {} depend" if len(graph.outputs) > 1 else "output {} depends"
        named = ", ".join(repr(value.name) for value in graph.outputs)
        raise UntrainableError(f"the {depends.format(named)} on no retrained filter", remedy="choose another")
    _adapt_precision(model, trained, integers)
    return trained


def _made_inside_nodes(graph: ir.Graph) -> set[str]:
    """Returns the names of the tensors that the graphs inside nodes hold or compute."""
    inner = [inside for node in graph.all_nodes() for inside in inner_graphs(node)]
    held = {name for inside in inner for name in inside.initializers}
    return held | {str(value.name) for inside in inner for node in inside for value in node.outputs}


def finish(model: ir.Model, trained: Collection[str]) -> None:
    """Takes the last steps on a lowered graph, and checks that every node on a gradient path has a gradient.

    Raises:
        UntrainableError: one has none, or a node is none that the runtime knows.
    """
    _require_known(model)
    RemoveIdleCasts()(model)
    StateKernelShape()(model)
    _require_differentiable(model.graph, trained)


def _require_known(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        opset = model.graph.opset_imports[""]
        known = node.domain in RUNTIME_DOMAINS or is_fake_quantize(node)
        if known and is_standard(node):
            known = onnx.defs.has(node.op_type, opset)
        if not known:
            raise refusal(
                node,
                f"is of an operator that ONNX does not know in opset {opset}",
                "export the model without it, or choose an output that does not need it (`output`)",
            )


def _adapt_precision(model: ir.Model, trained: Collection[str], integers: Mapping[str, Parameter]) -> None:
    DequantizeParameters({name: integers[name] for name in trained if name in integers})(model)
    dtypes = {model.graph.initializers[name].dtype for name in trained}
    ComputeInFloat32(double=ir.DataType.DOUBLE in dtypes)(model)


def require_trainable(network: Network, wanted: Collection[str]) -> dict[str, Parameter]:
    """Returns those of the wanted tensors that are integers, as a DequantizeLinear gives them.

    Raises:
        UntrainableError: a tensor is of a type that cannot train, or is stored in a way that cannot be written back.
    """
    for name in wanted:
        reason = network.why_untrainable(name)
        if reason is not None:
            raise UntrainableError(f"{name!r} would retrain, but it {reason.problem}", remedy=reason.remedy)
    return {name: network.dequantized[name][0] for name in wanted if name in network.dequantized}


def _keep_outputs(graph: ir.Graph, wanted: Sequence[str]) -> None:
    names = [str(value.name) for value in graph.outputs]
    if not wanted and len(names) > 1:
        raise UntrainableError(
            f"the model has {len(names)} outputs",
            remedy=f"choose one with `output`: {', '.join(names)}; or give several a loss, as in "
            f"`loss='{names[0]}: mse, {names[1]}: mse'`",
        )
    missing = next((name for name in wanted if name not in names), None)
    if missing is not None:
        raise UntrainableError(f"the model has no output {missing!r}", remedy=f"expected one of {', '.join(names)}")
    chosen = [graph.outputs[names.index(name)] for name in wanted or names]
    for value in chosen:
        if value.dtype is not None and not value.dtype.is_floating_point():
            raise UntrainableError(
                f"the output {value.name!r} is {value.dtype.name}",
                remedy="training handles floating-point outputs; choose another with `output`",
            )
    graph.outputs[:] = chosen


def _require_differentiable(graph: ir.Graph, trained: Collection[str]) -> None:
    for node in gradient_path(graph, trained):
        problem = why_no_gradient(node)
        if problem is not None:
            reason, remedy = problem
            raise refusal(node, f"lies between a retrained filter and the output, and {reason}", remedy)
