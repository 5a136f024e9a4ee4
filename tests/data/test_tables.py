"""Tables of paths and labels: a sample per row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from tests.data.datasets import everything, opened, spec
from tgdonnx.data import DataOptions, Dataset, open_training
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

INPUTS = (spec("x", 1, None, None), TensorSpec("target", "int64", (None,), 2, role="target"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "p").mkdir()
    for value in (3, 5, 7):
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(tmp_path / "p" / f"{value}.png")
    return tmp_path


def table(directory: Path, text: str) -> Path:
    (directory / "t.csv").write_text(text)
    return directory / "t.csv"


def test_names_of_classes_are_sorted_and_paths_start_at_the_table(pictures: Path) -> None:
    path = table(pictures, "id,path,label\n1,p/7.png,dog\n2,p/3.png,cat\n3,p/5.png,dog\n")
    dataset = opened(path, INPUTS, scale=1)
    x, target = everything(dataset)
    assert list(zip(x[:, 0, 0, 0], target)) == [(7, 1), (3, 0), (5, 1)]
    assert dataset.options.classes == ("cat", "dog")
    assert f"{path}: column 'path' is for 'x'" in dataset.remarks
    assert f"{path}: column 'label' is for 'target'" in dataset.remarks
    assert f"{path}: columns left out: id" in dataset.remarks
    assert [group["path"] for group in dataset.describe()["files"]] == [str(pictures / f"p/{v}.png") for v in (3, 5, 7)]


def test_a_split_takes_of_every_class_a_like_share(pictures: Path) -> None:
    rows = [f"p/{3 + 2 * (row % 3)}.png,{'cat' if row < 4 else 'dog'}" for row in range(12)]
    path = table(pictures, "\n".join(["path,label", *rows]))
    _, held_out = open_training(path, INPUTS, DataOptions(scale=1, validation_split=0.25))
    assert held_out is not None
    assert sorted(everything(held_out)[1]) == [0, 1, 1]
    assert any("of each class: cat 1 of 4, dog 2 of 8" in said for said in held_out.remarks)


def test_a_table_of_parquet_says_the_same(pictures: Path) -> None:
    columns = {"path": ["p/7.png", "p/3.png"], "label": [1, 0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), pictures / "t.parquet")
    x, target = everything(opened(pictures / "t.parquet", INPUTS, scale=1))
    assert list(zip(x[:, 0, 0, 0], target)) == [(7, 1), (3, 0)]


def test_columns_are_mapped(pictures: Path) -> None:
    path = table(pictures, "slide,grade\np/7.png,b\np/3.png,a\n")
    x, target = everything(opened(path, INPUTS, scale=1, map={"slide": "x", "grade": "target"}))
    assert list(zip(x[:, 0, 0, 0], target)) == [(7, 1), (3, 0)]


def test_numbers_are_inputs_and_targets_too(pictures: Path) -> None:
    specs = (spec("x", 1, None, None), spec("age", 1), spec("target", 1))
    path = table(pictures, "x,age,target\np/7.png,34,0.5\np/3.png,56.5,-1e3\n")
    x, age, target = everything(opened(path, specs, scale=1))
    assert x[:, 0, 0, 0].tolist() == [7, 3]
    assert age.tolist() == [[34], [56.5]]
    assert target.tolist() == [[0.5], [-1000]]
    assert age.dtype == target.dtype == np.float32


def test_pictures_are_targets_too(pictures: Path) -> None:
    specs = (spec("x", 1, None, None), spec("target", 1, None, None))
    path = table(pictures, "noisy,clean\np/7.png,p/3.png\n")
    x, target = everything(opened(path, specs, scale=1, map={"noisy": "x"}))
    assert (x.max(), target.max()) == (7, 3)


@pytest.mark.parametrize("between", [";", "\t"])
def test_what_stands_between_columns_is_told_from_the_first_line(between: str, pictures: Path) -> None:
    path = table(pictures, "path,label\np/7.png,a\np/3.png,b\n".replace(",", between))
    _, target = everything(opened(path, INPUTS, scale=1))
    assert target.tolist() == [0, 1]


def labels_of(
    directory: Path, labels: Sequence[str], counted: int, classes: tuple[str, ...] = ()
) -> tuple[list[int], Dataset]:
    path = table(directory, "path,label\n" + "".join(f"p/3.png,{label}\n" for label in labels))
    specs = (INPUTS[0], TensorSpec("target", "int64", (None,), counted, role="target"))
    dataset = opened(path, specs, scale=1, classes=classes)
    return everything(dataset)[1].tolist(), dataset


@pytest.mark.parametrize(
    ("labels", "classes", "expected", "said"),
    [
        (("1", "2", "3"), ("1", "2", "3", "4"), [0, 1, 2], "taken as the names of classes, not as their indices"),
        (("4", "1"), ("1", "2", "3", "4"), [3, 0], "taken as the names of classes, not as their indices"),
        (("1", "2"), ("01", "02", "03", "04"), [0, 1], "taken as the names of classes, not as their indices"),
        (("0", "3"), ("a", "b", "c", "d"), [0, 3], "taken as indices of the classes, from 0"),
        (("1234567", "7"), ("7", "8", "9", "1234567"), [3, 0], "taken as the names of classes, not as their indices"),
    ],
)
def test_numbers_are_names_where_the_classes_are_numbers_and_else_indices(
    labels: Sequence[str], classes: tuple[str, ...], expected: list[int], said: str, pictures: Path
) -> None:
    found, dataset = labels_of(pictures, labels, 4, classes)
    assert found == expected
    assert any(said in remark for remark in dataset.remarks)
    assert dataset.options.classes == classes


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (("1", "0"), ("1", "2"), "row 2: '0' is no class; expected one of 1, 2"),
        (("0", "1"), ("a", "1"), "row 1: '0' is no class; expected one of a, 1"),
        (("0", "0"), ("10", "20"), "row 1: '0' is no class; expected one of 10, 20"),
        (("0", "1"), ("1", "01"), "two classes are the same number"),
        (("0", "", "1"), (), "row 2 names no class: ''"),
        (("0", "1", "NaN"), (), "row 3 names no class: 'NaN'"),
        (("a", "b", ""), (), "row 3 names no class"),
    ],
)
def test_labels_that_are_no_class_or_none_are_refused(
    labels: Sequence[str], classes: tuple[str, ...], message: str, pictures: Path
) -> None:
    with pytest.raises(DataError, match=message):
        labels_of(pictures, labels, 2, classes)


def test_a_word_among_numbers_leaves_their_order_and_is_told(pictures: Path) -> None:
    found, dataset = labels_of(pictures, [*map(str, range(10, -1, -1)), "other"], 12)
    assert found == [*range(10, -1, -1), 11]
    assert any("not all (row 12: 'other'): taken as the names of classes" in remark for remark in dataset.remarks)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\np/7.png,b\n", r"no column 'x'; it has slide, label; say which it is: `map={'slide': 'x'}`"),
        ("path,grade\np/7.png,b\n", r"no column 'target'.*`map={'grade': 'target'}`"),
        ("path,label\np/9.png,b\np/7.png,a\n", "row 1, 'path': .*9.png cannot be read: No such file"),
        ("path,label\np,b\np/7.png,a\n", "row 1, 'path': .* is no file with one sample"),
        ("path,label\np/7.gif,b\np/7.png,a\n", r"7.gif is no file with one sample; expected one of .*\.png, .*\.jpg"),
        ("path,label\n,b\np/7.png,a\n", "row 1, 'path' is empty"),
        ("path,label\np/7.png\n", "row 1 has 1 cells; expected 2: path, label"),
        ("path,path\na,b\n", "two columns of the same name"),
        ("path,label\n", "has no row"),
        ("", "is empty"),
        (
            "path,label\np/7.png,a\np/7.png,b\np/7.png,c\n",
            "has 3 classes .a, b, c., the model 2: classes cannot be added",
        ),
        ("path,label\np/7.png,0.5\n", "row 1, 'label' is 0.5; expected a whole number"),
    ],
)
def test_a_table_that_does_not_do_is_refused(text: str, message: str, pictures: Path) -> None:
    with pytest.raises(DataError, match=message):
        opened(table(pictures, text), INPUTS, scale=1)


def test_a_damaged_table_of_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"t.parquet cannot be read: "):
        opened(tmp_path / "t.parquet", INPUTS)
