"""Regrown masked models made by hand: random values within masks, and random elements that are set and do not train."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.oracles.independent import tensors_of
from tests.support import models
from tests.support.models import Array, Builder, save
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import Network, open_network
from tgdonnx.masked_model import read_masked, write_masked
from tgdonnx.selection import Percentile, RetrainMask, Strategy, plan_masks, select
from tgdonnx.tracing import trace_network
from tgdonnx.verifying.allowed_changes import masked_evidence, recorded_evidence
from tgdonnx.verifying.comparison import Comparison, compare_files

# What is set here follows no rule, so `verify` would not believe it: `compared` looks at the bytes alone.
RECORD = {
    "strategy": "percentile",
    "percentile": 40.0,
    "alpha": 1.0,
    "k": 5,
    "phi": 0.5,
    "mode": "regrow",
    "round": 1,
    "rebirth": "he",
    "isolate": False,
    "seed": 3,
    "reborn": 0,
    "rows": {},
    "samples": None,
    "change": 0.25,
}
LOWEST = Percentile(40)


@dataclass(frozen=True)
class ByHand:
    """What is written.

    Attributes:
        vendor: the vendor's file.
        masked: the masked model.
        masks: what trains, by tensor.
        values: the values that training starts from, by tensor.
        set_masks: what was set besides.
    """

    vendor: Path
    masked: Path
    masks: tuple[RetrainMask, ...]
    values: Mapping[str, Array]
    set_masks: Mapping[str, Array]

    def trains(self, name: str) -> Array:
        """Where a tensor trains, as bool of its shape."""
        return self._where({m.parameter.name: m.values for m in self.masks}, name)

    def is_set(self, name: str) -> Array:
        """Where a tensor was set, as bool of its shape."""
        return self._where(self.set_masks, name)

    def _where(self, masks: Mapping[str, Array], name: str) -> Array:
        shape = tuple(tensors_of(onnx.load(self.vendor, load_external_data=False))[name].dims)
        return np.broadcast_to(masks.get(name, np.zeros((), np.float32)) == 1, shape)


def compared(vendor: Path, tuned: Path, *, masked: Optional[Path] = None) -> Comparison:
    """What differs from the vendor's file, byte by byte, by evidence whose word is taken."""
    before, after = load_model(vendor), load_model(tuned)
    network = open_network(before)
    evidence = recorded_evidence(network, after) if masked is None else masked_evidence(network, read_masked(masked))
    if evidence.violations:
        return Comparison((), evidence.violations)
    return compare_files(network, after, evidence.allowed)


def random_values(rng: np.random.Generator, like: Array, size: float = 0.2) -> Array:
    """Values of the type and shape of a tensor, none of them its own."""
    if like.dtype.kind in "iu":
        return (like.astype(np.int64) + rng.integers(1, 9, like.shape)).astype(like.dtype)  # integers wrap around
    return (like.astype(np.float64) + size * rng.uniform(0.1, 1, like.shape)).astype(like.dtype)


def invent(
    network: Network, rng: np.random.Generator, strategy: Strategy = LOWEST, statistics: tuple[str, ...] = ()
) -> tuple[tuple[RetrainMask, ...], dict[str, Array], dict[str, Array]]:
    """Retrain masks of mode ``readers``; new values under all of them; and set masks.

    Args:
        network: the model.
        rng: of the values and of what is set.
        strategy: what trains.
        statistics: tensors without retrain mask, with one number per map, of which two are set.
    """
    provenance = trace_network(network)
    masks = plan_masks(provenance, select(provenance, strategy), "readers")
    stored = {m.parameter.name: m.parameter.numpy() for m in masks}
    values: dict[str, Array] = {}
    set_masks: dict[str, Array] = {}
    weights = {layer.weight.name for layer in network.layers if layer.weight is not None}
    for m in masks:
        name, old = m.parameter.name, stored[m.parameter.name]
        where = np.broadcast_to(m.values == 1, old.shape)
        if m.values.any():
            values[name] = np.where(where, random_values(rng, old), old)
    for name in sorted(weights & values.keys())[-2:]:  # some kernels of the last layers
        per_kernel = (stored[name].shape[0], stored[name].shape[1], *(1,) * (stored[name].ndim - 2))
        mask = next(m.values for m in masks if m.parameter.name == name)
        chosen = (rng.random(per_kernel) < 0.3) & (np.broadcast_to(mask, per_kernel) == 0)
        set_masks[name] = chosen.astype(np.float32)
        zero = np.zeros((), stored[name].dtype)
        values[name] = np.where(np.broadcast_to(chosen, stored[name].shape), zero, values[name])
    for name in statistics:
        old = network.stored_parameters[name].numpy()
        chosen = np.isin(np.arange(old.size), [0, old.size - 2])
        set_masks[name] = chosen.astype(np.float32)
        values[name] = np.where(chosen, random_values(rng, old), old)
    return masks, values, set_masks


def regrow_by_hand(
    model: onnx.ModelProto,
    directory: Path,
    *,
    seed: int = 0,
    strategy: Strategy = LOWEST,
    statistics: tuple[str, ...] = (),
    vendor: Optional[Path] = None,
    output: Optional[Path] = None,
) -> ByHand:
    """Writes ``model.onnx`` and ``masked.onnx``, in directories of their own where data is external."""
    vendor = vendor or save(model, directory / "model.onnx")
    output = output or directory / "masked.onnx"
    network = open_network(vendor)
    masks, values, set_masks = invent(network, np.random.default_rng(seed), strategy, statistics)
    write_masked(network, masks, RECORD, output, values=values, set_masks=set_masks)
    return ByHand(vendor, output, masks, values, set_masks)


def started(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy of a model with other tensors, made without anything of ours."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, tensor in tensors_of(copy).items():
        if name in values:
            own = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values[name], own))
    return copy


def outputs(model: onnx.ModelProto | Path, feeds: Mapping[str, Array]) -> list[bytes]:
    """What onnxruntime gives, without optimisations: so that the same computation gives the same bits."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # that nobody reads the masks is no news
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = open_session(source, options)
    return [array.tobytes() for array in session.run(None, dict(feeds))]


def with_halves(seed: int = 0) -> onnx.ModelProto:
    """A denoiser with two weights stored in float16."""
    model = models.dncnn(seed)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.name in ("w2", "w3"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def with_float_data(seed: int = 0) -> onnx.ModelProto:
    """A denoiser whose tensors are stored as numbers."""
    model = models.dncnn(seed)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, array.shape, array.ravel()))
    return model


def integers(seed: int = 0) -> onnx.ModelProto:
    """Weights of int8, biases of int32."""
    return quantized(Kind(), seed)


STATISTICS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dncnn", "constant nodes", "float16", "float_data"), ("bn2_mean", "bn3_var")),
    "ir 3": ("bn_mean", "bn_var"),
}
VARIANTS: dict[str, Builder] = {
    "chain": models.chain,
    "dncnn": models.dncnn,
    "residual": models.residual,
    "grouped": models.grouped,
    "constant nodes": models.constant_nodes,
    "ir 3": models.ir_3,
    "float16": with_halves,
    "float_data": with_float_data,
    "int8": integers,
}


def variant(name: str, directory: Path, *, seed: int = 0) -> tuple[onnx.ModelProto, ByHand]:
    """A network and its regrown masked model."""
    model = VARIANTS[name](seed)
    return model, regrow_by_hand(model, directory, seed=seed, statistics=STATISTICS.get(name, ()))


def stored_tensors(path: Path) -> dict[str, Array]:
    """Every stored tensor of a file, also those in external data."""
    model = onnx.load(path)
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors_of(model).items()}


def tampered(path: Path, change: Callable[[onnx.ModelProto], Any]) -> Path:
    """Parses, changes and writes a file, as another tool would."""
    model = onnx.load(path, load_external_data=False)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path
