"""What cases belong to: a table of names of files, beside a file of criteria.

    file,scanner,sex
    cats/0001.png,A,f
    cats/0002.png,B,m

A cell of ``file`` (or ``path``, ``filename``, ``image``, ``picture``, ``case``) is the name of a case, as a page shows it, or
the end of the path of its file; a file with many samples has one row for all of them. The text of the table is recorded with
that of the criteria.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from tgdonnx import bounds
from tgdonnx.data.cases import Case
from tgdonnx.data.class_names import shown
from tgdonnx.data.tables import USUAL_PATHS, rows_of
from tgdonnx.errors import DataError, TgdonnxError
from tgdonnx.files.regular import read_regular
from tgdonnx.files.typed import Sha256

_NAMES = (*USUAL_PATHS, "case")


@dataclass(frozen=True)
class GroupTable:
    """A table of what cases belong to, as a run records it.

    Attributes:
        file: its name.
        sha256: of its bytes.
        text: these, which are UTF-8.
    """

    file: str
    sha256: Sha256
    text: str

    def columns(self) -> tuple[str, ...]:
        """Returns the names of its columns but that of files.

        Raises:
            DataError: it is no table, or has no column of files.
        """
        return self._parsed()[0]

    def require_known(self, cases: Sequence[Case], trained_on: Collection[str]) -> None:
        """Checks that every row is of a case, or of a file that is trained on; to be called before the first step.

        Args:
            cases: those that are judged on.
            trained_on: the paths of files that the table may name besides.

        Raises:
            DataError: a row names another file.
        """
        known = {*_by_names(cases), *(tail for path in trained_on for tail in _tails(path))}
        for number, (name, _) in enumerate(self._parsed()[1], 1):
            if name not in known:
                names = list(dict.fromkeys(case.name for case in cases))
                raise DataError(
                    f"{self.file}, row {number}: {name!r} is no file of the validation data; it has {shown(names)}"
                )

    def grouped(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Returns cases of which the columns say what the table does, too; rows of other files are left out.

        Raises:
            DataError: a row may be of several files, or is of one that another row is of; a case has no row; or the data has a
                column of the same name.
        """
        columns, rows = self._parsed()
        twice = [name for name in columns if any(name in case.columns for case in cases)]
        if twice:
            raise DataError(
                f"{self.file} has a column {twice[0]!r}, and so has the validation data", remedy="rename one of them"
            )
        answering = _by_names(cases)
        said: dict[int, Mapping[str, str]] = {}
        for number, (name, row) in enumerate(rows, 1):
            where, meant = f"{self.file}, row {number}", answering.get(name, {})
            if len(meant) > 1:
                raise DataError(f"{where}: {name!r} may be any of {shown([*meant])}", remedy="write more of its path")
            for place in (place for places in meant.values() for place in places):
                if place in said:
                    raise DataError(f"{where}: {name!r} is in another row, too", remedy="leave one out")
                said[place] = row
        lacking = [case.name for place, case in enumerate(cases) if place not in said]
        if lacking:
            raise DataError(
                f"{self.file} has no row for {len(lacking):,} of {len(cases):,} cases: {shown(lacking)}",
                remedy="say what they belong to",
            )
        return tuple(replace(case, columns={**case.columns, **said[place]}) for place, case in enumerate(cases))

    def _parsed(self) -> tuple[tuple[str, ...], tuple[tuple[str, Mapping[str, str]], ...]]:
        """Returns the names of its columns but that of files, and for every row the file, and what is said of it."""
        names, rows = rows_of(self.text.encode(), self.file)
        files = [name for name in names if name.lower() in _NAMES]
        if len(files) != 1:
            raise DataError(
                f"{self.file} has the columns {', '.join(names)}; expected one of files, called {' or '.join(_NAMES)}"
            )
        others = tuple(name for name in names if name not in files)
        found = [dict(zip(names, row)) for row in rows]
        return others, tuple((_plain(row[files[0]]), {name: row[name] for name in others}) for row in found)


def read_groups(path: Path) -> GroupTable:
    """Reads a table of what cases belong to.

    Raises:
        DataError: it cannot be read, or has no column of files, or no other.
    """
    try:
        content = read_regular(path, bounds.CONFIG_BYTES)
        table = GroupTable(path.name, hashlib.sha256(content).hexdigest(), content.decode())
    except TgdonnxError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: it is no UTF-8 text") from error
    except ValueError as error:  # a NUL in the path
        raise DataError(f"{str(path)!r} is no path: {error}") from error
    if not table.columns():
        raise DataError(f"{path} says nothing of its files; expected another column, such as 'scanner'")
    return table


def _by_names(cases: Sequence[Case]) -> dict[str, dict[str, list[int]]]:
    """Returns for names and ends of paths the files that they may mean, and the places of their cases."""
    found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, case in enumerate(cases):
        meant = case.path or case.name
        for name in {case.name, *_tails(case.path)}:
            found[name][meant].append(place)
    return found


def _tails(path: str) -> list[str]:
    parts = PurePath(path).parts
    return ["/".join(parts[start:]).replace("//", "/") for start in range(len(parts))]


def _plain(name: str) -> str:
    return PurePath(name.strip().replace("\\", "/")).as_posix()
