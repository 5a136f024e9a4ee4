"""The paper's figure 4: what is lost when the filters below phi are set to zero.

On images of the vendor's own software, which need no target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from evaluation import Denoiser
from networks import model_path
from phantom import Volume
from scanner import V1, V2
from studies import make_study, stacks

import tgdonnx
from tgdonnx.layers import open_network
from tgdonnx.selection import plan_masks, select
from tgdonnx.sweeping.dropping import drop_filters, whole_model
from tgdonnx.tracing import trace_network

PHIS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SECONDS = 60.0  # per bed
SHOWN_SLICE = 11  # in figures


def sweep_vendor() -> dict[str, dict[str, Any]]:
    """Runs the drop test of both networks, each on an image of its own validation; returns what `tgdonnx.sweep` says."""
    found = {}
    for version, name in ((V1, "v1-net"), (V2, "v2-net")):
        image = make_study(f"{version.name}-validation", 1, (SECONDS,)).inputs[SECONDS]
        images = stacks(image)[4:20:5]
        report = tgdonnx.sweep(model_path(name, Path()), {"image": images}, phis=PHIS, samples=len(images))
        points = [
            {
                "phi": point.phi,
                "filters": point.filters,
                "weights": point.weights / report.weights,
                "parameters": point.parameters / report.parameters,
                "change": point.change,
            }
            for point in report.points
        ]
        found[name] = {"recommended": report.recommended, "tolerance": report.tolerance, "points": points}
    return found


def dropped_images(directory: Path) -> dict[str, Volume]:
    """Returns a slice of a patient by v1-net, and by the same without the filters below each phi.

    Args:
        directory: where the networks without them are written.
    """
    vendor = model_path("v1-net", directory)
    image = make_study("v1-validation", 1, (SECONDS,)).inputs[SECONDS][SHOWN_SLICE - 1 : SHOWN_SLICE + 2]
    network = open_network(vendor)
    provenance, model = trace_network(network), whole_model(network.file)
    shown = {"noisy": image[1], "nothing dropped": Denoiser(vendor)(image)[0]}
    for phi in PHIS:
        masks = plan_masks(provenance, select(provenance, tgdonnx.Phi(phi)), "paper")
        path = directory / f"v1-net-without-{phi:g}.onnx"
        onnx.save(drop_filters(model, masks), path)
        shown[f"phi {phi:g}"] = Denoiser(path)(image)[0]
        path.unlink()
    return shown
