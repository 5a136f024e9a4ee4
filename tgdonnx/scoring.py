"""KSE scores of the input maps of every layer of a model."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx import kse
from tgdonnx.errors import NonFiniteWeightError, SelectionError
from tgdonnx.files.model_file import ModelSource, require_external_data
from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K, MapScores
from tgdonnx.layers import Layer, open_network
from tgdonnx.presenting import Presented
from tgdonnx.tracing import Provenance, trace_network

# Check, mask and verify score the same weights one after the other. Scores are small: as many layers as large models have.
_KEPT_LAYERS = 4096
_kept: OrderedDict[tuple[object, ...], MapScores] = OrderedDict()
_keeping = threading.Lock()


@dataclass(frozen=True)
class ScoreOptions:
    """How input maps are scored.

    Attributes:
        alpha: weight of the entropy in the KSE.
        k: number of nearest neighbours in the entropy.
    """

    alpha: float = DEFAULT_ALPHA
    k: int = DEFAULT_K


@dataclass(frozen=True)
class LayerScores:
    """Scores of the input maps of one layer.

    Attributes:
        node: the layer.
        op_type: its operator.
        weight: the name of its weight in the file; None when it has none that can be read.
        group: the number of groups.
        filters: the number of filters.
        maps: the number of input maps, over all groups.
        sparsity: float64 of shape (maps,), >= 0; the sum of the L1 norms of the kernels that read the map.
        entropy: float64 of shape (maps,), bits; how evenly those kernels are spread.
        kse: float64 of shape (maps,), in [0, 1].
        notes: what a reader should know, such as why every score is 1.
    """

    node: str
    op_type: str
    weight: Optional[str]
    group: int
    filters: int
    maps: int
    sparsity: NDArray[np.float64]
    entropy: NDArray[np.float64]
    kse: NDArray[np.float64]
    notes: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class ScoreReport(Presented):
    """Scores of a model.

    Attributes:
        model: the file.
        alpha: weight of the entropy.
        k: number of nearest neighbours.
        layers: in topological order.
    """

    model: str
    alpha: float
    k: int
    layers: tuple[LayerScores, ...]


def score(model: ModelSource, *, alpha: float = DEFAULT_ALPHA, k: int = DEFAULT_K) -> ScoreReport:
    """Computes sparsity, entropy and KSE of every input map of every layer (Li et al., CVPR 2019, section 3).

    One weight is read at a time, so models with external data larger than memory can be scored.

    Raises:
        ModelFileError: no usable model, or its external data is missing.
        NonFiniteWeightError: a weight holds NaN or infinity.
        SelectionError: alpha is negative or k < 1.
    """
    return score_layers(trace_network(open_network(model)), alpha=alpha, k=k)


def score_layers(provenance: Provenance, *, alpha: float = DEFAULT_ALPHA, k: int = DEFAULT_K) -> ScoreReport:
    """As `score`, for a model that is traced already."""
    if not (np.isfinite(alpha) and alpha >= 0):
        raise SelectionError(f"expected alpha >= 0, got {alpha:g}")
    if k < 1:
        raise SelectionError(f"expected k >= 1, got {k}")
    file = provenance.network.file
    require_external_data(file)
    layers = tuple(_score_layer(layer, alpha, k) for layer in provenance.layers)
    return ScoreReport(str(file.path), alpha, k, layers)


def _score_layer(layer: Layer, alpha: float, k: int) -> LayerScores:
    if layer.weight is None or layer.problem is not None:
        empty, name = np.zeros(0), layer.weight.name if layer.weight else None
        problem = f"cannot be scored: {layer.problem}"
        return LayerScores(
            layer.name, layer.op_type, name, layer.group, layer.filters, 0, empty, empty, empty, (problem,)
        )
    try:
        scores = _score_once(layer.layout.kernels(layer.weight.read()), layer.group, alpha, k)
    except NonFiniteWeightError as error:
        raise NonFiniteWeightError(
            f"{layer.weight.name!r} of node {layer.name!r} cannot be scored: {error}",
            node=layer.name,
            op_type=layer.op_type,
        ) from error
    return LayerScores(
        layer.name,
        layer.op_type,
        layer.weight.name,
        layer.group,
        layer.filters,
        layer.maps,
        scores.sparsity,
        scores.entropy,
        scores.kse,
        scores.notes,
    )


def _score_once(kernels: NDArray[Any], group: int, alpha: float, k: int) -> MapScores:
    """As `score_maps`, which weights of the same bytes go through once in a process; the arrays cannot be written to."""
    digest = hashlib.sha256(np.ascontiguousarray(kernels).view(np.uint8).data).digest()
    key = (digest, kernels.dtype.str, kernels.shape, group, alpha, k)
    with _keeping:
        scores = _kept.get(key)
    if scores is None:
        scores = kse.score_maps(kernels, group=group, alpha=alpha, k=k)
        for values in (scores.sparsity, scores.entropy, scores.kse):
            values.flags.writeable = False
        with _keeping:
            _kept[key] = scores
            if len(_kept) > _KEPT_LAYERS:
                _kept.popitem(last=False)
    return scores
