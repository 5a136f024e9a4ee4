"""Adapt a denoiser for drawings to noisy photographs and micrographs, in several ways, and compare.

The vendor's network (waifu2x, VGG-7) was trained on drawings with JPEG noise. The new data is photographs with the noise
of a camera in low light. Each selection of filters is trained for the same steps on the same patches with the same learning
rate; the epoch with the lowest loss on validation pictures is kept. The table then says what the tuned model does on test
pictures of the new task, and what is left of the vendor's own.

    python samples/quickstart/run.py            # a few minutes on 2 cores; writes samples/quickstart/out/
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

import click
import matplotlib
import numpy as np
import onnx
import onnxruntime
from images import Picture, drawings, photographs, training_patches
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from vendor import pad_edges, vendor_model

import tgdonnx
from tgdonnx.selection import Mode

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_models import fetch  # lies beside the package, not in it

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen

PHI = 0.5
"""By validation loss, of 0.3, 0.4 and 0.5."""

OPTIONS = tgdonnx.TrainOptions(epochs=4, batch=8, learning_rate=1e-3, schedule="cosine")
PATCHES, PATCH_SIZE = 480, 40

SELECTIONS: dict[str, tuple[Optional[tgdonnx.Strategy], Mode]] = {
    f"TGD {PHI}": (tgdonnx.Phi(PHI), "paper"),
    f"TGD {PHI} + readers": (tgdonnx.Phi(PHI), "readers"),
    "last 3 layers": (tgdonnx.LastLayers(3), "paper"),
    "all": (tgdonnx.AllLayers(), "paper"),
    "chosen by the drop test": (None, "paper"),  # what `finetune` does by itself
}


@dataclass(frozen=True)
class Quality:
    """Means over pictures: PSNR in dB, and structural similarity, at most 1."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Outcome:
    """What became of one selection."""

    selection: str
    trained: float
    steps: int
    seconds: float
    best_epoch: int
    new: Quality
    old: Quality


def denoise(model: Path, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a model on one picture ``[H, W]``, as the vendor's program does."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": pad_edges(noisy[None, None])})
    return np.clip(output[0, 0], 0, 1)


def quality(results: Sequence[NDArray[np.float32]], pictures: Sequence[Picture]) -> Quality:
    """Compares results with the clean pictures."""
    pairs = [(picture.clean, result) for picture, result in zip(pictures, results)]
    psnr = float(np.mean([peak_signal_noise_ratio(clean, result, data_range=1) for clean, result in pairs]))
    ssim = float(np.mean([structural_similarity(clean, result, data_range=1) for clean, result in pairs]))
    return Quality(psnr, ssim)


def adapt(vendor: Path, name: str, directory: Path, console: Console) -> tuple[Outcome, Path]:
    """Masks, builds, trains, exports and verifies with one selection."""
    strategy, mode = SELECTIONS[name]
    patches = training_patches(PATCHES, PATCH_SIZE)
    held_out = photographs("validation")
    validation = {
        "image": np.stack([pad_edges(picture.noisy[None]) for picture in held_out]),
        "target": np.stack([picture.clean[None] for picture in held_out]),
    }
    tuned = directory / f"{name.replace(' ', '_').replace('+', 'and')}.onnx"
    begin = time.monotonic()
    report = tgdonnx.finetune(
        vendor,
        tgdonnx.RunData({"image": patches.image, "target": patches.target}, validation=validation),
        tuned,
        strategy,
        OPTIONS,
        masking=tgdonnx.MaskOptions(mode=mode),
        results=tgdonnx.Results(keep=False),
    )
    seconds = time.monotonic() - begin
    assert report.verify.ok, report.verify.violations
    losses = ", ".join(f"{1e4 * epoch.validation:.1f}" for epoch in report.train.epochs if epoch.validation is not None)
    console.print(
        f"{name}: {report.train.steps} steps in {seconds:.0f} s, validation loss x 1e4: {losses}",
        highlight=False,
        soft_wrap=True,
    )
    new, old = (score(tuned, pictures) for pictures in (photographs("test"), drawings("test")))
    best = report.train.best.epoch
    return Outcome(name, report.mask.rho, report.train.steps, seconds, best, new, old), tuned


def score(model: Path, pictures: Sequence[Picture]) -> Quality:
    """Returns the quality of what a model makes of pictures."""
    return quality([denoise(model, picture.noisy) for picture in pictures], pictures)


def print_table(outcomes: Sequence[Outcome], console: Console) -> None:
    """Prints what became of the selections."""
    table = Table(title="Test pictures: the new task, and what is left of the vendor's own")
    for title in ("selection", "trained", "steps", "new PSNR", "SSIM", "own PSNR", "SSIM"):
        table.add_column(title, justify="left" if title == "selection" else "right")
    for outcome in outcomes:
        table.add_row(
            outcome.selection,
            f"{outcome.trained:.1%}",
            str(outcome.steps),
            f"{outcome.new.psnr:.2f}",
            f"{outcome.new.ssim:.3f}",
            f"{outcome.old.psnr:.2f}",
            f"{outcome.old.ssim:.3f}",
        )
    console.print(table)


def draw(vendor: Path, tuned: Path, title: str, output: Path) -> None:
    """Draws test pictures: noisy, by the vendor's model, by the tuned one, clean."""
    pictures = photographs("test")[:3]
    figure, axes = plt.subplots(len(pictures), 4, figsize=(12, 3.1 * len(pictures)), constrained_layout=True)
    for row, picture in zip(axes, pictures):
        shown = {
            "noisy": picture.noisy,
            "vendor": denoise(vendor, picture.noisy),
            f"tuned ({title})": denoise(tuned, picture.noisy),
            "clean": picture.clean,
        }
        for axis, (name, image) in zip(row, shown.items()):
            psnr = "" if name == "clean" else f" {peak_signal_noise_ratio(picture.clean, image, data_range=1):.1f} dB"
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{name}{psnr}", fontsize=9)
            axis.axis("off")
    figure.savefig(output, dpi=110)
    plt.close(figure)


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path(__file__).parent / "out",
    help="Directory for result.png, results.json and the models; replaced if it exists.",
)
def main(output: Path) -> None:
    """Adapts the vendor's model with each selection and compares."""
    console = Console()
    if output.exists() and not (output / "results.json").is_file() and any(output.iterdir()):
        raise click.ClickException(f"{output} holds other things than results; choose another directory")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    vendor = output / "vendor.onnx"
    onnx.save(vendor_model(fetch("waifu2x-vgg7")), vendor)
    noisy = photographs("test")
    inputs = quality([picture.noisy for picture in noisy], noisy)
    console.print(f"noisy test pictures: {inputs.psnr:.2f} dB, SSIM {inputs.ssim:.3f}", highlight=False)
    outcomes = [Outcome("none", 0, 0, 0, 0, score(vendor, noisy), score(vendor, drawings("test")))]
    models = {}
    for name in SELECTIONS:
        outcome, models[name] = adapt(vendor, name, output, console)
        outcomes.append(outcome)
    print_table(outcomes, console)
    shown = f"TGD {PHI} + readers"
    draw(vendor, models[shown], shown, output / "result.png")
    (output / "results.json").write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    console.print(f"pictures: {output / 'result.png'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
