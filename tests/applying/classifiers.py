"""A classifier of three classes, and one that says that it was tuned."""

from __future__ import annotations

import json
from typing import Any

import onnx

from tests.support.training_models import text_model

CLASSIFIER = """g (float[N, 2, H, W] x) => (float[N, 3] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, v, c) m = GlobalAveragePool(a) f = Flatten(m) y = Gemm(f, w, b)
}"""


def classifier() -> onnx.ModelProto:
    return text_model(CLASSIFIER, v=(4, 2, 3, 3), c=(4,), w=(4, 3), b=(3,))


def recorded(model: onnx.ModelProto, **more: Any) -> onnx.ModelProto:
    """A model with a record of training, as export writes it."""
    selection = {"strategy": "filters", "filters": {"v": [0]}, "mode": "paper", "round": 1}
    record = {"tgdonnx": "0.1.0", "base_sha256": "0" * 64, "selection": selection, "options": {}, "checkpoint": "c"}
    model.metadata_props.add(key="tgdonnx.provenance.1", value=json.dumps({**record, "trained": {}, **more}))
    return model
