"""nnU-Net's folders: channels by suffix, labels by case, names of labels from dataset.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.models import Array
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

RNG = np.random.default_rng(0)
LABELS = TensorSpec("target", "int64", (None, None, None, None), 2, role="target")


def volume(path: Path, values: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.T.copy(), np.eye(4)), path)


def dataset_of(root: Path, channels: int, cases: int = 2) -> tuple[list[Array], list[Array]]:
    """Writes cases; returns what they hold."""
    images = [RNG.standard_normal((channels, 4, 5, 6)).astype(np.float32) for _ in range(cases)]
    labels = [RNG.integers(0, 2, (4, 5, 6), np.uint8) for _ in range(cases)]
    for index, (image, label) in enumerate(zip(images, labels)):
        for channel, values in enumerate(image):
            volume(root / "imagesTr" / f"a_{index:03}_{channel:04}.nii.gz", values)
        volume(root / "labelsTr" / f"a_{index:03}.nii.gz", label)
    return images, labels


@pytest.mark.parametrize("channels", [1, 3])
def test_cases_have_their_channels_and_labels(channels: int, tmp_path: Path) -> None:
    images, labels = dataset_of(tmp_path, channels)
    described = {"labels": {"background": 0, "tumour": 1}, "channel_names": {"0": "T1"}}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    dataset = opened(tmp_path, (spec("x", channels, None, None, None), LABELS))
    x, target = everything(dataset)
    assert np.array_equal(x, np.stack(images))
    assert np.array_equal(target, np.stack(labels))
    assert dataset.options.classes == ("background", "tumour")
    assert "target: classes 0 background, 1 tumour" in dataset.remarks


def test_slices_are_samples_of_a_model_of_pictures(tmp_path: Path) -> None:
    images, labels = dataset_of(tmp_path, 2)
    x, target = everything(
        opened(tmp_path, (spec("x", 2, None, None), TensorSpec("target", "int64", (None, None, None), role="target")))
    )
    assert np.array_equal(x, np.concatenate([image.transpose(1, 0, 2, 3) for image in images]))
    assert np.array_equal(target, np.concatenate(labels))


@pytest.mark.parametrize("labels", [{"0": "background", "1": "tumour"}, {"tumour": 1, "background": 0}])
def test_both_forms_of_labels_are_read(labels: dict[str, Any], tmp_path: Path) -> None:
    dataset_of(tmp_path, 1, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert opened(tmp_path, (spec("x", 1, None, None, None), LABELS)).options.classes == ("background", "tumour")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "whole": [1, 2]}, 'expected "labels" with a name and a number of each'),
        ({"background": 0, "tumour": 2}, "expected labels that count from 0, found 0, 2"),
        ({"background": 0, "a": 1, "b": 2}, "has 3 classes .* the model 2"),
        ([], "expected"),
        ("{", "dataset.json is no JSON, or damaged: Expecting"),
        ("1", 'expected "labels"'),
        ({"background": 0, "ignore": 0}, "expected labels that count from 0"),
        (
            {"background": 0, "ignore": 1},
            r"dataset.json .without 'ignore'. names 1 class .background., the model has 2; name all: "
            r"`classes=.'background', 'class1'.`",
        ),
    ],
)
def test_labels_that_do_not_count_are_refused(labels: Any, message: str, tmp_path: Path) -> None:
    dataset_of(tmp_path, 1, 1)
    (tmp_path / "dataset.json").write_text(labels if isinstance(labels, str) else json.dumps({"labels": labels}))
    with pytest.raises(DataError, match=message):
        opened(tmp_path, (spec("x", 1, None, None, None), LABELS))


def test_the_label_ignore_is_no_class_and_what_leaves_it_out_is_told(tmp_path: Path) -> None:
    dataset_of(tmp_path, 1, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "ignore": 2}}))
    dataset = opened(tmp_path, (spec("x", 1, None, None, None), LABELS))
    assert dataset.options.classes == ("background", "a")
    assert any("label 2 is no class" in said and "`loss='ce(ignore=2)'`" in said for said in dataset.remarks)


def test_classes_that_are_called_otherwise_than_in_the_description_are_refused(tmp_path: Path) -> None:
    dataset_of(tmp_path, 1, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    specs = (spec("x", 1, None, None, None), LABELS)
    with pytest.raises(DataError, match=r"named a, background, but .*dataset.json names background, a; leave out"):
        opened(tmp_path, specs, classes=("a", "background"))
    assert opened(tmp_path, specs, classes=("background", "a")).options.classes == ("background", "a")


def test_classes_beyond_those_of_the_description_may_be_named(tmp_path: Path) -> None:
    dataset_of(tmp_path, 1, 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    specs = (spec("x", 1, None, None, None), TensorSpec("target", "int64", (None,) * 4, 3, role="target"))
    with pytest.raises(DataError, match="names 2 classes") as caught:
        opened(tmp_path, specs)
    assert caught.value.options == {"classes": ("background", "a", "class2")}
    named = opened(tmp_path, specs, classes=("background", "a", "b"))
    assert named.options.classes == ("background", "a", "b")
    assert "target: classes 0 background, 1 a, 2 b" in named.remarks


def test_a_case_that_lacks_something_is_refused(tmp_path: Path) -> None:
    specs = (spec("x", 2, None, None, None), LABELS)
    dataset_of(tmp_path, 2)
    (tmp_path / "labelsTr" / "a_001.nii.gz").unlink()
    with pytest.raises(DataError, match="has nothing named 'a_001' to go with"):
        opened(tmp_path, specs)
    (tmp_path / "imagesTr" / "a_001_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="a_001 has the channels 0; expected the same of every case"):
        opened(tmp_path, specs)
