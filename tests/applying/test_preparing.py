"""How data is prepared by the record of training in a model, and records that cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.applying.classifiers import classifier, recorded
from tests.applying.refusals import noise, refuse
from tests.support import models
from tests.support.forging import refused
from tests.support.models import save
from tgdonnx import apply
from tgdonnx.data import DataOptions
from tgdonnx.errors import DataError, ModelFileError


def scaled(**more: Any) -> dict[str, Any]:
    """What a record says that has a scaling of the input ``x``."""
    return {"format": 4, "preparation": {"scaling": {"x": {"offset": 0.0, "divisor": 255.0, "how": 255.0, **more}}}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        (scaled(divisor=0.0), "Expected `float` > 0.0"),
        (scaled(divisor="a"), "Expected `float`, got `str`"),
        ({**scaled(), "format": 1}, "it is of format 1"),
    ],
    ids=["no JSON", "a divisor of 0", "a divisor that is no number", "another format"],
)
def test_a_record_that_cannot_be_read_is_refused_as_verify_refuses_it(text: Any, reason: str, tmp_path: Path) -> None:
    model = classifier()
    vendor = save(model, tmp_path / "vendor.onnx")
    if isinstance(text, str):
        model.metadata_props.add(key="tgdonnx.provenance.1", value=text)
    else:
        recorded(model, base_sha256=hashlib.sha256(vendor.read_bytes()).hexdigest(), **text)
    tuned = save(model, tmp_path / "tuned.onnx")
    problem = f"'tgdonnx.provenance.1' in {tuned} is no record that tgdonnx wrote: {reason}"
    assert any(found.startswith(problem) for found in refused(vendor, tuned))
    message = f"{problem}.*; take the file as it was exported"
    refuse(message, ModelFileError, tmp_path, tuned, noise(1, 2, 3, 3), tmp_path / "out.csv")


def test_an_option_that_replaces_the_recorded_preparation_is_told_with_what_the_record_has(tmp_path: Path) -> None:
    more = scaled(mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])
    more["preparation"].update(resize=[14], crop=[12, 10], colour="rgb")
    path = save(recorded(models.dncnn(0), **more), tmp_path / "tuned.onnx")
    Image.fromarray(np.zeros((9, 8, 3), np.uint8)).save(tmp_path / "a.png")
    unused = (
        "the record of training in the model has scale 255, a mean and std per channel, resize 14, crop 12x10, colour rgb; "
        "what is said here replaces all of it"
    )
    said = (path, tmp_path / "a.png")
    refuse(f"found uint8 .*; {unused}$", DataError, tmp_path, *said, reading=DataOptions(resize=(8,)))
    assert unused in apply(*said, reading=DataOptions(resize=(8,), scale=255.0)).remarks
    assert unused not in apply(*said).remarks
