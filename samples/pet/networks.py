"""The networks of the paper, and some beyond it, made by tgdonnx from the vendor's two files.

A recipe says which file is tuned, which of its filters train, and on what: the seven low-BMI studies of the new software, or
the very study that is to be denoised (Noise2Noise). Beside every network goes a record of how it was made; a network that is
there with the same record is not made again, so an interrupted study goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from phantom import Volume
from studies import Study, pairs

import tgdonnx
from tgdonnx.artifacts import GradientKind
from tgdonnx.errors import DivergedError
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
        strategy: which of its filters train; None for the phi that the drop test recommends.
        mode: ``paper``; ``readers``, by which the kernels that read a meaningless map train too; ``regrow``, by which
            filters are reinitialised besides.
        gradient: ``mask`` or ``gate``.
        isolate: of mode ``regrow``, whether only the last layer reads reinitialised maps.
    """

    base: str
    strategy: Optional[tgdonnx.Strategy]
    mode: Mode = "paper"
    gradient: GradientKind = "mask"
    isolate: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """What makes the network another one."""
        return {name: value if value is None else str(value) for name, value in vars(self).items()}


# The paper's phi is 0.3 for the new software and 0.4 for online learning.
TUNED: Mapping[str, Recipe] = {
    "FT-net": Recipe("v1-net", tgdonnx.LastLayers(3)),
    "TGD-net": Recipe("v1-net", tgdonnx.Phi(0.3)),
    "TGD-net, gate": Recipe("v1-net", tgdonnx.Phi(0.3), gradient="gate"),
    "TGD-net, readers": Recipe("v1-net", tgdonnx.Phi(0.3), mode="readers"),
    "TGD-net, regrow": Recipe("v1-net", tgdonnx.Phi(0.3), mode="regrow"),
    "TGD-net, isolated": Recipe("v1-net", tgdonnx.Phi(0.3), mode="regrow", isolate=True),
    "TGD-net, phi auto": Recipe("v1-net", None),
    "percentile 30": Recipe("v1-net", tgdonnx.Percentile(30)),
    "full": Recipe("v1-net", tgdonnx.AllLayers()),
}
ONLINE: Mapping[str, Recipe] = {
    "TGD N2N": Recipe("v2-net", tgdonnx.Phi(0.4)),
    "TGD2 N2N": Recipe("TGD-net", tgdonnx.Phi(0.4)),
    "TGD2 N2N, readers": Recipe("TGD-net, readers", tgdonnx.Phi(0.4), mode="readers"),
    "TGD N2N, regrow": Recipe("v2-net", tgdonnx.Phi(0.4), mode="regrow"),
}


def model_path(name: str, directory: Path) -> Path:
    """Where the file of a network lies: the vendor's beside this module, others in the study's directory."""
    vendor = VENDOR / f"{name}.onnx"
    return vendor if vendor.is_file() else directory / f"{name.replace(', ', '-').replace(' ', '-')}.onnx"


def tune(name: str, recipe: Recipe, studies: list[Study], directory: Path, *, steps: int) -> dict[str, Any]:
    """Tunes a network on random patches of studies, with a learning rate that falls to zero, and writes it.

    Returns:
        The record of how it was made; of a network that diverged there is no file.
    """
    inputs, targets = pairs(studies)
    patches = tgdonnx.DataOptions(patch=(PATCH, PATCH), patches_per_epoch=steps * BATCH, augment=("flips",))
    data = {"image": inputs, "target": targets}
    of = {"recipe": recipe.record, "steps": steps, "studies": [study.name for study in studies], "images": len(inputs)}
    unlabelled = np.concatenate([inputs[len(inputs) * part // 4 :][10:11] for part in range(4)])
    return _once(name, directory, of, lambda: _finetune(name, recipe, data, patches, directory, steps, unlabelled))


def tune_online(
    name: str, recipe: Recipe, halves: tuple[Volume, Volume], directory: Path, *, steps: int
) -> dict[str, Any]:
    """Tunes a network on the study that is to be denoised, from two images of half of its events each.

    Returns:
        As `tune`.
    """
    patches = tgdonnx.DataOptions(
        layout="DHW", patch=(PATCH, PATCH), patches_per_epoch=max(1, steps // 20) * BATCH, augment=("flips",)
    )
    data, of = tgdonnx.Noise2Noise(*halves), {"recipe": recipe.record, "steps": steps, "study": "pelvis"}
    return _once(name, directory, of, lambda: _finetune(name, recipe, data, patches, directory, steps, None))


def _once(
    name: str, directory: Path, of: Mapping[str, Any], make: Callable[[], tgdonnx.FinetuneReport]
) -> dict[str, Any]:
    """Makes a network, if that has not been done in the same way, and returns its record."""
    path = model_path(name, directory).with_suffix(".json")
    if path.is_file():
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if record["of"] == of:
            return record
    begin = time.time()
    try:
        made = _described(make())
    except DivergedError as error:
        model_path(name, directory).unlink(missing_ok=True)
        made = {"diverged": str(error)}
    record = {"of": dict(of), **made, "seconds": round(time.time() - begin, 1)}
    path.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return record


def _described(report: tgdonnx.FinetuneReport) -> dict[str, Any]:
    loss = report.train.loss
    tenth = max(1, len(loss) // 10)
    return {
        "rho": report.mask.rho,
        "phi": report.mask.selection.get("phi"),
        "steps": report.train.steps,
        "kept step": report.train.best.step,
        "loss": [float(np.mean(loss[:tenth])), float(np.mean(loss[-tenth:]))],
        "verified": report.verify.ok,
    }


def _finetune(
    name: str,
    recipe: Recipe,
    data: object,
    patches: tgdonnx.DataOptions,
    directory: Path,
    steps: int,
    unlabelled: Optional[Volume],
) -> tgdonnx.FinetuneReport:
    base = model_path(recipe.base, directory)
    strategy = recipe.strategy
    if strategy is None:
        strategy = tgdonnx.sweep(base, {"image": unlabelled}).strategy()
    return tgdonnx.finetune(
        base,
        tgdonnx.RunData(data, reading=patches),  # type: ignore[arg-type]
        model_path(name, directory),
        strategy,
        tgdonnx.TrainOptions(epochs=None, steps=steps, batch=BATCH, learning_rate=RATE, schedule="cosine"),
        building=tgdonnx.BuildOptions(gradient=recipe.gradient, form="masked" if recipe.gradient == "gate" else "thin"),
        masking=tgdonnx.MaskOptions(
            mode=recipe.mode, reinitialization=tgdonnx.Reinitialization(kind="he", isolate=recipe.isolate)
        ),
        results=tgdonnx.Results(overwrite=True, keep=False),
    )
