"""What cases belong to, by a table beside the criteria: which cells mean which files, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tgdonnx.data.cases import Case
from tgdonnx.errors import DataError
from tgdonnx.finetuning.subgroups import GroupTable, read_groups

CASES = (
    Case("cat/1.png", {"folder": "cat"}, "/data/val/cat/1.png"),
    Case("dog/1.png", {"folder": "dog"}, "/data/val/dog/1.png"),
    Case("dog/2.png", {"folder": "dog"}, "/data/val/dog/2.png"),
)
IN_ONE_FILE = (
    Case("a.npz, sample 1", {}, "/d/a.npz"),
    Case("a.npz, sample 2", {}, "/d/a.npz"),
    Case("b.npz", {}, "/d/b.npz"),
)


def table(folder: Path, *rows: str) -> GroupTable:
    path = folder / "groups.csv"
    path.write_text("\n".join(rows) + "\n")
    return read_groups(path)


def scanners(found: tuple[Case, ...]) -> list[str]:
    return [case.columns["scanner"] for case in found]


@pytest.mark.parametrize(
    ("cases", "rows", "expected"),
    [
        (CASES, ["file,scanner", "dog/1.png,B", "2.png,C", "cat/1.png,01"], ["01", "B", "C"]),
        (CASES, ["scanner;path", "A;val/cat/1.png", "B;/data/val/dog/1.png", "B;dog\\2.png"], ["A", "B", "B"]),
        (IN_ONE_FILE, ["case,scanner", "a.npz,A", "b.npz,B"], ["A", "A", "B"]),
        (IN_ONE_FILE, ["case,scanner", "b.npz,B", '"a.npz, sample 2",C', '"a.npz, sample 1",D'], ["D", "C", "B"]),
    ],
)
def test_a_row_means_a_case_or_a_file_by_the_end_of_its_path(
    cases: tuple[Case, ...], rows: list[str], expected: list[str], tmp_path: Path
) -> None:
    found = table(tmp_path, *rows).grouped(cases)
    assert scanners(found) == expected
    assert [case.name for case in found] == [case.name for case in cases]


def test_a_table_of_all_data_may_name_files_that_are_trained_on(tmp_path: Path) -> None:
    found = table(tmp_path, "file,scanner", "cat/1.png,A", "dog/1.png,B", "dog/2.png,B", "cat/7.png,A")
    found.require_known(CASES, ["/data/train/cat/7.png"])
    assert scanners(found.grouped(CASES)) == ["A", "B", "B"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["file,scanner", "cat/1.png,A", "dog/1.png,B"], "no row for 1 of 3 cases: dog/2.png"),
        (
            ["file,scanner", "cat/9.png,A"],
            "row 1: 'cat/9.png' is no file of the validation data; it has cat/1.png, dog",
        ),
        (["file,scanner", "1.png,A"], "row 1: '1.png' may be any of /data/val/cat/1.png, /data/val/dog/1.png"),
        (["file,scanner", "2.png,A", "dog/2.png,A"], "row 2: 'dog/2.png' is in another row, too"),
        (["file,folder", "cat/1.png,A"], "has a column 'folder', and so has the validation data; rename"),
        (["name,scanner", "cat/1.png,A"], "has the columns name, scanner; expected one of files, called path or file"),
        (["file", "cat/1.png"], "says nothing of its files; expected another column"),
        (["file,scanner", "cat/1.png"], "row 1 has 1 cells; expected 2: file, scanner"),
        ([""], "is empty; expected a line with the names of its columns"),
    ],
)
def test_what_says_nothing_or_too_much_is_refused(rows: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        grouped(tmp_path, rows)
    assert message in str(caught.value)


def grouped(folder: Path, rows: list[str]) -> tuple[Case, ...]:
    found = table(folder, *rows)
    found.require_known(CASES, [])
    return found.grouped(CASES)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "groups.csv", "no UTF-8 text"),
        (tmp_path / "none.csv", "No such file"),
        (tmp_path, "it is a directory; expected a file"),
        (tmp_path / "a\0b.csv", "is no path"),
    ):
        with pytest.raises(DataError, match=message):
            read_groups(path)
