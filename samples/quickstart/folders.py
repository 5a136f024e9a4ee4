"""Folders of PNGs to try the command line on, a vendor's model for them, and the picture in the README.

    python samples/quickstart/folders.py make demo     # demo/vendor.onnx, demo/train, demo/validation, demo/test
    tgdonnx finetune demo/vendor.onnx --data demo/train ... -o demo/tuned.onnx
    python samples/quickstart/folders.py show demo     # demo/picture.png: noisy, vendor's, tuned, clean

The vendor's program repeats the pixels at the edge of a picture before it runs the network, which loses 7 on each side; here
that is the first node of the model, so that a picture goes in and one of the same size comes out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
from images import PHOTOGRAPHS, Picture, photographs
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont
from skimage.metrics import peak_signal_noise_ratio
from vendor import MARGIN, vendor_model

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_models import fetch  # lies beside the package, not in it

SHOWN = {"camera": (10, 40), "rocket": (60, 48)}
"""Test pictures, and the corner of the part that is shown."""

SIDE, GAP, CAPTION = 160, 6, 16


def padded_model(weights: Path) -> onnx.ModelProto:
    """Returns the vendor's model with the padding of the vendor's program in front."""
    model = vendor_model(weights)
    graph = model.graph
    graph.node[0].input[0] = "padded"
    pads = np.array([0, 0, MARGIN, MARGIN] * 2, np.int64)
    graph.initializer.append(numpy_helper.from_array(pads, "pads"))
    graph.node.insert(0, helper.make_node("Pad", ["image", "pads"], ["padded"], name="pad", mode="edge"))
    for value, name in zip(graph.output[0].type.tensor_type.shape.dim[2:], "HW"):
        value.dim_param = name
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Runs a model on a picture ``[H, W]``."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"image": image[None, None]})
    return np.clip(output[0, 0], 0, 1)


def to_image(values: NDArray[np.float32]) -> Image.Image:
    """Returns a picture of 8 bits."""
    return Image.fromarray(np.round(values * 255).astype(np.uint8))


def row_of(directory: Path, picture: Picture) -> Image.Image:
    """Returns noisy, vendor's, tuned and clean side by side, with PSNR over the whole picture."""
    results = {
        "noisy": picture.noisy,
        "vendor's model": run(directory / "vendor.onnx", picture.noisy),
        "tuned model": run(directory / "tuned.onnx", picture.noisy),
        "clean": picture.clean,
    }
    row = Image.new("L", (len(results) * (SIDE + GAP) - GAP, SIDE + CAPTION), 255)
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(size=12)
    top, left = SHOWN[picture.name]
    for index, (name, values) in enumerate(results.items()):
        x = index * (SIDE + GAP)
        row.paste(to_image(values[top : top + SIDE, left : left + SIDE]), (x, CAPTION))
        psnr = "" if name == "clean" else f", {peak_signal_noise_ratio(picture.clean, values, data_range=1):.1f} dB"
        pen.text((x + 2, 0), name + psnr, fill=0, font=font)
    return row


@click.group()
def main() -> None:
    """Makes folders of PNGs, and shows what became of them."""


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def make(directory: Path) -> None:
    """Writes the vendor's model and the pictures into DIRECTORY, which must not exist."""
    directory.mkdir(parents=True)
    onnx.save(padded_model(fetch("waifu2x-vgg7")), directory / "vendor.onnx")
    for split in PHOTOGRAPHS:
        for picture in photographs(split):
            for array, values in (("image", picture.noisy), ("target", picture.clean)):
                (directory / split / array).mkdir(parents=True, exist_ok=True)
                to_image(values).save(directory / split / array / f"{picture.name}.png")


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
def show(directory: Path) -> None:
    """Writes picture.png of the vendor's model and tuned.onnx in DIRECTORY."""
    rows = [row_of(directory, picture) for picture in photographs("test") if picture.name in SHOWN]
    whole = Image.new("L", (rows[0].width, sum(row.height + GAP for row in rows) - GAP), 255)
    for index, row in enumerate(rows):
        whole.paste(row, (0, index * (row.height + GAP)))
    whole.quantize(32).save(directory / "picture.png", optimize=True)


if __name__ == "__main__":
    main()
