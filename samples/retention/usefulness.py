"""How far the output moves without a single filter, and the filters with the lowest product of that and their score."""

from __future__ import annotations

import numpy as np
import onnxruntime
from network import Array, Network
from numpy.typing import NDArray

from tgdonnx.kse import DEFAULT_ALPHA, DEFAULT_K
from tgdonnx.layers import open_network
from tgdonnx.selection import Selection, plan_masks, score_filters
from tgdonnx.sweeping.dropping import drop_filters, whole_model
from tgdonnx.tracing import trace_network

INPUTS = 8
"""Training inputs for which the output is looked at."""


def least(network: Network, count: int) -> dict[str, list[int]]:
    """Returns the filters with the lowest product of score and usefulness.

    The usefulness of a filter is the RMS of the difference that dropping it alone makes to the output, divided by the standard
    deviation of the output.

    Args:
        network: the vendor's, on training inputs of seed 0.
        count: how many filters of all layers together.

    Returns:
        For names of weights their rows; filters that no score can select are not among them.
    """
    vendor = open_network(network.model)
    provenance = trace_network(vendor)
    scores = [each.values for each in score_filters(provenance, alpha=DEFAULT_ALPHA, k=DEFAULT_K).importance]
    model = whole_model(vendor.file)
    inputs = network.data(0)[network.input_name][:INPUTS]
    before = _output(model.SerializeToString(), network, inputs)
    none = tuple(np.zeros(len(each), bool) for each in scores)
    unread = tuple(np.zeros(layer.maps, bool) for layer in provenance.layers)
    products = [np.full(len(each), np.inf) for each in scores]
    for layer, values in enumerate(scores):
        for row in np.flatnonzero(np.isfinite(values)):
            one = [each.copy() for each in none]
            one[layer][row] = True
            dropped = drop_filters(model, plan_masks(provenance, Selection({}, tuple(one), unread), "paper"))
            moved = _output(dropped.SerializeToString(), network, inputs) - before
            products[layer][row] = values[row] * np.sqrt(np.mean(moved**2)) / before.std()
    limit = np.sort(np.concatenate(products))[count - 1]
    found = {}
    for layer, values in zip(provenance.layers, products):
        rows = np.flatnonzero(values <= limit)
        if len(rows) and layer.weight is not None:
            found[layer.weight.name] = [int(row) for row in rows]
    return found


def _output(model: bytes, network: Network, inputs: Array) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(model, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {network.input_name: inputs})[0], np.float64)
