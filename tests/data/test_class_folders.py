"""A directory per class: every picture is a case, its class the place of its folder among the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets import everything, opened, spec
from tgdonnx.data import DataOptions, open_dataset, open_like, open_training
from tgdonnx.data.class_names import read_classes
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec


def inputs(classes: Optional[int] = None) -> tuple[TensorSpec, TensorSpec]:
    return spec("x", 1, None, None), TensorSpec("target", "int64", (None,), classes, role="target")


def folders(root: Path, **pictures: Sequence[int]) -> Path:
    """Pictures of one value each, by class."""
    for name, values in pictures.items():
        (root / name).mkdir(parents=True)
        for value in values:
            Image.fromarray(np.full((4, 5), value, np.uint8)).save(root / name / f"{value}.png")
    return root


def test_pictures_have_the_place_of_their_folder_among_the_sorted_names(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3, 7], cats=[5], birds=[1])
    dataset = opened(root, inputs(3), scale=1)
    x, target = everything(dataset)
    assert target.dtype == np.int64
    assert list(zip(x[:, 0, 0, 0], target)) == [(1, 0), (5, 1), (3, 2), (7, 2)]
    assert dataset.options.classes == ("birds", "cats", "dogs")
    assert (
        "target: classes 0 birds, 1 cats, 2 dogs (by name; `classes` says the model's order, if it is another)"
        in dataset.remarks
    )
    assert dataset.describe()["options"]["classes"] == ["birds", "cats", "dogs"]


def test_folders_of_numbers_are_sorted_by_number(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", **{str(name): [name] for name in (10, 9, 1, 0, 2)})
    dataset = opened(root, inputs(5), scale=1)
    x, target = everything(dataset)
    assert sorted(zip(x[:, 0, 0, 0], target)) == [(0, 0), (1, 1), (2, 2), (9, 3), (10, 4)]
    assert any("classes 0 0, 1 1, 2 2, 3 9, 4 10 (by number; " in remark for remark in dataset.remarks)


def test_said_classes_give_the_order(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3], cats=[5])
    dataset = opened(root, inputs(4), scale=1, classes=("sheep", "dogs", "cows", "cats"))
    x, target = everything(dataset)
    assert list(zip(x[:, 0, 0, 0], target)) == [(5, 3), (3, 1)]
    assert f"{root}: nothing of sheep, cows" in dataset.remarks


@pytest.mark.parametrize(
    ("counted", "classes", "message"),
    [
        (1, (), "has 2 classes .cats, dogs., the model 1: classes cannot be added to a model; merge"),
        (
            4,
            (),
            "they are, the data does not say; name all 4 .* such as `classes=.'cats', 'dogs', 'class2', 'class3'.`",
        ),
        (99, (), "which of its outputs they are, the data does not say; name all 99 .* in a file: `classes='FILE'`"),
        (9, ("cats", "dogs"), "2 classes named .cats, dogs., the model has 9"),
        (2, ("cats", "cows"), "dogs is of no class; expected one of cats, cows"),
    ],
)
def test_classes_that_the_model_does_not_have_are_refused(
    counted: int, classes: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        opened(folders(tmp_path / "d", dogs=[3], cats=[5]), inputs(counted), scale=1, classes=classes)


def test_what_is_wrong_with_the_classes_is_told_with_all_else_that_is(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3], cats=[5], sheep=[6])
    with pytest.raises(DataError, match="convert it, or say how: `scale=255`") as caught:
        opened(root, inputs(4), classes=("cats", "dogs"))
    assert [each.problem for each in caught.value.also] == [
        f"{root / 'sheep'} is of no class; expected one of cats, dogs",
        f"{root}: 2 classes named (cats, dogs), the model has 4; name all",
    ]


def test_a_split_is_by_picture_and_validation_data_has_the_classes_of_the_training_data(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=range(10), cats=range(10, 20))
    options = DataOptions(scale=1, validation_split=0.25)
    training, held_out = open_training(root, inputs(2), options)
    assert held_out is not None
    (x, target), (held, theirs) = everything(training), everything(held_out)
    assert (len(x), len(held)) == (15, 5)
    assert sorted(theirs) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
    assert any(
        "held out for validation: " in said and "; of each class: cats 3 of 10, dogs 2 of 10" in said
        for said in held_out.remarks
    )
    assert sorted([*x[:, 0, 0, 0], *held[:, 0, 0, 0]]) == list(range(20))
    assert all((value < 10) == label for value, label in zip([*x[:, 0, 0, 0], *held[:, 0, 0, 0]], [*target, *theirs]))
    other = folders(tmp_path / "v", dogs=[4])
    _, validation = open_training(root, inputs(2), DataOptions(scale=1), validation=other)
    assert validation is not None
    assert everything(validation)[1].tolist() == [1]
    assert everything(open_like(training, other, inputs()[:1], ignored=("target",)))[0].shape == (1, 1, 4, 5)


def test_arrays_are_arrays_though_the_model_takes_labels(tmp_path: Path) -> None:
    folders(tmp_path / "d", x=[1, 2])
    (tmp_path / "d" / "target").mkdir()
    for value in (1, 2):
        np.save(tmp_path / "d" / "target" / f"{value}.npy", np.array([value - 1]))
    assert everything(opened(tmp_path / "d", inputs(2), scale=1))[1].tolist() == [0, 1]


def test_folders_of_classes_are_told_where_the_loss_takes_none(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3, 4], cats=[5, 6])
    with pytest.raises(
        DataError, match=r"if these are folders of classes, build with `loss='ce'`; else .*`map={'cats': 'x'"
    ):
        opened(root, (spec("x", 1, None, None), spec("target", 2)), scale=1)
    with pytest.raises(DataError, match="classes are named, but the target is no class index"):
        opened({"x": np.zeros((1, 1, 4, 5), np.float32)}, (spec("x", 1, None, None), spec("target", 2)), classes=("a",))


def test_what_is_no_picture_is_left_out_and_said(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3], cats=[5])
    (root / "dogs" / "notes.txt").write_text("good dog")
    (root / "readme.md").write_text("pets")
    dataset = opened(root, inputs(2), scale=1)
    assert len(dataset) == 2
    assert f"{root}: not read, being no data: readme.md, dogs/notes.txt" in dataset.remarks


def test_classes_are_read_from_lines(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes("\ufeffcats\r\n\nbig dogs \n".encode())
    assert read_classes(tmp_path / "c.txt") == ("cats", "big dogs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", "two classes are called 'a'"),
        (b"\n\n", "no name of a class"),
        (b"\xff\xfe\x00", "is no text"),
        (b"a" * (2**20 + 1), "too large"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_list_of_classes_is_refused(content: Optional[bytes], message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "c.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / "c.txt")


def test_unlabelled_classes_are_samples_where_no_target_is_asked_for(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", dogs=[3], cats=[5])
    dataset = open_dataset(root, inputs()[:1], DataOptions(scale=1), ignored=("target",))
    assert everything(dataset)[0][:, 0, 0, 0].tolist() == [5, 3]
