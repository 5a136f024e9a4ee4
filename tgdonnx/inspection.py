"""What a person looks at first when a model arrives: one line per layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.files.model_file import ModelSource, load_model
from tgdonnx.gated_model.record import describe_gate, is_gated, record_of
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.layers import MATRIX_PRODUCTS, Layer, Network, open_network
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.conv_transpose_pads import ExplicitConvTransposePads
from tgdonnx.masked_model import is_masked, read_masked
from tgdonnx.presenting import Presented
from tgdonnx.scoring import LayerScores, score_layers
from tgdonnx.selection import Importance, filter_importance, require_phi
from tgdonnx.tracing import trace_network
from tgdonnx.tracing.report import why_not_traced


@dataclass(frozen=True)
class LayerSummary:
    """One layer.

    Attributes:
        node: the layer.
        op_type: its operator.
        weight: the name of its weight; None when it cannot be read.
        shape: of the weight, as the node reads it.
        output_shape: of what it gives, as text; sizes that the model leaves open as it names them, else as ``?``.
        filters: how many it has.
        group: the number of groups.
        macs: multiply-accumulates for one sample, or None when the output's size is not known.
        macs_per_position: multiply-accumulates for one position of the output.
        kse: float64 of shape (maps,): the scores of its input maps.
        below_phi: how many of its input maps score below phi.
        untraced: for reasons why input maps have no producers, how many.
        retrain: how many of its filters would retrain at phi; in a masked model how many its masks let train, if only in part.
        frozen: for reasons why filters are useful whatever their score, how many.
        notes: what else a reader should know.
    """

    node: str
    op_type: str
    weight: Optional[str]
    shape: tuple[int, ...]
    output_shape: str
    filters: int
    group: int
    macs: Optional[int]
    macs_per_position: int
    kse: NDArray[np.float64]
    below_phi: int
    untraced: dict[str, int]
    retrain: int
    frozen: dict[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class InspectReport(Presented):
    """A model at a glance.

    Attributes:
        model: the file.
        phi: the threshold that counts are for.
        ir_version: of the file.
        opset: version of the default operator set.
        nodes: how many there are in the main graph.
        inputs: name and shape of every input, as text.
        outputs: the same of every output.
        layers: in topological order.
        gate: of a gated file, how both networks are in it, and what chooses, as its record says.
        selection: of a masked model, how its filters were selected; None of others.
    """

    model: str
    phi: float
    ir_version: int
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerSummary, ...]
    gate: Optional[str] = None
    selection: Optional[Mapping[str, Any]] = None


@dataclass(frozen=True)
class Inspected:
    """What a summary is made of.

    Attributes:
        network: the model's graph.
        scores: of the input maps of each layer.
        importance: of the filters of each layer.
        trains: for each layer float64 of shape (filters,), in [0, 1]: how much of each filter retrains.
        report: the summary.
    """

    network: Network
    scores: tuple[LayerScores, ...]
    importance: tuple[Importance, ...]
    trains: tuple[NDArray[np.float64], ...]
    report: InspectReport


def inspect(model: ModelSource, *, phi: float = 0.3, alpha: float = DEFAULT_ALPHA, k: int = DEFAULT_K) -> InspectReport:
    """Summarises a model.

    Args:
        model: the vendor's file, or a model in memory; see `tgdonnx.files.in_memory`.
        phi: threshold of the KSE.
        alpha: weight of the entropy in the KSE.
        k: number of nearest neighbours in the entropy.

    Raises:
        ModelFileError: no usable model.
        NonFiniteWeightError: a weight holds NaN or infinity.
        SelectionError: phi is not in [0, 1].
    """
    return look(model, phi=phi, alpha=alpha, k=k).report


def look(model: ModelSource, *, phi: float, alpha: float = DEFAULT_ALPHA, k: int = DEFAULT_K) -> Inspected:
    """Does what `inspect` does, and returns what the summary is made of, too.

    Raises:
        TgdonnxError: as `inspect`.
    """
    require_phi(phi)
    file = load_model(model)
    masked = read_masked(file) if is_masked(file) else None
    network = open_network(file) if masked is None else masked.network
    provenance = trace_network(network)
    scores = score_layers(provenance, alpha=alpha, k=k).layers
    importance = filter_importance(provenance, scores)
    trains = tuple(
        (worth.values < phi).astype(float) if masked is None else masked.fractions(layer)
        for layer, worth in zip(provenance.layers, importance)
    )
    shapes = _inferred(network)
    layers = []
    for layer, inputs, layer_scores, worth, part in zip(
        provenance.layers, provenance.layer_inputs, scores, importance, trains
    ):
        reasons = [why_not_traced(origin) for origin in inputs]
        layers.append(
            LayerSummary(
                layer.name,
                layer.op_type,
                layer.weight.name if layer.weight else None,
                layer.weight.read_shape if layer.weight else (),
                _shape(shapes.get(str(layer.node.outputs[0].name))),
                layer.filters,
                layer.group,
                _macs(layer, network) if not network.sizes.has_stand_ins else None,
                int(np.prod(layer.weight.read_shape)) if layer.weight else 0,
                layer_scores.kse,
                int((layer_scores.kse < phi).sum()),
                dict(Counter(reason for reason in reasons if reason is not None)),
                int((part > 0).sum()),
                dict(Counter(worth.reasons.values())),
                layer_scores.notes,
            )
        )
    graph = network.graph
    constants = set(graph.initializers)
    report = InspectReport(
        str(file.path),
        phi,
        file.proto.ir_version,
        graph.opset_imports.get("", 0),
        len(file.proto.graph.node),
        tuple(f"{v.name} {_shape(v.shape)}" for v in graph.inputs if v.name not in constants),
        _outputs(network, shapes),
        tuple(layers),
        describe_gate(record_of(file)) if is_gated(file.proto) else None,
        None if masked is None else masked.selection,
    )
    return Inspected(network, scores, importance, trains, report)


def _inferred(network: Network) -> dict[str, Optional[ir.Shape]]:
    """Returns the shapes of values by name, as inferred from the inputs."""
    model = network.clone().model  # inference and spelling change it
    ExplicitConvTransposePads()(model)
    InferShapes()(model)
    return {str(value.name): value.shape for node in model.graph for value in node.outputs}


def _outputs(network: Network, shapes: Mapping[str, Optional[ir.Shape]]) -> tuple[str, ...]:
    """Returns name and shape of every output: as inferred from the inputs, and where that does not tell, as declared."""
    declared = {str(value.name): value.shape for value in network.file.to_ir().graph.outputs}
    found = []
    for value in network.graph.outputs:
        told, shape = declared.get(str(value.name)), shapes.get(str(value.name), value.shape)
        if shape is None:
            shape = told
        elif told is not None and len(told) == len(shape):
            shape = ir.Shape([known if _is_told(known) else other for known, other in zip(shape, told)])
        found.append(f"{value.name} {_shape(shape)}")
    return tuple(found)


def _shape(shape: Optional[ir.Shape]) -> str:
    if shape is None:
        return "of any shape"
    # Some exporters write -1 for an open dimension.
    return f"[{','.join(str(dim) if _is_told(dim) and dim != -1 else '?' for dim in shape)}]"


def _is_told(dim: Union[int, ir.SymbolicDim]) -> bool:
    """Whether a size is a number, or a name that the vendor gave; inference makes up names of its own."""
    if isinstance(dim, int):
        return True
    return dim.value is not None and not str(dim.value).startswith("unk__")


def _macs(layer: Layer, network: Network) -> Optional[int]:
    # A transposed convolution uses each weight once for every position of its input, the others of their output.
    value = layer.node.inputs[0] if layer.op_type == "ConvTranspose" else layer.node.outputs[0]
    shape = network.sizes.shapes.get(value) if value is not None else None
    if shape is None or layer.weight is None:
        return None
    positions = shape[1:-1] if layer.op_type in MATRIX_PRODUCTS else shape[2:]
    return math.prod(positions) * math.prod(layer.weight.read_shape)
