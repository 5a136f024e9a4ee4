"""Which elements of a file may change, worked out from its weights and its bytes by means of our own.

The KSE is TGD.md in loops; tracing is for plain chains of layers, where the maps of a layer are the filters of the one
before; bytes are compared as bytes.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tests.support.models import Array

Mask = NDArray[np.bool_]


def tensors_of(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Every initializer, and the value of every Constant node."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = node.attribute[0].t
    return found


def kse(weight: Array) -> list[float]:
    """The score of every input map of a layer without groups."""
    filters, maps = weight.shape[:2]
    sparsity, entropy = [], []
    for c in range(maps):
        kernels = [weight[n, c].astype(np.float64).ravel() for n in range(filters)]
        sparsity.append(sum(float(np.abs(kernel).sum()) for kernel in kernels))
        near = [
            sum(sorted(float(np.linalg.norm(a - b)) for j, b in enumerate(kernels) if j != i)[:5])
            for i, a in enumerate(kernels)
        ]
        shares = [d / sum(near) for d in near if d > 0] if sum(near) else []
        entropy.append(-sum(p * math.log2(p) for p in shares))
    if max(sparsity) == min(sparsity):
        return [1.0] * maps
    s, e = ([(v - min(vs)) / (max(vs) - min(vs) or 1.0) for v in vs] for vs in (sparsity, entropy))
    raw = [math.sqrt(a / (1 + b)) for a, b in zip(s, e)]
    return [(v - min(raw)) / (max(raw) - min(raw)) for v in raw]


def expected_masks(model: onnx.ModelProto, phi: float, mode: str = "paper") -> dict[str, Mask]:
    """For every tensor of a chain of layers with something to train, which of its elements may change."""
    tensors = {name: numpy_helper.to_array(tensor) for name, tensor in tensors_of(model).items()}
    made_by = {output: node for node in model.graph.node for output in node.output}

    def behind(value: str) -> str | None:
        """The weight of the layer that made a value, through what keeps maps apart."""
        node = made_by.get(value)
        if node is None or node.op_type == "Conv":
            return None if node is None else node.input[1]
        assert node.op_type in ("Relu", "LeakyRelu", "BatchNormalization", "Identity"), node.op_type
        return behind(node.input[0])

    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    rows: dict[str, Mask] = {}
    meaningless: dict[str, Mask] = {}
    for layer in layers:
        below = np.array([score < phi for score in kse(tensors[layer.input[1]])])
        source = behind(layer.input[0])
        meaningless[layer.input[1]] = below if source else np.zeros(len(below), bool)
        if source:
            assert source not in rows, "a chain"
            rows[source] = below
    masks: dict[str, Mask] = {}
    for node in model.graph.node:
        filters = rows.get(node.input[1] if node.op_type == "Conv" else "")
        if node.op_type == "Conv":
            weight = tensors[node.input[1]]
            trains = np.zeros(weight.shape, bool)
            if filters is not None:
                trains[filters] = True
            if mode == "readers":
                trains[:, meaningless[node.input[1]]] = True
            masks[node.input[1]] = trains
            if len(node.input) > 2 and filters is not None:
                masks[node.input[2]] = filters
        elif node.op_type == "BatchNormalization":
            filters = rows.get(behind(node.input[0]) or "")
            if filters is not None:
                masks[node.input[1]] = masks[node.input[2]] = filters
    return {name: mask for name, mask in masks.items() if mask.any()}


def places(model: onnx.ModelProto, data: bytes) -> dict[str, int]:
    """Where the raw data of every float tensor of some size begins in the bytes of the file; each occurs once."""
    found = {}
    for name, tensor in tensors_of(model).items():
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= 8:
            assert data.count(tensor.raw_data) == 1, name
            found[name] = data.index(tensor.raw_data)
    return found


def changed_elements(model: onnx.ModelProto, base: bytes, tuned: bytes) -> tuple[dict[str, Mask], list[int], bytes]:
    """Returns the elements that differ, the bytes that differ elsewhere, and what the tuned file has behind the base."""
    assert len(tuned) >= len(base)
    differs = np.frombuffer(base, np.uint8) != np.frombuffer(tuned[: len(base)], np.uint8)
    changed: dict[str, Mask] = {}
    for name, start in places(model, base).items():
        shape = tuple(tensors_of(model)[name].dims)
        end = start + 4 * int(np.prod(shape))
        elements = differs[start:end].reshape(-1, 4).any(axis=1).reshape(shape)
        differs[start:end] = False
        if elements.any():
            changed[name] = elements
    return changed, [int(i) for i in np.flatnonzero(differs)], tuned[len(base) :]


def rows_of(mask: Mask) -> Mask:
    """The rows in which anything is set."""
    return mask.reshape(len(mask), -1).any(axis=1)


def assert_only_changed(model: onnx.ModelProto, base: bytes, tuned: bytes, expected: dict[str, Mask]) -> None:
    """The changed rows are exactly the expected ones; nothing else differs; the rest is one record in the metadata."""
    changed, elsewhere, rest = changed_elements(model, base, tuned)
    assert elsewhere == []
    assert changed.keys() == expected.keys()
    for name, mask in expected.items():
        assert not (changed[name] & ~mask).any(), name
        assert np.array_equal(rows_of(changed[name]), rows_of(mask)), name
        if mask.ndim > 1:  # kernel by kernel
            kernels = [m.reshape(*m.shape[:2], -1).any(axis=2) for m in (changed[name], mask)]
            assert np.array_equal(*kernels), name
    record = onnx.ModelProto.FromString(rest)
    assert [entry.key for entry in record.metadata_props] == ["tgdonnx.provenance.1"]
    assert record.SerializeToString() == rest
    assert not record.HasField("graph")


def all_options() -> list[tuple[str, str, str, float, float | None]]:
    """(mode, gradient, optimizer, l2, clip_norm): every combination that there is."""
    every = itertools.product(["paper", "readers"], ["mask", "gate"], ["adamw", "sgd"], [0.0, 0.01], [None, 0.5])
    return [options for options in every if options[:2] != ("readers", "gate")]
