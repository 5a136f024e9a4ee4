"""A directory with honest files of every kind that commands read, made by the product itself; each case gets a copy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from tests.cli.commands import run
from tests.support import models

SHAPE = (4, 3, 9, 8)

MODELS = ("in/dncnn.onnx", "in/external.onnx", "in/constants.onnx", "in/fixed.onnx")
MASKED = ("in/masked.onnx", "in/regrown.onnx")
TUNED = ("in/tuned.onnx",)
ARTIFACTS = ("built", "trained")
DATA = ("in/data.npz", "in/data", "in/pictures", "in/data.h5")
IMAGES = ("in/stack.npy", "in/volume.nii", "in/picture.png", "in/pictures/x")
FILTERS = ("in/filters.json",)
CONFIGS = ("in/config.yaml", "in/config.toml")


def make_world(directory: Path) -> Path:
    """Makes the files; the names above are relative to the directory."""
    inputs = directory / "in"
    inputs.mkdir(parents=True)
    (directory / "out").mkdir()
    _models(inputs)
    _data(inputs)
    (inputs / "filters.json").write_text(json.dumps({"w1": [0, 2]}))
    (inputs / "config.yaml").write_text("steps: 2\nbatch: 2\nlr: 0.001\n")
    (inputs / "config.toml").write_text("steps = 2\nbatch = 2\nlr = 0.001\n")
    vendor, masked = inputs / "dncnn.onnx", inputs / "masked.onnx"
    _done("mask", vendor, "-o", masked, "--phi", 0.3)
    _done("mask", vendor, "-o", inputs / "regrown.onnx", "--phi", 0.3, "--mode", "regrow")
    _done("build", masked, "-o", directory / "built")
    _done("build", masked, "-o", directory / "trained", "--form", "thin")
    training = ("--data", inputs / "data.npz", "--validation", inputs / "data.npz", "--steps", 2, "--batch", 2)
    _done("train", directory / "trained", *training)
    _done("export", directory / "trained", "-o", inputs / "tuned.onnx")
    return directory


def _done(*arguments: object) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.output


def _models(inputs: Path) -> None:
    models.save(models.dncnn(0), inputs / "dncnn.onnx")
    models.save(models.constant_nodes(0), inputs / "constants.onnx")
    fixed = models.dncnn(1)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    models.save(fixed, inputs / "fixed.onnx")
    onnx.save(
        models.dncnn(2),
        inputs / "external.onnx",
        save_as_external_data=True,
        location="external.onnx.data",
        size_threshold=0,
    )


def _data(inputs: Path) -> None:
    rng = np.random.default_rng(0)
    x, target = (rng.uniform(0, 1, SHAPE).astype(np.float32) for _ in range(2))
    np.savez(inputs / "data.npz", x=x, target=target)
    np.save(inputs / "stack.npy", x)
    (inputs / "data").mkdir()
    np.save(inputs / "data" / "x.npy", x)
    np.save(inputs / "data" / "target.npy", target)
    for role in ("x", "target"):
        (inputs / "pictures" / role).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(inputs / "pictures" / role / f"{number}.png")
    Image.fromarray(rng.integers(0, 256, (9, 8, 3)).astype(np.uint8)).save(inputs / "picture.png")
    _nifti(inputs / "volume.nii", rng)
    _hdf5(inputs / "data.h5", x, target)


def _nifti(path: Path, rng: np.random.Generator) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(rng.uniform(0, 1, (9, 8, 3)).astype(np.float32), np.eye(4)), os.fspath(path))


def _hdf5(path: Path, x: np.ndarray, target: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["x"], file["target"] = x, target
