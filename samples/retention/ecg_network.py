"""A denoiser of electrocardiograms, in one dimension: another recorder is new, the one that it was trained for is old."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecg import PEAK, Recorder, traces
from network import HeldOut, Network, by_psnr

import tgdonnx

MODEL = Path(__file__).parent / "networks" / "ecg.onnx"
RATES = {
    "full": (3e-4, 1e-3),
    "last-3": (3e-4, 1e-3),
    "readers": (3e-4, 1e-3),
    "regrow": (3e-4, 1e-3),
    "regrow-small": (1e-3, 3e-3),
    "adapter": (1e-3, 3e-3),
    "random": (3e-4, 1e-3),
    "steepest": (3e-4, 1e-3),
    "fisher": (3e-4, 1e-3),
    "random quarter": (3e-4, 1e-3),
    "full, long": (1e-4, 3e-4),
    "regrow, long": (1e-4, 3e-4),
    "adapter, long": (1e-3, 3e-3),
    "full, longest": (1e-4, 3e-4),
    "regrow, longest": (1e-4, 3e-4),
    "adapter, longest": (1e-3, 3e-3),
    "adapter of rank 2": (1e-3, 3e-3),
    "adapter of rank 32": (1e-3, 3e-3),
}


def ecg_network() -> Network:
    """Returns the network."""
    noisy, clean = traces("new", 200, seed=1)

    def data(_seed: int) -> dict[str, Any]:
        return {"trace": noisy, "target": clean}  # in the order of the run's seed

    def held_out(recorder: Recorder, seed: int) -> HeldOut:
        return HeldOut(*traces(recorder, 100, seed=seed))

    return Network(
        name="ecg",
        title="denoiser of electrocardiograms (1-D)",
        unit="PSNR, dB",
        model=MODEL,
        input_name="trace",
        loss="mse",
        strategy=tgdonnx.Phi(0.3),
        has_dead=True,
        rates=RATES,
        steps=300,
        batch=8,
        data=data,
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": held_out("new", 2),
            "old validation": held_out("old", 2),
            "new test": held_out("new", 3),
            "old test": held_out("old", 3),
        },
        read=lambda output: output,
        judge=by_psnr(PEAK),
        gate_inputs=lambda: noisy,
    )
