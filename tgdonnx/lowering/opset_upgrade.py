"""Models of older operator sets, converted up.

The rules of the gradient are written for the spelling of opset `OPSET` and newer. ONNX's own converter rewrites each node
that is spelled differently there; it gets one node at a time, so that every other node, every stored tensor and every name
stays, and what it cannot convert is named. Where it is wrong, or knows nothing, ``old_operators`` has the rule.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import helper, version_converter

from tgdonnx.graphs.builder import constant, fresh_name
from tgdonnx.graphs.nodes import first_input, refusal
from tgdonnx.graphs.operators import is_standard
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.old_operators import RULES, RULES_OF_RANKS, SOFTMAXES
from tgdonnx.runtime.opsets import difference

OPSET = 17
"""The oldest operator set that lowerings and gradients are written for."""

_OLD = 13  # ``old_operators`` knows the sets before this one
_SPELLED_AS_IN = {"Pad": 2}  # once its rule has been there
_MOST_ELEMENTS = 4096  # of a constant that the converter may look at: axes, pads, scales


class UpgradeOpset(ir.passes.InPlacePass):
    """Converts a model of an opset older than `OPSET`, subgraphs included, to that; needs shapes inferred."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs the pass.

        Raises:
            UntrainableError: a node cannot be converted; the message names it.
        """
        opset = model.graph.opset_imports.get("", 0)
        if opset >= OPSET:
            return ir.passes.PassResult(model, modified=False)
        nodes = [node for node in model.graph.all_nodes() if is_standard(node)]
        of_ranks = [node for node in nodes if _waits_for_ranks(node, opset)]
        for node in nodes:
            node.attributes.pop("consumed_inputs", None)  # said which memory may be reused; means nothing since opset 6
            if opset < _OLD and node.op_type in RULES and node not in of_ranks:
                RULES[node.op_type](node, opset)
            # What is still written in the old way, if it has not been replaced.
            if node.graph is not None and node not in of_ranks and difference(node, opset, OPSET) is not None:
                _convert(node, max(opset, _SPELLED_AS_IN.get(node.op_type, 1)))
        for graph in model.graphs():
            graph.opset_imports[""] = OPSET
        for node in of_ranks:
            if any(value is not None and value.shape is None for value in node.inputs):
                InferShapes()(
                    model
                )  # in old words inference knows few operators; those before this node are new by now
            if node.op_type in RULES_OF_RANKS:
                RULES_OF_RANKS[node.op_type](node)
            else:
                RULES[node.op_type](node, opset)
        return ir.passes.PassResult(model, modified=True)


def _waits_for_ranks(node: ir.Node, opset: int) -> bool:
    """Whether the rule of a node needs ranks that may be known only once what is before it is converted."""
    if node.op_type in SOFTMAXES:
        return opset < _OLD and first_input(node).shape is None
    return opset < 7 and node.op_type in RULES_OF_RANKS


def _convert(node: ir.Node, opset: int) -> None:
    """Puts in the place of a node what ONNX's converter makes of it."""
    try:
        converted = version_converter.convert_version(_alone(node, opset), OPSET)
    except Exception as error:  # C++ assertions and what not: it has no conversion
        reason = f"cannot be converted from opset {opset} to {OPSET}"
        raise refusal(node, reason, f"export the model with opset {OPSET} or newer") from error
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    new = ir.from_proto(converted).graph
    known = {str(value.name): value for value in node.inputs if value is not None}
    for name, value in new.initializers.items():
        if name not in known:
            assert value.const_value is not None
            known[name] = constant(graph, f"{node.outputs[0].name}.{name}", value.const_value.numpy())
    results, nodes = list(new.outputs), list(new)
    new.outputs.clear()
    made = {value for inner in nodes for value in inner.outputs}
    new.remove(nodes)
    for inner in nodes:
        for index, read in enumerate(inner.inputs):
            if read is not None and read not in made:
                inner.replace_input_with(index, known[str(read.name)])
        for value in inner.outputs:
            if value not in results and value.name:
                value.name = fresh_name(graph, f"{node.outputs[0].name}.{value.name}")
        if inner.op_type == node.op_type:
            inner.name = node.name
            inner.meta.update(node.meta)
        else:
            inner.name = ""
        graph.insert_before(node, inner)
    for old, result in zip([value for value in node.outputs if value.name], results):
        result.shape, result.type = old.shape, old.type
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        result.name = old.name
    graph.remove(node, safe=True)


def _alone(node: ir.Node, opset: int) -> onnx.ModelProto:
    """Returns a model of this node only; small constants that it reads are in it."""
    inputs, stored = [], []
    for name, value in {str(value.name): value for value in node.inputs if value is not None}.items():
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None and tensor.size <= _MOST_ELEMENTS:
            stored.append(ir.to_proto(tensor))
            stored[-1].name = name
        else:
            shape = None if value.shape is None else [d if isinstance(d, int) and d >= 0 else None for d in value.shape]
            inputs.append(helper.make_tensor_value_info(name, _type(value), shape))
    outputs = [helper.make_tensor_value_info(str(v.name), _type(v), None) for v in node.outputs if v.name]
    graph = helper.make_graph([ir.to_proto(node)], "node", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _type(value: ir.Value) -> int:
    return int(value.dtype) if value.dtype is not None else onnx.TensorProto.FLOAT
