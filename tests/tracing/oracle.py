"""Which filters a channel depends on, found by trying: no rule about any operator, only ONNX Runtime.

The graph is cut behind every layer: the layer is taken out and its output becomes an input of the graph, fed with random
numbers. Then one channel of one of these inputs is drawn anew, and whatever channel of an activation changes depends on
that filter. A filter's effect on an activation is only ever seen along paths without another layer, because there are
no layers left.

An If is replaced by both of its branches and a Where, which is what it means; so its layers and activations are in sight.
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

from tests.support.models import random_feeds
from tests.support.sessions import open_session
from tgdonnx.tracing import TraceReport, trace

Filter = tuple[str, int]  # (name of the layer, index of the filter)
Channels = list[set[Filter]]


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return open_session(model, options)


def label(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The layers: convolutions, and products with a stored matrix."""
    stored = {tensor.name for tensor in model.graph.initializer}
    nodes = flattened(model).graph.node
    products = [node for node in nodes if node.op_type in ("Gemm", "MatMul") and node.input[1] in stored]
    return [node for node in nodes if node.op_type in ("Conv", "ConvTranspose") or node in products]


def filter_axis(layer: onnx.NodeProto) -> int:
    """The axis of a layer's input and output that counts maps, or elements of maps."""
    return -1 if layer.op_type in ("Gemm", "MatMul") else 1


def flattened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every If replaced by its branches and a Where."""
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    del flat.graph.node[:]
    for node in model.graph.node:
        if node.op_type != "If":
            flat.graph.node.append(node)
            continue
        branches = {attribute.name: attribute.g for attribute in node.attribute}
        for branch in branches.values():
            flat.graph.node.extend(branch.node)
        for index, output in enumerate(node.output):
            either = [branches[name].output[index].name for name in ("then_branch", "else_branch")]
            flat.graph.node.append(helper.make_node("Where", [node.input[0], *either], [output]))
    return flat


def dependencies(model: onnx.ModelProto, names: Sequence[str], *, seed: int = 0, draws: int = 3) -> dict[str, Channels]:
    """Returns for each named activation, channel by channel (axis 1), the filters it depends on.

    Args:
        model: a network.
        names: activations.
        seed: of the random numbers.
        draws: how often everything is drawn anew; what is hidden once (by a Relu, say) may show another time.
    """
    return {name: _along(found, 1) for name, found in effects(model, names, seed=seed, draws=draws).items()}


def _along(changed: dict[Filter, NDArray[np.bool_]], axis: int) -> Channels:
    size = next(iter(changed.values())).shape[axis]
    channels: Channels = [set() for _ in range(size)]
    for source, places in changed.items():
        for c in np.flatnonzero(np.moveaxis(places, axis, 0).reshape(size, -1).any(axis=1)):
            channels[c].add(source)
    return channels


def effects(
    model: onnx.ModelProto, names: Sequence[str], *, seed: int = 0, draws: int = 3
) -> dict[str, dict[Filter, NDArray[np.bool_]]]:
    """Returns for each named activation and each filter where the activation changes with the filter."""
    flat, cut_layers = flattened(model), layers(model)
    feeds = random_feeds(model, seed)
    shapes = [a.shape for a in session(_with_outputs(flat, [c.output[0] for c in cut_layers])).run(None, feeds)]
    cut = _with_outputs(flat, names)
    for layer in cut_layers:
        cut.graph.node.remove(layer)
        cut.graph.input.append(helper.make_tensor_value_info(layer.output[0], onnx.TensorProto.FLOAT, None))
    probe = session(cut)
    fed = {value.name for value in probe.get_inputs()}

    found: dict[str, dict[Filter, NDArray[np.bool_]]] = {name: {} for name in dict.fromkeys(names)}
    rng = np.random.default_rng(seed)
    for i in range(draws):
        # The large numbers overcome the offsets in front of a Relu, the small ones show behind a Tanh.
        scale = (1, 30)[i % 2]

        def normal(shape: tuple[int, ...], scale: int = scale) -> NDArray[Any]:
            return (scale * rng.standard_normal(shape)).astype(np.float32)

        base = {
            name: np.array(bool(rng.integers(2))) if array.dtype == bool else normal(array.shape)
            for name, array in feeds.items()
        }
        base.update({layer.output[0]: normal(shape) for layer, shape in zip(cut_layers, shapes)})
        base = {name: array for name, array in base.items() if name in fed}
        before = probe.run(None, base)
        assert all(np.isfinite(array).all() for array in before)
        for layer in cut_layers:
            output, axis = base[layer.output[0]], filter_axis(layer)
            for m in range(output.shape[axis]):
                redrawn = np.moveaxis(output.copy(), axis, 0)
                redrawn[m] = normal(redrawn[m].shape)
                redrawn = np.ascontiguousarray(np.moveaxis(redrawn, 0, axis))
                after = probe.run(None, {**base, layer.output[0]: redrawn})
                for name, old, new in zip(names, before, after):
                    changed = found[name].setdefault((label(layer), m), np.zeros(old.shape, bool))
                    changed |= old != new
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
    expected = layers(model)
    assert sorted(claims) == sorted(label(layer) for layer in expected)
    assert [name for name, maps in claims.items() if not maps] == []
    for draws in (4, 60):  # a dependency that is not seen may have been hidden: look again before saying so
        found = effects(model, [layer.input[0] for layer in expected], draws=draws)
        observed = {
            label(layer): _maps(_along(found[layer.input[0]], filter_axis(layer)), len(claims[label(layer)]))
            for layer in expected
        }
        if claims == observed:
            break
    assert claims == observed, onnx.printer.to_text(model)
    for layer in report.layers:
        for entry in layer.maps:
            assert bool(entry.producers) == (entry.reason is None)


def _maps(elements: Channels, count: int) -> Channels:
    """Takes the elements of each map of a matrix product together: some may be a border that nothing made."""
    assert len(elements) % count == 0
    length = len(elements) // count
    return [set().union(*elements[index * length : (index + 1) * length]) for index in range(count)]
