"""Which filters a channel depends on, found by trying: no rule about any operator, only ONNX Runtime.

The graph is cut behind every Conv: the layer is taken out and its output becomes an input of the graph, fed with random
numbers. Then one channel of one of these inputs is drawn anew, and whatever channel of an activation changes depends on
that filter. A filter's effect on an activation is only ever seen along paths without another layer, because there are
no layers left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from tests.models import random_feeds
from tgdonnx.tracing import TraceReport, trace

Filter = tuple[str, int]  # (name of the layer, index of the filter)
Channels = list[set[Filter]]


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def label(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def dependencies(model: onnx.ModelProto, names: Sequence[str], *, seed: int = 0, draws: int = 3) -> dict[str, Channels]:
    """Returns for each named activation, channel by channel, the filters it depends on.

    Args:
        model: a network.
        names: activations; axis 1 counts channels.
        seed: of the random numbers.
        draws: how often everything is drawn anew; what is hidden once (by a Relu, say) may show another time.
    """
    convs = layers(model)
    feeds = random_feeds(model, seed)
    shapes = [array.shape for array in session(_with_outputs(model, [c.output[0] for c in convs])).run(None, feeds)]
    cut = onnx.ModelProto()
    cut.CopyFrom(_with_outputs(model, names))
    for conv in convs:
        cut.graph.node.remove(conv)
        cut.graph.input.append(helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT, None))
    probe = session(cut)
    fed = {value.name for value in probe.get_inputs()}

    found: dict[str, Channels] = {name: [] for name in names}
    rng = np.random.default_rng(seed)
    for i in range(draws):
        # The large numbers overcome the offsets in front of a Relu, the small ones show behind a Tanh.
        scale = (1, 30)[i % 2]

        def normal(shape: tuple[int, ...], scale: int = scale) -> NDArray[Any]:
            return (scale * rng.standard_normal(shape)).astype(np.float32)

        base = {name: normal(array.shape) for name, array in feeds.items()}
        base.update({conv.output[0]: normal(shape) for conv, shape in zip(convs, shapes)})
        base = {name: array for name, array in base.items() if name in fed}
        before = probe.run(None, base)
        for name, array in zip(names, before):
            assert np.isfinite(array).all()
            found[name] = found[name] or [set() for _ in range(array.shape[1])]
        for conv in convs:
            output = base[conv.output[0]]
            for m in range(output.shape[1]):
                redrawn = output.copy()
                redrawn[:, m] = normal(redrawn[:, m].shape)
                after = probe.run(None, {**base, conv.output[0]: redrawn})
                for name, old, new in zip(names, before, after):
                    for c in np.flatnonzero((np.moveaxis(old != new, 1, 0)).reshape(old.shape[1], -1).any(axis=1)):
                        found[name][c].add((label(conv), m))
    return found


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for i, name in enumerate(names):
        copy.graph.node.append(helper.make_node("Identity", [name], [f"probe {i}"]))
        copy.graph.output.append(helper.make_tensor_value_info(f"probe {i}", onnx.TensorProto.FLOAT, None))
    return copy


def claimed(report: TraceReport) -> dict[str, Channels]:
    """What the tracer says of each layer's input maps."""
    return {
        layer.node: [{(producer.node, producer.filter) for producer in entry.producers} for entry in layer.maps]
        for layer in report.layers
    }


def assert_traced_exactly(model: onnx.ModelProto, path: Path) -> None:
    """Checks every producer that is claimed for the model saved at ``path``, and that none is missing."""
    report = trace(path)
    assert [layer.node for layer in report.layers if layer.weight is None] == []
    claims = claimed(report)
    convs = layers(model)
    for draws in (2, 60):  # a dependency that is not seen may have been hidden: look again before saying so
        found = dependencies(model, [conv.input[0] for conv in convs], draws=draws)
        observed = {label(conv): found[conv.input[0]] for conv in convs}
        if claims == observed:
            break
    assert claims == observed, onnx.printer.to_text(model)
    for layer in report.layers:
        for entry in layer.maps:
            assert bool(entry.producers) == (entry.reason is None)
