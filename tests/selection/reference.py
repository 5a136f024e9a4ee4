"""TGD.md, "Which filters train" and "readers", written down a second time: plain Python over the ModelProto.

Who made what comes from outside: from the oracle's experiments or, for random networks, from the tracer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from tests.oracles.kse_reference import reference as reference_kse
from tests.support.models import Array
from tests.tracing.oracle import Channels, Filter, dependencies, label, layers


@dataclass(frozen=True)
class Reference:
    """A network, and for its activations the filters that each channel depends on."""

    model: onnx.ModelProto
    dependencies: Mapping[str, Channels]

    @cached_property
    def tensors(self) -> dict[str, Array]:
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}
        for node in self.model.graph.node:
            if node.op_type == "Constant":
                stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        return stored

    def root(self, name: str) -> str:
        """The tensor that a name stands for, through Identity."""
        copies = {node.output[0]: node.input[0] for node in self.model.graph.node if node.op_type == "Identity"}
        while name in copies:
            name = copies[name]
        return name

    def weight(self, conv: onnx.NodeProto) -> str:
        return self.root(conv.input[1])

    @cached_property
    def scores(self) -> dict[str, list[float]]:
        """The KSE of the input maps of each layer."""
        return {
            label(conv): reference_kse(self.tensors[self.weight(conv)], group=group(conv))[2]
            for conv in layers(self.model)
        }

    @cached_property
    def importance(self) -> dict[Filter, float]:
        """Rules 3 and 4: the largest score of any map that the filter has a part in; infinite where nobody can tell."""
        found = {
            (label(conv), m): -math.inf
            for conv in layers(self.model)
            for m in range(len(self.tensors[self.weight(conv)]))
        }
        for conv in layers(self.model):
            for producers, score in zip(self.dependencies[conv.input[0]], self.scores[label(conv)]):
                for producer in producers:
                    found[producer] = max(found[producer], score)
        for output in self.model.graph.output:
            for producer in set().union(*self.dependencies[output.name]):
                found[producer] = math.inf
        return {producer: math.inf if value == -math.inf else value for producer, value in found.items()}

    def below(self, phi: float) -> set[Filter]:
        return {producer for producer, value in self.importance.items() if value < phi}

    def percentile(self, percent: int) -> float:
        """The threshold below which the lowest percent of the scores of all traced maps lie."""
        traced = sorted(
            score
            for conv in layers(self.model)
            for producers, score in zip(self.dependencies[conv.input[0]], self.scores[label(conv)])
            if producers
        )
        count = len(traced) * percent // 100
        return traced[count] if count < len(traced) else math.inf

    def masks(self, selected: set[Filter], *, phi: float | None = None, readers: bool = False) -> dict[str, Array]:
        """For every retrainable tensor a bool array of its own shape: what of it trains.

        Args:
            selected: the filters to retrain.
            phi: maps that score lower are meaningless; if None, those whose producers are all selected are.
            readers: whether kernels that read a meaningless map train.
        """
        convs = layers(self.model)
        rows: dict[str, Array] = {}
        for conv in convs:
            wanted = np.array([(label(conv), m) in selected for m in range(len(self.tensors[self.weight(conv)]))])
            rows[self.weight(conv)] = rows.get(self.weight(conv), True) & wanted
        trains = {(label(conv), m) for conv in convs for m in np.flatnonzero(rows[self.weight(conv)])}

        masks = {}
        for name, row in rows.items():
            weight = self.tensors[name]
            kernels = np.repeat(row[:, None], weight.shape[1], axis=1)
            if readers:
                kernels |= np.logical_and.reduce(
                    [self._released(c, selected, phi) for c in convs if self.weight(c) == name]
                )
            masks[name] = np.broadcast_to(kernels.reshape(*kernels.shape, *[1] * (weight.ndim - 2)), weight.shape)

        channels: dict[str, Array] = {}
        for conv in convs:
            if len(conv.input) > 2:
                name = self.root(conv.input[2])
                channels[name] = channels.get(name, True) & rows[self.weight(conv)]
        for node in self.model.graph.node:
            if node.op_type == "BatchNormalization":
                made_by = self.dependencies[node.input[0]]
                if not any(made_by):
                    continue  # a norm of the input of the model belongs to no filter
                of_map = np.array([bool(made) and made <= trains for made in made_by])
                for name in (self.root(node.input[1]), self.root(node.input[2])):
                    channels[name] = channels.get(name, True) & of_map
        for node, name in per_channel_constants(self.model):
            made_by = self.dependencies[node.output[0]]
            if any(made_by):
                of_map = np.array([bool(made) and made <= trains for made in made_by])
                channels[name] = of_map.reshape(self.tensors[name].shape)
        return {**masks, **channels}

    def _released(self, conv: onnx.NodeProto, selected: set[Filter], phi: float | None) -> Array:
        """M[n, c] = 1 if the map that kernel [n, c] reads means nothing to this layer."""
        filters, per_group = self.tensors[self.weight(conv)].shape[:2]
        released = np.zeros((filters, per_group), bool)
        for n in range(filters):
            for c in range(per_group):
                read = n // (filters // group(conv)) * per_group + c
                producers = self.dependencies[conv.input[0]][read]
                meaningless = producers <= selected if phi is None else self.scores[label(conv)][read] < phi
                released[n, c] = bool(producers) and meaningless
        return released


def group(conv: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in conv.attribute if attribute.name == "group"), 1)


def per_channel_constants(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    """Nodes that add or multiply one stored number per channel, and that tensor: (C, 1, ...) or (1, C, 1, ...)."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type in ("Add", "Mul"):
            for name, other in (node.input, node.input[::-1]):
                if name in stored and other not in stored and sum(dim > 1 for dim in stored[name].dims) == 1:
                    found.append((node, name))
    return found


def activations(model: onnx.ModelProto) -> list[str]:
    """Whatever the rules ask about: inputs of layers and of batch norms, and the outputs of the model."""
    readers = [node for node in model.graph.node if node.op_type in ("Conv", "BatchNormalization")]
    changed = [node.output[0] for node, _ in per_channel_constants(model)]
    outputs = [value.name for value in model.graph.output]
    return list(dict.fromkeys([*(node.input[0] for node in readers), *changed, *outputs]))


def by_experiment(model: onnx.ModelProto) -> Reference:
    return Reference(model, dependencies(model, activations(model), draws=16))
