"""Two networks of PaddleOCR: whether a line of text is upside down, and where text is on a page. A worse camera is new."""

from __future__ import annotations

from typing import Any

import numpy as np
from network import Array, HeldOut, Network, by_boxes, by_class
from vendor_models import fetch
from writing import Split, lines, page_boxes, spoil

import tgdonnx

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of the vendor's program
RATES = {
    "full": (1e-4, 3e-4, 1e-3),
    "last-3": (3e-4, 1e-3, 3e-3),
    "readers": (3e-4, 1e-3, 3e-3),
    "adapter": (3e-4, 1e-3, 3e-3),
    "random": (3e-4, 1e-3, 3e-3),
    "full, long": (3e-4, 1e-3),
    "adapter, long": (3e-4, 1e-3, 3e-3),
    "adapter of rank 2": (3e-4, 1e-3, 3e-3),
    "adapter of rank 32": (3e-4, 1e-3, 3e-3),
}
OLD_LOSSES = (1.0, 2.0, 5.0)
FOUND = 0.3
"""The vendor's threshold: what is more probable is text."""


def lines_network() -> Network:
    """Returns the classifier of lines."""

    def pair(split: Split, count: int, *, spoilt: bool) -> HeldOut:
        clean, labels = lines(split, count, seed=0)
        shown = spoil(clean, blur=0.9, noise=0.08, contrast=0.8, seed=0) if spoilt else clean
        return HeldOut(_in_colour((shown - 0.5) / 0.5), labels)

    training = pair("train", 800, spoilt=True)

    def data(_seed: int) -> dict[str, Any]:
        return {"x": training.inputs, "target": training.targets}  # in the order of the run's seed

    return Network(
        name="lines",
        title="is a line upside down (ppocr-cls)",
        unit="right answers, %",
        model=fetch("ppocr-cls"),
        input_name="x",
        loss="ce",
        strategy=tgdonnx.Percentile(20),
        has_dead=False,
        rates=RATES,
        steps=150,
        batch=8,
        data=data,
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": pair("validation", 100, spoilt=True),
            "old validation": pair("validation", 100, spoilt=False),
            "new test": pair("test", 200, spoilt=True),
            "old test": pair("test", 200, spoilt=False),
        },
        read=lambda output: output,
        judge=by_class(),
        gate_inputs=lambda: training.inputs[:100],
        old_losses=OLD_LOSSES,
    )


def boxes_network() -> Network:
    """Returns the detector of text."""

    def pair(split: Split, count: int, *, spoilt: bool) -> HeldOut:
        clean, masks = page_boxes(split, count, seed=0)
        shown = spoil(clean, blur=1.0, noise=0.1, seed=0) if spoilt else clean
        return HeldOut(_in_colour((shown[:, None] - MEAN[:, None, None]) / DEVIATION[:, None, None]), masks)

    training = pair("train", 200, spoilt=True)

    def data(_seed: int) -> dict[str, Any]:
        return {"x": training.inputs, "target": training.targets[:, :1]}  # in the order of the run's seed

    return Network(
        name="boxes",
        title="where text is (ppocr-det)",
        unit="F-measure, %",
        model=fetch("ppocr-det"),
        input_name="x",
        loss="bce",
        strategy=tgdonnx.Percentile(20),
        has_dead=False,
        rates=RATES,
        steps=150,
        batch=2,
        data=data,
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": pair("validation", 16, spoilt=True),
            "old validation": pair("validation", 16, spoilt=False),
            "new test": pair("test", 32, spoilt=True),
            "old test": pair("test", 32, spoilt=False),
        },
        read=lambda output: output,
        judge=by_boxes(FOUND),
        gate_inputs=lambda: training.inputs,
        old_losses=OLD_LOSSES,
    )


def _in_colour(pictures: Any) -> Array:
    """Returns ``(N, H, W)`` or ``(N, C, H, W)`` with C = 3 as the networks take them."""
    shown = pictures[:, None].repeat(3, axis=1) if pictures.ndim == 3 else pictures
    return np.ascontiguousarray(shown, np.float32)
