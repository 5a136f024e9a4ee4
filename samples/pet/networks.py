"""The networks of the paper, and some beyond it, made by tgdonnx from the vendor's two files.

A recipe says which file is tuned, which of its filters train, and on what: the seven low-BMI studies of the new software, or
the very study that is to be denoised (Noise2Noise).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phantom import Volume
from studies import Study, pairs

import tgdonnx
from tgdonnx.artifacts import GradientKind
from tgdonnx.selection import Mode

VENDOR = Path(__file__).parent / "networks"
PATCH, BATCH = 32, 8
RATE = 1e-4
"""The paper does not give its rate for tuning. This one is the same for all networks, and was not tuned for any."""


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Attributes:
        base: the network that is tuned.
        strategy: which of its filters train.
        mode: whether the kernels that read a meaningless map train too.
        gradient: ``mask`` or ``gate``.
    """

    base: str
    strategy: tgdonnx.Strategy
    mode: Mode = "paper"
    gradient: GradientKind = "mask"


# The paper's phi is 0.3 for the new software and 0.4 for online learning.
TUNED: Mapping[str, Recipe] = {
    "FT-net": Recipe("v1-net", tgdonnx.LastLayers(3)),
    "TGD-net": Recipe("v1-net", tgdonnx.Phi(0.3)),
    "TGD-net, gate": Recipe("v1-net", tgdonnx.Phi(0.3), gradient="gate"),
    "TGD-net, readers": Recipe("v1-net", tgdonnx.Phi(0.3), mode="readers"),
    "percentile 30": Recipe("v1-net", tgdonnx.Percentile(30)),
    "full": Recipe("v1-net", tgdonnx.AllLayers()),
}
ONLINE: Mapping[str, Recipe] = {
    "TGD N2N": Recipe("v2-net", tgdonnx.Phi(0.4)),
    "TGD2 N2N": Recipe("TGD-net", tgdonnx.Phi(0.4)),
}


def model_path(name: str, directory: Path) -> Path:
    """Where the file of a network lies: the vendor's beside this module, others in the study's directory."""
    vendor = VENDOR / f"{name}.onnx"
    return vendor if vendor.is_file() else directory / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"


def tune(name: str, recipe: Recipe, studies: list[Study], directory: Path, *, steps: int) -> tgdonnx.FinetuneReport:
    """Tunes a network on random patches of studies, with a learning rate that falls to zero, and writes it.

    Raises:
        DivergedError: the loss became infinite.
    """
    inputs, targets = pairs(studies)
    patches = tgdonnx.DataOptions(patch=(PATCH, PATCH), patches_per_epoch=steps * BATCH, augmentation=("flips",))
    return _finetune(name, recipe, {"image": inputs, "target": targets}, patches, directory, steps)


def tune_online(
    name: str, recipe: Recipe, halves: tuple[Volume, Volume], directory: Path, *, steps: int
) -> tgdonnx.FinetuneReport:
    """Tunes a network on the study that is to be denoised, from two images of half of its events each."""
    patches = tgdonnx.DataOptions(
        layout="DHW", patch=(PATCH, PATCH), patches_per_epoch=max(1, steps // 20) * BATCH, augmentation=("flips",)
    )
    return _finetune(name, recipe, tgdonnx.Noise2Noise(*halves), patches, directory, steps)


def _finetune(
    name: str, recipe: Recipe, data: object, patches: tgdonnx.DataOptions, directory: Path, steps: int
) -> tgdonnx.FinetuneReport:
    return tgdonnx.finetune(
        model_path(recipe.base, directory),
        data,  # type: ignore[arg-type]
        model_path(name, directory),
        recipe.strategy,
        tgdonnx.TrainOptions(epochs=None, steps=steps, batch=BATCH, learning_rate=RATE, schedule="cosine"),
        mode=recipe.mode,
        gradient=recipe.gradient,
        form="masked" if recipe.gradient == "gate" else "thin",
        data_options=patches,
        overwrite=True,
    )
