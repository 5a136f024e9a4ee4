"""What the notebook works on: photographs with noise, and a stand-in for somebody's denoiser."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser
from skimage import data

Images = NDArray[np.float32]

TRAINED, HELD_OUT = ("brick", "coins", "grass", "moon"), ("camera",)
NOISE, SIDE, MAPS = 0.1, 32, 12


def photographs(names: tuple[str, ...], per_photograph: int = 16, seed: int = 0) -> dict[str, Images]:
    """Returns pieces of photographs with noise, and the same without: ``image`` and ``target``, [N, 1, 32, 32]."""
    rng = np.random.default_rng(seed)
    pieces = []
    for name in names:
        whole = getattr(data, name)().astype(np.float32) / 255
        for _ in range(per_photograph):
            y, x = (int(rng.integers(size - SIDE)) for size in whole.shape)
            pieces.append(whole[y : y + SIDE, x : x + SIDE])
    clean = np.stack(pieces)[:, None]
    noise = rng.normal(0, NOISE, clean.shape).astype(np.float32)
    return {"image": clean + noise, "target": clean}


def vendor_model() -> onnx.ModelProto:
    """Returns a denoiser that blurs with one filter of each layer; the other filters do next to nothing."""
    rng = np.random.default_rng(0)
    at = np.arange(5) - 2
    blur = np.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weights = {
        "first_weight": rng.normal(0, 0.01, (MAPS, 1, 5, 5)),
        "second_weight": rng.normal(0, 0.01, (MAPS, MAPS, 3, 3)),
        "third_weight": rng.normal(0, 0.01, (1, MAPS, 3, 3)),
    }
    weights["first_weight"][0, 0] = blur / blur.sum()
    for name in ("second_weight", "third_weight"):
        weights[name][0, 0] = 0
        weights[name][0, 0, 1, 1] = 1
    model = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        denoiser (float[N,1,H,W] image) => (float[N,1,H,W] clean) {
            [first] a = Conv <pads = [2, 2, 2, 2]> (image, first_weight)
            [first_relu] b = LeakyRelu <alpha = 0.1> (a)
            [second] c = Conv <pads = [1, 1, 1, 1]> (b, second_weight)
            [second_relu] d = LeakyRelu <alpha = 0.1> (c)
            [third] clean = Conv <pads = [1, 1, 1, 1]> (d, third_weight)
        }
    """)
    for name, values in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def psnr(images: Images, clean: Images) -> float:
    """Returns the peak signal-to-noise ratio in dB, of values in 0 to 1."""
    return float(-10 * np.log10(np.mean((images - clean) ** 2)))
