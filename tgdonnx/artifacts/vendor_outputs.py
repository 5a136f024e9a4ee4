"""What the vendor's model gives, as targets of a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.artifacts.forward import ForwardGraph, forward_graph
from tgdonnx.artifacts.losses import before
from tgdonnx.artifacts.opened import Artifacts
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.layers import open_network
from tgdonnx.lowering.fake_quantize import expand_fake_quantize
from tgdonnx.masked_model import runnable_vendor
from tgdonnx.runtime import CPU, Device, open_inference

Array = NDArray[Any]
_PROBABILITY = "tgdonnx::vendor.probability"


def vendor_targets(artifacts: Artifacts, device: Device = CPU) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    """Returns a function that gives, for the inputs of a step, the targets that the vendor's model already meets.

    They are the outputs of the graph that trains, with the vendor's values in it; its masked file is in the directory. So
    models go through that the runtime would not load as they are, and the loss against these targets is least where the
    weights are the vendor's: at the start of training, unless filters were reinitialised. Where the loss compares
    probabilities they are such: where the output is logits, the sigmoid of them.

    Args:
        artifacts: of the training.
        device: where the vendor's model runs.

    Returns:
        The function; of every output that trains it gives one array.

    Raises:
        ArtifactsError: a loss is one of class indices, such as ce, whose targets as the vendor's model chooses them are not met
            at its weights, so that training would exaggerate rather than agree; or it takes weights from the data.
        RuntimeMissingError: no runtime is installed.
    """
    heads = artifacts.manifest.heads
    for head in heads:
        if head.formula.targets == "classes":
            raise ArtifactsError(
                f"agreement with the vendor's output needs targets like the output, but those of the loss {head.loss} are "
                "class indices",
                remedy="add samples with labels of your own to the training data instead",
            )
        if head.formula.weights:
            raise ArtifactsError(
                f"agreement with the vendor's output has no weights, which the loss {head.loss} takes from the data",
                remedy="train without agreement, or with a loss without weight",
            )
    forward = _forward(artifacts)
    graph = forward.model.graph
    for place, (head, output) in enumerate(zip(heads, forward.outputs)):
        if head.formula.targets == "probabilities" and before(output, "Sigmoid") is output:
            node = ir.node("Sigmoid", [output])
            node.outputs[0].name, node.outputs[0].type = f"{_PROBABILITY}.{place}", output.type
            graph.append(node)
            graph.outputs[place] = node.outputs[0]
    return _runner(forward.model, device)


def vendor_outputs(artifacts: Artifacts, device: Device = CPU) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    """Returns a function that gives, for the inputs of a step, what the vendor's model gives: an array per output that trains.

    Args:
        artifacts: of the training.
        device: where the vendor's model runs.

    Raises:
        RuntimeMissingError: no runtime is installed.
    """
    return _runner(_forward(artifacts).model, device)


def _forward(artifacts: Artifacts) -> ForwardGraph:
    manifest, masked = artifacts.manifest, artifacts.masked
    wanted = list(dict.fromkeys(tensor.vendor_name for tensor in manifest.trained))
    network = open_network(runnable_vendor(masked)) if masked.vendor_values else masked.network
    return forward_graph(network, wanted, [head.output for head in manifest.heads])


def _runner(model: ir.Model, device: Device) -> Callable[[Sequence[Array]], tuple[Array, ...]]:
    expand_fake_quantize(model)
    ir.external_data.load_to_model(model)
    opened = open_inference(ir.to_proto(model), what="the vendor's model", device=device)
    names = [str(value.name) for value in model.graph.inputs]

    def outputs(inputs: Sequence[Array]) -> tuple[Array, ...]:
        found = opened.run(dict(zip(names, inputs)))
        if not all(np.isfinite(output).all() for output in found):
            raise DataError(
                "the vendor's model gives values that are not finite for data to agree on", remedy="remove such samples"
            )
        return tuple(np.ascontiguousarray(output) for output in found)

    return outputs
