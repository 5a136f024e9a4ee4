"""What may be written: nothing that a command reads. One rule, for every command and every function that writes.

No output is one of the inputs, however either is spelled: the paths may differ in case, or lead through links. An input is

- a file that is named, and the external data of a model;
- a file in a directory of data;
- for an artifacts directory its own files, the model that it was built from, wherever a copy of that lies, and the data that
  its run names. Other files may be in such a directory, such as a report.

Nor is an output a file of any other artifacts directory, external data of a model beside it, or another output of the same
command. What is in a directory that is replaced as a whole is not an input either.

Links: where a file is written, a link is replaced, and what it leads to stays. A directory may be a link where somebody names
it and files are added to it. What tgdonnx names itself, in it or beside it (the run of a tuned model, a round, a job, a
selection), and whatever is replaced or removed as a whole, is none: `require_no_link`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from tgdonnx.errors import ModelFileError, OutputError
from tgdonnx.files.model_file import ModelFile, StrPath, load_model, require_writable
from tgdonnx.files.model_writing import data_of, model_that_reads
from tgdonnx.files.paths import why_unusable, why_unwritable

_MANIFEST, _RUN, _COMPARISON = "manifest.json", "run.json", "comparison.json"
_OF_ARTIFACTS = re.compile(
    r"(training_model|eval_model|optimizer_model|step|gradients|update|eval|masked)\.onnx(\.data)?|frozen\.data"
    r"|checkpoint(\..*)?|state(\.best)?\.safetensors|manifest\.json|run\.json|federated\.json|log\.(jsonl|csv)|\.lock(\..*)?",
    re.IGNORECASE,
)
_NO_DATA = (".onnx", ".onnx.data", ".html")
_ELSE = "choose another name"


class Kind(Enum):
    """What an output is."""

    FILE = "a file"
    MODEL = "a model, which may have external data beside it"
    ARTIFACTS = "a directory that is replaced as a whole"
    ADDED_TO = "a directory that files are added to"
    RESULTS = "a file, or a directory that files are added to: whichever is there"


@dataclass(frozen=True)
class Output:
    """Something that a command writes."""

    path: Path
    kind: Kind = Kind.FILE


def optional(path: Optional[StrPath], kind: Kind = Kind.FILE) -> list[Output]:
    """Returns what is written at a path; nothing if it is None."""
    return [] if path is None else [Output(Path(path), kind)]


def require_outputs(
    outputs: Sequence[Output], inputs: Collection[object], *, overwrite: bool = False, rewritten: Iterable[StrPath] = ()
) -> None:
    """Checks that what a command will write may be written, before any work is done.

    Args:
        outputs: what it writes.
        inputs: what it reads: paths of files and directories, and models that are open; of one in memory no copy may be
            overwritten. Anything else, such as arrays, is not looked at.
        overwrite: whether files and artifacts may exist.
        rewritten: files of an artifacts directory that is replaced which the new one has as well.

    Raises:
        OutputError: an output exists and may not be overwritten, is an input, or cannot be written.
    """
    outputs = [replace(each, kind=_kind_there(each)) for each in outputs]
    for each in outputs:
        if reason := why_unwritable(each.path):
            raise OutputError(f"{str(each.path)!r} can be no file: {reason}; {_ELSE}")
    models = [each for each in inputs if isinstance(each, ModelFile)]
    opened = {each.path: each for each in models if not each.in_memory}
    named = [*opened, *(Path(each) for each in inputs if isinstance(each, (str, os.PathLike)))]
    given = [path for path in named if not why_unusable(path)]  # whoever opens the others says so
    read = list(dict.fromkeys(_read(given, opened)))
    hashes = {value for path in given for value in _vendor_hashes(path)}
    hashes |= {each.sha256 for each in models if each.in_memory}
    again = [Path(path) for path in rewritten]
    files = [*outputs, *(Output(data_of(each.path)) for each in outputs if each.kind is Kind.MODEL)]
    for index, each in enumerate(files):
        for path in read:
            if _touches(each, path) and not any(_same(path, other) for other in again):
                raise OutputError(_clash(each, path))
        for other in files[:index]:
            if _collide(each, other):
                raise OutputError(f"{each.path} and {other.path} are both to be written, in the same place; {_ELSE}")
        _require_nobodys(each, [path for path in given if _is_artifacts(path)], hashes)
    for each in outputs:
        _require_kind(each, overwrite=overwrite)


def require_no_link(directory: Path) -> None:
    """Checks that a directory is no link, so that nothing is written, moved or deleted where that leads.

    Raises:
        OutputError: it is one.
    """
    if directory.is_symlink():
        raise OutputError(
            f"{directory} is a link to {os.path.realpath(directory)}; expected a directory of its own, or none",
            remedy="remove the link, or choose another name",
        )


def _kind_there(wanted: Output) -> Kind:
    if wanted.kind is not Kind.RESULTS:
        return wanted.kind
    return Kind.ADDED_TO if wanted.path.is_dir() else Kind.FILE


def _require_kind(wanted: Output, *, overwrite: bool) -> None:
    path = wanted.path
    if wanted.kind in (Kind.FILE, Kind.MODEL):
        require_writable(path, overwrite=overwrite)
        model = model_that_reads(path) if path.is_file() else None
        if model is not None:
            raise OutputError(f"{path} exists, and {model} keeps weights there; {_ELSE}")
    elif os.path.lexists(path) and not path.is_dir():
        what = "a file" if path.exists() else "a link that leads nowhere"
        need = "the artifacts need" if wanted.kind is Kind.ARTIFACTS else "expected"
        raise OutputError(f"{path} is {what}; {need} a directory")


def _read(paths: Iterable[Path], opened: Mapping[Path, ModelFile]) -> Iterator[Path]:
    """Yields what a command reads that is given some paths."""
    for path in paths:
        yield path
        if path in opened:
            yield from (path.parent / location for location in opened[path].external_files)
        elif path.is_file():
            yield from _external(path)
        elif _is_artifacts(path):
            for name in ("data", "validation", "retain", "agree"):
                source = _json(path / _RUN).get(name)
                if isinstance(source, dict) and isinstance(source.get("source"), str):
                    yield Path(source["source"])


def _external(path: Path) -> Iterator[Path]:
    """Yields the external data of a file, if that is a model."""
    try:
        with path.open("rb") as file:
            first = file.read(1)
        # The IR version comes first wherever models are written in the order of onnx.proto.
        if first == b"\x08" or path.suffix.lower() == ".onnx":
            for location in load_model(path).external_files:
                yield path.parent / location
    except (OSError, ModelFileError):
        return  # whoever reads it says what is wrong


def _touches(wanted: Output, path: Path) -> bool:
    """Whether writing an output would change a file or directory that is read."""
    if _same(wanted.path, path):
        return True
    if wanted.kind is Kind.ARTIFACTS:
        return wanted.path.is_dir() and _inside(path, wanted.path)
    if wanted.kind is Kind.ADDED_TO or not path.is_dir() or _is_artifacts(path):
        return False
    return os.path.lexists(wanted.path) and _inside(wanted.path, path) and not wanted.path.name.endswith(_NO_DATA)


def _clash(wanted: Output, path: Path) -> str:
    if not _same(wanted.path, path):
        outer, inner = (path, wanted.path) if path.is_dir() else (wanted.path, path)
        return f"{inner} is in {outer}, so what is read would be overwritten; {_ELSE}"
    also = "" if str(wanted.path) == str(path) else f" ({path})"
    return f"{wanted.path} is one of the inputs{also}, which are never overwritten; {_ELSE}"


def _require_nobodys(wanted: Output, artifacts: Iterable[Path], hashes: set[str]) -> None:
    """Checks that an output is no file of an artifacts directory and no copy of a vendor's model."""
    if wanted.kind not in (Kind.FILE, Kind.MODEL):
        return
    for path in _places(wanted.path):
        known = any(_same(path.parent, each) for each in artifacts) or _is_artifacts(path.parent)
        if known and is_of_artifacts(path.name):
            raise OutputError(f"{wanted.path} is a file of the artifacts in {path.parent}; {_ELSE}")
        if path.name == _COMPARISON and _json(path).get("settings") is not None:
            raise OutputError(f"{wanted.path} is the record of a comparison; {_ELSE}")
    if hashes and wanted.path.is_file() and _sha256(wanted.path) in hashes:
        raise OutputError(f"{wanted.path} is the vendor's model, which is never overwritten; {_ELSE}")


def _collide(first: Output, second: Output) -> bool:
    if _same(first.path, second.path):
        return True
    for one, other in ((first, second), (second, first)):
        if one.kind is Kind.ARTIFACTS and any(_same(path.parent, one.path) for path in _places(other.path)):
            return is_of_artifacts(other.path.name)
    return False


def _places(path: Path) -> tuple[Path, ...]:
    """Returns where a file is written, and where it leads if it is a link, in directories without links."""
    return tuple(dict.fromkeys((Path(os.path.realpath(path.parent)) / path.name, Path(os.path.realpath(path)))))


def _same(first: Path, second: Path) -> bool:
    """Whether two paths lead to the same file, or would if it were there."""
    try:
        if first.exists() and second.exists():
            return first.samefile(second)
    except OSError:
        return False
    return any(
        one == other
        or (one.parent == other.parent and _folds(one.parent) and one.name.casefold() == other.name.casefold())
        for one in _places(first)
        for other in _places(second)
    )


def _folds(directory: Path) -> bool:
    """Whether a directory is on a file system that does not tell upper from lower case."""
    other = directory.with_name(directory.name.swapcase()) if directory.name else directory
    return other != directory and other.exists() and directory.exists() and other.samefile(directory)


def _inside(path: Path, directory: Path) -> bool:
    """Whether a path leads below a directory."""
    real = Path(os.path.realpath(directory))
    return any(real in place.parents for place in _places(path))


def _is_artifacts(path: Path) -> bool:
    return isinstance(_json(path / _MANIFEST).get("base_sha256"), str)


def _vendor_hashes(path: Path) -> Iterator[str]:
    value = _json(path / _MANIFEST).get("base_sha256") if path.is_dir() else None
    if isinstance(value, str):
        yield value


def _json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file; an empty one if there is none. Whoever needs what is in there says what is wrong."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def is_of_artifacts(name: str) -> bool:
    """Whether a file in an artifacts directory is one of the artifacts, or of the run."""
    return _OF_ARTIFACTS.fullmatch(name) is not None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()
