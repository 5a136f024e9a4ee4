"""Open a model file for analysis: checked, with functions inlined, sorted, its sizes inferred anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from tgdonnx.errors import IntegerArithmeticError, ModelFileError
from tgdonnx.files import wire
from tgdonnx.files.model_file import ModelSource, load_model
from tgdonnx.graphs.operators import is_integer_arithmetic
from tgdonnx.layers.consistency import require_consistent
from tgdonnx.layers.extents import require_extents
from tgdonnx.layers.network import Network
from tgdonnx.layers.quantization import INTEGER_REMEDY


def open_network(source: ModelSource) -> Network:
    """Reads a model and prepares its graph for analysis.

    Shapes that the file declares for values inside the graph are ignored (vendors' files get them wrong); they are
    inferred again from the inputs.

    Raises:
        ModelFileError: the file is no model, is inconsistent, or has no layer.
        IntegerArithmeticError: it has none because it computes with integers.
    """
    file = load_model(source)
    require_consistent(file)
    try:
        model = file.to_ir()
        places = dict(_places(model.graph, file.proto.graph, ((wire.GRAPH, 0),)))
        _inline_functions(model)
        passes.TopologicalSortPass()(model)
    except ModelFileError:  # of external data, with the remedy
        raise
    except Exception as error:  # whatever onnx_ir meets in a damaged graph, the user's file is the cause
        cause = error.__cause__ or error
        raise ModelFileError(
            f"{file.path} holds an inconsistent graph: {cause}", remedy="export the model again"
        ) from error
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    network = Network(file, model, places)
    require_extents(network.graph, network.sizes, lambda node: network.node_names.get(node, str(node.name)), file.path)
    if not network.layers:
        problem = (
            f"{file.path} has no layer to adapt: expected at least one Conv, ConvTranspose, Gemm or MatMul with weights in the "
            "file"
        )
        integer = Counter(node.op_type for node in model.graph.all_nodes() if is_integer_arithmetic(node))
        if integer:
            found = " and ".join(f"{count} {op_type}" for op_type, count in integer.items())
            raise IntegerArithmeticError(
                f"{problem}, found {found}, which compute with whole numbers and cannot be trained",
                remedy=INTEGER_REMEDY,
            )
        raise ModelFileError(problem)
    return network


def _inline_functions(model: ir.Model) -> None:
    """Inlines functions, those that call no other first.

    A call at a time from the top, the same names would be copied for every path that leads to a function, and the pass tries
    all names that are taken for every copy.
    """
    while model.functions:
        called = {
            key: any(node.op_identifier() in model.functions for node in function.all_nodes())
            for key, function in model.functions.items()
        }
        leaves = {key for key, calls in called.items() if not calls}
        passes.InlinePass(lambda function, leaves=leaves: function.identifier() in leaves)(model)  # type: ignore[misc]
        for key in leaves & model.functions.keys():  # that nobody calls
            del model.functions[key]


def _places(graph: ir.Graph, proto: onnx.GraphProto, path: wire.FieldPath) -> Iterator[tuple[ir.Value, wire.FieldPath]]:
    """Yields where the tensors of a graph and its subgraphs lie; ``graph`` was just made from ``proto``."""
    for index, tensor in enumerate(proto.initializer):
        yield graph.initializers[tensor.name], (*path, (wire.INITIALIZER, index))
    for index, (node, node_proto) in enumerate(zip(graph, proto.node)):
        for position, attribute in enumerate(node_proto.attribute):
            place = (*path, (wire.NODE, index), (wire.ATTRIBUTE, position))
            if node.op_type == "Constant" and attribute.name == "value":
                yield node.outputs[0], (*place, (wire.ATTRIBUTE_TENSOR, 0))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                subgraph = node.attributes[attribute.name].as_graph()
                yield from _places(subgraph, attribute.g, (*place, (wire.ATTRIBUTE_GRAPH, 0)))
