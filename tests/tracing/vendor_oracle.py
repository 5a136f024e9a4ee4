"""The oracle for large models of others: a sample of the filters, each tried against every input map of every layer.

As in `tests.tracing.oracle` the graph is cut behind every layer and one channel is drawn anew. Here layers are whatever the
report names (Conv, ConvTranspose, Gemm, MatMul), and a filter's claimed effect is compared with what changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from tests.tracing.oracle import label, session
from tgdonnx.tracing import LayerTrace, trace

# How large activations are, and how much louder the one channel is drawn anew: what a model divides by the largest of all
# depends on a channel only where that is the largest.
TRIES = (*((scale, 1.0) for scale in (0.3, 1.0, 5.0, 30.0) * 2), (1.0, 1e3), (1.0, 1e4))


@dataclass(frozen=True)
class Disagreement:
    """What was found for one filter."""

    layer: str
    filter: int
    unclaimed: set[tuple[str, int]]
    unseen: set[tuple[str, int]]


def disagreements(path: Path, shapes: Mapping[str, Sequence[int]], *, sample: int, seed: int = 0) -> list[Disagreement]:
    """Tries a sample of filters and returns those whose effect is not what the tracer claims.

    Args:
        path: a model.
        shapes: of its inputs.
        sample: how many filters to try.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    report = trace(path)
    model = onnx.load(path)
    nodes = {label(node): node for node in model.graph.node}
    layers = [layer for layer in report.layers if layer.weight is not None]
    outputs = [nodes[layer.node].output[0] for layer in layers]
    inputs = [nodes[layer.node].input[0] for layer in layers]
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    found = session(_with_outputs(model, outputs)).run(None, feeds)
    probe = session(_cut(_with_outputs(model, inputs), {nodes[layer.node].output[0] for layer in layers}))
    fed = {value.name for value in probe.get_inputs()}
    pairs = [
        (index, m)
        for index, (layer, array) in enumerate(zip(layers, found))
        for m in range(array.shape[_filter_axis(nodes[layer.node])])
        if outputs[index] in fed
    ]
    chosen = [pairs[i] for i in sorted(rng.permutation(len(pairs))[:sample])]
    result = []
    for index, m in chosen:
        name, axis = outputs[index], _filter_axis(nodes[layers[index].node])
        claimed = {
            (layer.node, entry.map)
            for layer in layers
            for entry in layer.maps
            if any(p.node == layers[index].node and p.filter == m for p in entry.producers)
        }
        opaque = {
            (layer.node, e.map) for layer in layers for e in layer.maps if e.reason is not None and "cannot" in e.reason
        }
        seen: set[tuple[str, int]] = set()
        for scale, loudness in TRIES:
            base = {key: (scale * rng.standard_normal(array.shape)).astype(np.float32) for key, array in feeds.items()}
            for key, array in zip(outputs, found):
                base[key] = (scale * rng.standard_normal(array.shape)).astype(np.float32)
            base = {key: array for key, array in base.items() if key in fed}
            redrawn = np.moveaxis(base[name].copy(), axis, 0)
            redrawn[m] = loudness * scale * rng.standard_normal(redrawn[m].shape)
            before = probe.run(None, base)
            after = probe.run(None, {**base, name: np.ascontiguousarray(np.moveaxis(redrawn, 0, axis))})
            for layer, old, new in zip(layers, before, after):
                seen |= {(layer.node, c) for c in _changed(layer, nodes[layer.node], old, new)}
            if seen >= claimed:
                break
        if seen - opaque != claimed:
            result.append(Disagreement(layers[index].node, m, seen - opaque - claimed, claimed - seen))
    return result


def _filter_axis(node: onnx.NodeProto) -> int:
    return -1 if node.op_type in ("Gemm", "MatMul") else 1


def _changed(layer: LayerTrace, node: onnx.NodeProto, old: NDArray[Any], new: NDArray[Any]) -> list[int]:
    differs = np.moveaxis(old != new, _filter_axis(node), 0)
    if not layer.maps:
        return []  # it does not say what its maps are
    per_map = differs.reshape(len(layer.maps), -1)
    return [int(c) for c in np.flatnonzero(per_map.any(axis=1))]


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for index, name in enumerate(names):
        copy.graph.node.append(helper.make_node("Identity", [name], [f"probe {index}"]))
        copy.graph.output.append(helper.make_tensor_value_info(f"probe {index}", onnx.TensorProto.FLOAT, None))
    return copy


def _cut(model: onnx.ModelProto, outputs: set[str]) -> onnx.ModelProto:
    kept = [node for node in model.graph.node if not (node.output and node.output[0] in outputs)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]
    for name in sorted(outputs):
        model.graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return model
