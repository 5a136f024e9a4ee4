"""DnCNN-like networks with random weights, for benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def dncnn(filters: Sequence[int], *, channels: int = 1, batch_norm: bool = False, seed: int = 0) -> onnx.ModelProto:
    """Returns 3x3 Convs with ReLU between them, the first reading and the last writing ``channels`` maps.

    Args:
        filters: of each Conv but the last.
        channels: of input and output.
        batch_norm: whether every Conv but the first and the last is followed by BatchNormalization.
        seed: of the weights (He initialisation).
    """
    rng = np.random.default_rng(seed)
    nodes, tensors, last = [], [], "x"

    def add(name: str, array: np.ndarray) -> str:
        tensors.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    widths = [channels, *filters, channels]
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:]), start=1):
        weight = rng.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        arguments = [last, add(f"conv{i}.weight", weight), add(f"conv{i}.bias", np.zeros(outputs))]
        end = i == len(widths) - 1
        last = "y" if end else f"conv{i}"
        nodes.append(helper.make_node("Conv", arguments, [last], f"conv{i}", pads=[1, 1, 1, 1]))
        if batch_norm and i > 1 and not end:
            names = ("scale", "offset", "mean", "var")
            values = (np.ones(outputs), np.zeros(outputs), rng.normal(0, 0.1, outputs), rng.uniform(0.5, 1.5, outputs))
            arguments = [last, *(add(f"bn{i}.{name}", value) for name, value in zip(names, values))]
            last = f"bn{i}"
            nodes.append(helper.make_node("BatchNormalization", arguments, [last], last))
        if not end:
            nodes.append(helper.make_node("Relu", [last], [f"relu{i}"], f"relu{i}"))
            last = f"relu{i}"
    shape = ["N", channels, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "dncnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def random_rows(model: onnx.ModelProto, rho: float, *, seed: int = 0) -> dict[str, list[int]]:
    """Returns for every Conv weight a random part ``rho`` of its filters, at least one."""
    rng = np.random.default_rng(seed)
    weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4]
    return {
        tensor.name: sorted(int(m) for m in rng.permutation(tensor.dims[0])[: max(1, round(rho * tensor.dims[0]))])
        for tensor in weights
    }
