"""From a forward graph with a loss to ONNX Runtime's training model, with our nodes on the gradients.

The runtime's builder appends the backward pass: the gradient of a value ``t`` is the value ``t_grad``. On it we operate:

    gate      dL/dy  -> M * dL/dy                      for the output y of a layer, before anything reads the gradient of y
    l2        dL/dp  -> dL/dp + l2 * p                 for weights
    l2_sp     dL/dp  -> dL/dp + l2_sp * (p - p0)       for every parameter, p0 its value at the start
    mask      dL/dp  -> M * dL/dp                      for every parameter p with frozen elements

and accumulate what results (TGD, eq. 4: gradient and regulariser are masked alike). A frozen element's gradient is exactly
zero, so neither AdamW without weight decay nor SGD, nor clipping by the norm, moves it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Optional

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tgdonnx.engines.onnxruntime_training.beforehand import put_back, take_out
from tgdonnx.errors import UntrainableError
from tgdonnx.graphs.builder import PREFIX
from tgdonnx.graphs.operators import STANDARD_DOMAINS
from tgdonnx.graphs.paths import depending
from tgdonnx.masked_model import SUFFIX
from tgdonnx.runtime import load_builder, require_sound, session_options

LOSS = "loss"
_RESET = "lazy_reset_grad"


def gradient_model(forward: onnx.ModelProto, parameters: Collection[str]) -> onnx.ModelProto:
    """Returns the forward graph with its backward pass, as the runtime makes it; gradients are the last outputs.

    Args:
        forward: a model whose first output is the loss, and whose parameters are graph inputs.
        parameters: the parameters, in the order of the graph inputs.

    Raises:
        ModelFileError: the graph would crash the runtime.
        UntrainableError: the runtime cannot differentiate the graph.
    """
    builder_module = load_builder()
    require_sound(forward, "the graph that trains")
    _require_lowered_groups(forward)
    whole = onnx.ModelProto()
    whole.CopyFrom(forward)
    beforehand = take_out(whole, parameters)
    _give_statistics(whole)
    # The names that inference gives to unknown sizes are taken for sizes that differ; without them all is unknown.
    del whole.graph.value_info[:]
    options = session_options()
    try:
        optimized = builder_module.get_optimized_model(whole.SerializeToString(), set(parameters), options)
        wanted = set(parameters) | _joined_twice(onnx.ModelProto.FromString(optimized), parameters)
        builder = builder_module.GradientGraphBuilder(optimized, {LOSS}, wanted, LOSS, options)
        builder.build()
    except (RuntimeError, IndexError) as error:  # of an attribute that it misses it says no more than that
        reason = str(error).splitlines()[0].rpartition("] : ")[2] or str(error)
        raise UntrainableError(
            f"ONNX Runtime cannot build the gradient of this model ({reason})",
            remedy="retrain filters nearer to the output only, for example with `last`; and please report the model",
        ) from error
    model: onnx.ModelProto = onnx.ModelProto.FromString(builder.get_model())
    put_back(model, beforehand)
    outputs = {value.name: value for value in model.graph.output}
    ordered = [outputs[LOSS], *(outputs[f"{name}_grad"] for name in parameters)]
    del model.graph.output[:]
    model.graph.output.extend(ordered)
    return model


def _give_statistics(model: onnx.ModelProto) -> None:
    """Lets every LayerNormalization give mean and deviation, which its gradient reads."""
    for node in model.graph.node:
        if node.op_type == "LayerNormalization" and node.domain in STANDARD_DOMAINS:
            given = list(node.output[1:]) + [""] * (3 - len(node.output))
            words = ("mean", "deviation")
            node.output[1:] = [name or f"{PREFIX}{node.output[0]}.{word}" for name, word in zip(given, words)]


def _require_lowered_groups(forward: onnx.ModelProto) -> None:
    """Checks that `tgdonnx.lowering.grouped_conv` was there: the runtime would write beyond its memory."""
    graph = forward.graph
    values = (*graph.input, *graph.value_info)
    kinds = {value.name: value.type.tensor_type for value in values}
    ranks = {name: len(kind.shape.dim) for name, kind in kinds.items() if kind.HasField("shape")}
    ranks.update((tensor.name, len(tensor.dims)) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute):
            assert ranks.get(node.input[1], 4) == 4, (
                f"{node.output[0]!r} is a Conv with groups, and not of two dimensions"
            )


def _joined_twice(model: onnx.ModelProto, parameters: Collection[str]) -> set[str]:
    """Returns the values that several Concats on a gradient path read.

    The gradient of a Concat is written for every input, wanted or not. Unwanted ones of the same value are not added up but
    collide, so they are asked for; nobody reads the sum.
    """
    joins = [node for node in model.graph.node if node.op_type in ("Concat", "ConcatTraining")]
    if max(Counter(name for node in joins for name in set(node.input)).values(), default=0) < 2:
        return set()
    graph = ir.from_proto(model).graph
    moving = depending(graph, [value for value in graph.inputs if value.name in parameters])
    readers = Counter(
        str(value.name)
        for node in graph
        if node.op_type in ("Concat", "ConcatTraining") and any(value in moving for value in node.inputs)
        for value in set(node.inputs)
        if value is not None
    )
    return {name for name, count in readers.items() if count > 1}


def gate_gradients(model: onnx.ModelProto, gates: Mapping[str, NDArray[np.float32]]) -> None:
    """Multiplies the gradients of activations (the paper's TGD layer: identity forward, M backward), in place.

    Args:
        model: as `gradient_model` gives it.
        gates: for names of activations, an array that broadcasts against them.
    """
    for name, gate in gates.items():
        gradient, gated = f"{name}_grad", f"{name}_grad.gated"
        nodes = model.graph.node
        written = [index for index, node in enumerate(nodes) if gradient in node.output]
        assert len(written) == 1, f"expected one node that writes {gradient}, found {len(written)}"
        for node in nodes:
            for position, value in enumerate(node.input):
                if value == gradient:
                    node.input[position] = gated
        mask = f"{PREFIX}{name}.gate"
        model.graph.initializer.append(numpy_helper.from_array(gate, mask))
        nodes.insert(written[0] + 1, helper.make_node("Mul", [gradient, mask], [gated], name=gated))


def accumulate_gradients(
    model: onnx.ModelProto,
    masks: Mapping[str, NDArray[np.float32]],
    *,
    l2: float = 0.0,
    regularised: Collection[str] = (),
    l2_sp: float = 0.0,
    starts: Optional[Mapping[str, onnx.TensorProto]] = None,
) -> None:
    """Regularises and masks the gradients and adds the nodes that accumulate them, in place.

    Args:
        model: as `gradient_model` gives it, gated or not.
        masks: for each parameter its retrain mask, in the order of the gradients.
        l2: factor of the regulariser; ``l2 * p`` is added to the gradient of p before the mask.
        regularised: the parameters that it applies to.
        l2_sp: factor of the pull to the start; ``l2_sp * (p - p0)`` is added to the gradient of every p before the mask.
        starts: for each parameter p its start p0; read where ``l2_sp`` is not 0.
    """
    graph = model.graph
    gradients = {value.name: value for value in graph.output}
    outputs = [gradients[LOSS]]
    l2_name, l2_sp_name = f"{PREFIX}l2", f"{PREFIX}l2_sp"
    for factor, factor_name in ((l2, l2_name), (l2_sp, l2_sp_name)):
        if factor:
            graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), factor_name))
    # Of the nodes that nobody reads the runtime computes the last first, with all that it needs. The accumulators behind the
    # gradients that the backward pass finds first have to be those, or activations wait in memory for the end.
    found = {output: place for place, node in enumerate(graph.node) for output in node.output}
    for name in sorted(masks, key=lambda name: found[f"{name}_grad"], reverse=True):
        mask, gradient, last = masks[name], f"{name}_grad", f"{name}_grad"
        if l2 and name in regularised:
            graph.node.append(helper.make_node("Mul", [name, l2_name], [f"{gradient}.l2"], name=f"{gradient}.l2"))
            last = _append(graph, "Add", [last, f"{gradient}.l2"], f"{gradient}.regularised")
        if l2_sp:
            assert starts is not None
            start = graph.initializer.add()
            start.CopyFrom(starts[name])
            start.name = f"{PREFIX}{name}.start"
            moved = _append(graph, "Sub", [name, start.name], f"{gradient}.moved")
            pull = _append(graph, "Mul", [moved, l2_sp_name], f"{gradient}.pull")
            last = _append(graph, "Add", [last, pull], f"{gradient}.pulled")
        if not mask.all():
            graph.initializer.append(numpy_helper.from_array(mask, name + SUFFIX))
            last = _append(graph, "Mul", [last, name + SUFFIX], f"{gradient}.masked")
        # The runtime finds the buffers by these names.
        buffer, done = f"{gradient}.accumulation.buffer", f"{gradient}.accumulation.out"
        node = helper.make_node(
            "InPlaceAccumulatorV2", [buffer, last, _RESET], [done], domain="com.microsoft", name=done
        )
        graph.node.append(node)
    for name in masks:
        value = graph.input.add()
        value.CopyFrom(gradients[f"{name}_grad"])
        value.name = f"{name}_grad.accumulation.buffer"
        outputs.append(helper.make_tensor_value_info(f"{name}_grad.accumulation.out", TensorProto.BOOL, [1]))
    graph.input.append(helper.make_tensor_value_info(_RESET, TensorProto.BOOL, [1]))
    del graph.output[:]
    graph.output.extend(outputs)


def _append(graph: onnx.GraphProto, op_type: str, inputs: list[str], output: str) -> str:
    graph.node.append(helper.make_node(op_type, inputs, [output], name=output))
    return output
