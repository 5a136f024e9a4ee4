"""Start models and dropped models of networks in which filters are reinitialised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tests.support.models import Array, random_feeds, save
from tests.sweeping.oracle import outputs
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import open_network
from tgdonnx.regrowing import Regrown, Reinitialization, regrow
from tgdonnx.selection import Filters, Strategy, plan_masks, select
from tgdonnx.sweeping.dropping import drop_filters, replace_tensors, whole_model
from tgdonnx.tracing import Provenance, trace_network

ANY_CHANGE = 1e6  # the networks of these tests need all their filters


@dataclass(frozen=True)
class Case:
    """A network in which filters are reinitialised."""

    path: Path
    model: onnx.ModelProto
    provenance: Provenance
    regrown: Regrown

    @property
    def start(self) -> onnx.ModelProto:
        parameters = self.provenance.network.stored_parameters
        return replace_tensors(
            whole_model(load_model(self.path)), [(parameters[n], v) for n, v in self.regrown.values.items()]
        )

    @property
    def reinitialized(self) -> dict[str, list[int]]:
        """For weights of layers the filters that are reinitialised."""
        weights = {layer.weight.name for layer in self.provenance.layers if layer.weight}
        rows = {m.parameter.name: np.flatnonzero(m.filters).tolist() for m in self.regrown.masks}
        return {name: found for name, found in rows.items() if name in weights and found}

    @property
    def dropped(self) -> onnx.ModelProto:
        masks = plan_masks(self.provenance, select(self.provenance, Filters(self.reinitialized)), "paper")
        return drop_filters(whole_model(load_model(self.path)), masks)

    def retrain_mask(self, name: str) -> NDArray[np.bool_]:
        masks = {m.parameter.name: m.values for m in self.regrown.masks}
        shape = self.provenance.network.stored_parameters[name].shape
        return np.broadcast_to(masks.get(name, np.zeros(())) == 1, shape)

    def set_mask(self, name: str) -> NDArray[np.bool_]:
        shape = self.provenance.network.stored_parameters[name].shape
        return np.broadcast_to(self.regrown.set_masks.get(name, np.zeros(())) == 1, shape)


def reinitialized_in(
    model: onnx.ModelProto, directory: Path, strategy: Strategy, kind: str = "he", **options: object
) -> Case:
    path = save(model, directory / "model.onnx")
    provenance = trace_network(open_network(path))
    reinitialization = Reinitialization(kind, **{"tolerance": ANY_CHANGE, **options})
    return Case(path, model, provenance, regrow(provenance, select(provenance, strategy), reinitialization))


def assert_preserves(case: Case, tolerance: float = 1e-6) -> None:
    """The start computes what the dropped model computes."""
    for seed in range(2):
        feeds = random_feeds(case.model, seed)
        for ours, expected in zip(outputs(case.start, feeds), outputs(case.dropped, feeds)):
            assert np.abs(ours - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-30)


def assert_within_masks(case: Case) -> None:
    """Every difference to the vendor's file lies in a retrain mask or a set mask, and never in both."""
    for name, values in case.regrown.values.items():
        vendor = case.provenance.network.stored_parameters[name].numpy()
        assert (values.dtype, values.shape) == (vendor.dtype, vendor.shape)
        trains, is_set = case.retrain_mask(name), case.set_mask(name)
        assert not (trains & is_set).any(), name
        same = values.view(np.uint8).reshape(-1) == vendor.view(np.uint8).reshape(-1)
        differs = ~same.reshape(-1, vendor.dtype.itemsize).all(axis=1).reshape(vendor.shape)
        assert not (differs & ~trains & ~is_set).any(), name


def activations(model: onnx.ModelProto, names: list[str], feeds: dict[str, Array]) -> dict[str, Array]:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    for index, name in enumerate(names):
        exposed.graph.node.append(helper.make_node("Identity", [name], [f"look {index}"]))
        exposed.graph.output.append(helper.make_tensor_value_info(f"look {index}", onnx.TensorProto.FLOAT, None))
    return dict(zip(names, outputs(exposed, feeds)))


def stored(model: onnx.ModelProto, name: str) -> Array:
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def data_for(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    feeds = random_feeds(model)
    return {**feeds, "target": outputs(model, random_feeds(model, 1))[0]}


def trained_at_random(case: Case, seed: int = 0) -> onnx.ModelProto:
    """The start with random numbers in every element that trains."""
    rng = np.random.default_rng(seed)
    parameters = case.provenance.network.stored_parameters
    tensors = {name: np.array(values) for name, values in case.regrown.values.items()}
    for mask in case.regrown.masks:
        name = mask.parameter.name
        values = tensors.get(name, np.array(parameters[name].numpy()))
        noise = rng.standard_normal(values.shape).astype(values.dtype)
        tensors[name] = np.where(case.retrain_mask(name), noise, values).astype(values.dtype)
    return replace_tensors(whole_model(load_model(case.path)), [(parameters[n], v) for n, v in tensors.items()])
