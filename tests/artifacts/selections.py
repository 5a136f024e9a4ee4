"""Filters to retrain in the networks of the tests, and the rows that follow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.oracles.numpy_net import NumpyNet
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import dncnn_without_batch_norm

ALL = range(99)


def batch_for(model: onnx.ModelProto) -> tuple[dict[str, Array], Array]:
    feeds = models.random_feeds(model, 7)
    output = NumpyNet(model).run(feeds)[model.graph.output[0].name]
    return feeds, np.random.default_rng(8).normal(size=output.shape).astype(np.float32)


def weight(model: onnx.ModelProto, name: str) -> Array:
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def filters(model: onnx.ModelProto, rows: dict[str, Sequence[int]]) -> tgdonnx.Filters:
    return tgdonnx.Filters({name: [m for m in chosen if m < len(weight(model, name))] for name, chosen in rows.items()})


def same(names: Sequence[str], rows: Sequence[int]) -> dict[str, Sequence[int]]:
    return {name: rows for name in names}  # noqa: C420  # nobody changes the rows


# For each network what is asked for, and what follows: the rows of every tensor that train.
SELECTIONS: dict[str, tuple[models.Builder, dict[str, Sequence[int]], dict[str, Sequence[int]]]] = {
    "a plain chain": (
        models.chain,
        {"w1": [0, 3, 7], "w2": [5], "w3": ALL},
        {"w1": [0, 3, 7], "b1": [0, 3, 7], "w2": [5], "w3": range(10), "b3": range(10)},
    ),
    "an only filter of the last layer": (models.chain, {"w4": [2]}, {"w4": [2], "b4": [2]}),
    "batch norm": (
        models.dncnn,
        {"w1": [1, 2], "w2": [0, 9], "w3": [6]},
        {
            **{"w1": [1, 2], "b1": [1, 2]},
            **same(["w2", "bn2_scale", "bn2_offset"], [0, 9]),
            **same(["w3", "b3", "bn3_scale", "bn3_offset"], [6]),
        },
    ),
    "without batch norm": (
        dncnn_without_batch_norm,
        {"w1": [1, 2], "w3": [0, 6], "w4": [1]},
        {"w1": [1, 2], "b1": [1, 2], "w3": [0, 6], "b3": [0, 6], "w4": [1]},
    ),
    "maps with several producers and several consumers": (
        models.residual,
        {"w0": [0, 1, 5], "w1": [2, 3], "w2": [1, 5, 6], "w4": [7]},
        {
            **{"w0": [0, 1, 5], "b0": [0, 1, 5], "w1": [2, 3], "w2": [1, 5, 6], "b2": [1, 5, 6], "w4": [7]},
            **{"norm_scale": [1, 5], "norm_offset": [1, 5]},
        },
    ),
    "concatenated maps, read in several places": (
        models.dense,
        {"w1": [0, 4], "w2": [1, 2], "w3": [6]},
        {"w1": [0, 4], "b1": [0, 4], "w2": [1, 2], "bn_scale": [1, 2, 7, 11], "bn_offset": [1, 2, 7, 11], "w3": [6]},
    ),
    "groups": (
        models.grouped,
        {"w1": [0, 7], "w2": [11], "w4": [3, 16], "w5": [4, 10]},
        {
            **same(["w1", "bn1_scale", "bn1_offset"], [0, 7]),
            "w2": [11],
            "b2": [11],
            "w4": [3, 16],
            "w5": [4, 10],
        },
    ),
    "three dimensions": (
        models.three_d,
        {"w1": [2, 6], "w2": [0, 3]},
        {**same(["w1", "b1", "bn_scale", "bn_offset"], [2, 6]), "w2": [0, 3]},
    ),
    "weights that two layers share": (
        models.shared_weights,
        {"w": [0, 3], "w2": [5]},
        {**same(["w", "b", "bn_scale", "bn_offset"], [0, 3]), "w2": [5], "b2": [5]},
    ),
}
