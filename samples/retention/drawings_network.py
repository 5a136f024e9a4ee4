"""waifu2x's VGG-7, a denoiser of drawings: noisy photographs are new, drawings after JPEG are old; as in the quick start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from images import Picture, drawings, photographs, training_patches
from network import Array, HeldOut, Network, by_psnr
from vendor import pad_edges, vendor_model
from vendor_models import fetch

import tgdonnx

PATCH = 24
SIDE = 160
RATES = {
    "full": (3e-4, 1e-3),
    "last-3": (3e-4, 1e-3),
    "readers": (1e-3, 3e-3),
    "adapter": (1e-3, 3e-3),
    "random": (1e-3, 3e-3),
    "full, long": (3e-4,),  # for time only the rates that the short runs took
    "adapter, long": (1e-3,),
    "adapter of rank 2": (1e-3, 3e-3),
    "adapter of rank 32": (1e-3, 3e-3),
    "readers by use": (1e-3, 3e-3),
}


def drawings_network(cache: Path) -> Network:
    """Returns the network; its file is written to ``cache``."""
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(vendor_model(fetch("waifu2x-vgg7")), cache)
    steps, batch = 300, 8

    def data(seed: int) -> dict[str, Array]:
        patches = training_patches(steps * batch, PATCH, seed=seed)
        return {"image": patches.image, "target": patches.target}

    return Network(
        name="drawings",
        title="denoiser of drawings (waifu2x VGG-7)",
        unit="PSNR, dB",
        model=cache,
        input_name="image",
        loss="mse",
        strategy=tgdonnx.Percentile(20),
        has_dead=False,
        rates=RATES,
        steps=steps,
        batch=batch,
        data=data,
        reading=tgdonnx.DataOptions(),
        held_out={
            "new validation": _held_out(photographs("validation")),
            "old validation": _held_out(drawings("validation")),
            "new test": _held_out(photographs("test")),
            "old test": _held_out(drawings("test")),
        },
        read=lambda output: np.clip(output, 0, 1),
        judge=by_psnr(1.0),
        gate_inputs=lambda: training_patches(48, SIDE, seed=1000).image,
    )


def _held_out(pictures: list[Picture]) -> HeldOut:
    noisy = np.stack([_central(picture.noisy)[None] for picture in pictures])
    return HeldOut(pad_edges(noisy), np.stack([_central(picture.clean)[None] for picture in pictures]))


def _central(picture: Array) -> Array:
    height, width = picture.shape
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return picture[top : top + SIDE, left : left + SIDE]
