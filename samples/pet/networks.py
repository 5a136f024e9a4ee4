"""The networks of the paper, and some beyond it, made by tgdonnx from the vendor's two files.

A recipe says which file is tuned, which of its filters train, and on what: the seven low-BMI studies of the new software, or
the very study that is to be denoised (Noise2Noise).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phantom import Volume
from studies import Study, pairs

import tgdonnx
from tgdonnx.artifacts import GradientKind
from tgdonnx.data import DataOptions
from tgdonnx.selection import Mode

VENDOR = Path(__file__).parent / "networks"
PATCH, BATCH = 64, 8


@dataclass(frozen=True)
class Recipe:
    """How a network is made.

    Attributes:
        base: the network that is tuned.
        strategy: which of its filters train.
        mode: whether the kernels that read a meaningless map train too.
        gradient: ``mask`` or ``gate``.
        data: ``low-bmi``, or ``n2n`` for the study itself.
        rate: the learning rate.
    """

    base: str
    strategy: tgdonnx.Strategy
    mode: Mode = "paper"
    gradient: GradientKind = "mask"
    data: Literal["low-bmi", "n2n"] = "low-bmi"
    rate: float = 1e-4


# The paper's thresholds: 0.3 for the new software, 0.4 for online learning. Its learning rate for tuning is not given; 1e-4
# was chosen on the validation studies, the same for all.
RECIPES: Mapping[str, Recipe] = {
    "FT-net": Recipe("v1-net", tgdonnx.LastLayers(3)),
    "TGD-net": Recipe("v1-net", tgdonnx.Phi(0.3)),
    "TGD-net, gate": Recipe("v1-net", tgdonnx.Phi(0.3), gradient="gate"),
    "TGD-net, readers": Recipe("v1-net", tgdonnx.Phi(0.3), mode="readers"),
    "percentile 50": Recipe("v1-net", tgdonnx.Percentile(50)),
    "first 2": Recipe("v1-net", tgdonnx.FirstLayers(2)),
    "full": Recipe("v1-net", tgdonnx.AllLayers()),
}


def model_path(name: str, directory: Path) -> Path:
    """Where the file of a network lies: the vendor's beside this module, others in the study's directory."""
    vendor = VENDOR / f"{name}.onnx"
    return vendor if vendor.is_file() else directory / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"


def training_data(studies: list[Study]) -> dict[str, Volume]:
    """The arrays that training is fed."""
    inputs, targets = pairs(studies)
    return {"image": inputs, "target": targets}


def make_network(
    name: str, recipe: Recipe, data: Mapping[str, Volume], directory: Path, *, steps: int, seed: int = 0
) -> tgdonnx.FinetuneReport:
    """Tunes a network on random patches, with a learning rate that falls to zero; writes it into a directory."""
    return tgdonnx.finetune(
        model_path(recipe.base, directory),
        data,
        model_path(name, directory),
        recipe.strategy,
        tgdonnx.TrainOptions(epochs=1, batch=BATCH, learning_rate=recipe.rate, schedule="cosine", seed=seed),
        mode=recipe.mode,
        gradient=recipe.gradient,
        data_options=DataOptions(patch=(PATCH, PATCH), patches_per_epoch=steps * BATCH, augmentation=("flips",)),
        overwrite=True,
    )
