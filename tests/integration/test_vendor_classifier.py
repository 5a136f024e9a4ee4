"""A third-party classifier on class folders: from pictures to a tuned and verified model, and to a table of classes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.cli.commands import run, run_json
from tgdonnx import verify

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_models import fetch  # a script, no part of the package

LETTERS = list("abcdefghijklmnoprstuvwyABCDEFGHKLMNPRT23456789")


def lines_of_text(root: Path, seed: int) -> Path:
    """Noisy lines of text, upright or turned by 180 degrees, by class."""
    rng = np.random.default_rng(seed)
    for index in range(64):
        picture = Image.new("RGB", (192, 48), (0, 0, 0))
        text = "".join(rng.choice(LETTERS, 12))
        ImageDraw.Draw(picture).text((6, 8), text, fill=(255, 255, 255), font=ImageFont.load_default(26))
        values = np.asarray(picture.rotate(180) if index % 2 else picture)
        values = 110 + (values - 128.0) * 0.25 + rng.normal(0, 45, values.shape)
        folder = root / ("180" if index % 2 else "0")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return root


def accuracy(model: Path, pictures: Path) -> float:
    """Computed without tgdonnx, as the vendor prepares pictures: -1 to 1, channels first."""
    session = onnxruntime.InferenceSession(str(model))
    name = session.get_inputs()[0].name
    right = []
    for path in pictures.rglob("*.png"):
        values = (np.asarray(Image.open(path)).transpose(2, 0, 1)[None] / 255 - 0.5) / 0.5
        (scores,) = session.run(None, {name: values.astype(np.float32)})
        right.append(("0", "180")[int(scores[0].argmax())] == path.parent.name)
    return float(np.mean(right))


@pytest.mark.training
@pytest.mark.slow
def test_a_classifier_of_text_lines_learns_a_kind_of_noise_that_it_could_not_read(tmp_path: Path) -> None:
    vendor, tuned, kept = fetch("ppocr-cls"), tmp_path / "tuned.onnx", tmp_path / "run"
    data, new = lines_of_text(tmp_path / "train", 0), lines_of_text(tmp_path / "new", 1)
    options = ("--loss", "ce", "--scale", 255, "--mean", 0.5, "--std", 0.5, "--percentile", 50)
    length = ("--learning-rate", 2e-3, "--epochs", 6, "--validation", new, "--artifacts", kept)
    engine = ("--engine", "onnxruntime-training")
    report = run_json("finetune", vendor, "--data", data, "-o", tuned, *options, *length, *engine)
    before, after = accuracy(vendor, new), accuracy(tuned, new)
    assert before < 0.7
    assert after > 0.9
    epochs = report["train"]["epochs"]
    assert epochs[0]["metrics"]["accuracy"] == before
    assert max(epoch["metrics"]["accuracy"] for epoch in epochs) == after
    proof = verify(vendor, tuned)
    assert proof.ok
    assert proof.proof == "recomputed"
    result = run("apply", tuned, "--data", new, "--artifacts", kept, "-o", tmp_path / "classes.csv")
    assert result.exit_code == 0, result.stderr
    _, *rows = list(csv.reader((tmp_path / "classes.csv").read_text().splitlines()))
    assert len(rows) == 64
    assert np.mean([Path(name).parent.name == label for name, label, _ in rows]) == after
    # The model ends in a Softmax; the softmax of that would be 0.73 at most.
    assert np.median([float(probability) for _, _, probability in rows]) > 0.95
