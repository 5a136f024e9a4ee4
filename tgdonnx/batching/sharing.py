"""Artifacts that many jobs start from: what is the same for all of them is made once.

Scores, masks and the graphs of a step follow from the vendor's file, the selection and the options of the build alone. They are
made once, in a directory that is named after a hash of these, and every job gets them with a state of its own: models are
linked where the file system can, else copied, for nobody writes into them; external data is always copied.

    KEY/artifacts/    untrained artifacts, as `tgdonnx.build` writes them
    KEY/mask.json     what they train, as `tgdonnx.mask` tells it
    KEY/sums.json     the SHA-256 of each of these files

What is not as it was written, also by a program that wrote into a file of a job in place, is made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, TypeVar

from filelock import FileLock

from tgdonnx.artifacts import Artifacts, BuildOptions, BuildReport, build_masked, open_artifacts
from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER
from tgdonnx.artifacts.new_directory import new_directory
from tgdonnx.batching.identity import Hashes, files_of, inputs_of
from tgdonnx.errors import TgdonnxError
from tgdonnx.files.access import writing
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.typed import Sha256, decode, encode, read_bytes
from tgdonnx.layers import Network
from tgdonnx.masked_model import MaskedModel, read_masked
from tgdonnx.masking import MaskReport, mask_network
from tgdonnx.pipeline.asked import Asked
from tgdonnx.pipeline.making import MadeAnew
from tgdonnx.pipeline.resuming import report_of
from tgdonnx.selection import BySensitivity
from tgdonnx.versions import installed_version

_ARTIFACTS, _MASK, _SUMS = "artifacts", "mask.json", "sums.json"
T = TypeVar("T")
_MOST = 4  # entries that are kept open; jobs of one model come one after the other


@dataclass(frozen=True)
class _Entry:
    mask: MaskReport
    artifacts: Artifacts


@dataclass(frozen=True)
class _Sums:
    files: Mapping[str, Sha256]


class SharedArtifacts:
    """Makes the artifacts of jobs (`tgdonnx.pipeline.making.Making`), the same ones once.

    Attributes:
        directory: where they are.
        remade: what was made again since it was damaged, in sentences; who tells it takes it away.
    """

    def __init__(self, directory: Path, hashes: Hashes) -> None:
        """Takes a directory, which may not be there yet, and hashes that are known."""
        self.directory, self._hashes = directory, hashes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self.remade: list[str] = []

    def masked(self, asked: Asked, before: Network, scratch: Path) -> tuple[MaskReport, MaskedModel]:
        """Masks a model; see `tgdonnx.pipeline.making.Making`."""
        key = self.key_of(asked)
        if key is None:
            return MadeAnew().masked(asked, before, scratch)
        entry = self._entry(key, asked, before)
        return entry.mask, entry.artifacts.masked

    def built(
        self, model: MaskedModel, directory: Path, building: BuildOptions, *, overwrite: bool
    ) -> tuple[BuildReport, Artifacts]:
        """Puts artifacts into a directory; see `tgdonnx.pipeline.making.Making`."""
        entry = next((each for each in self._entries.values() if each.artifacts.masked is model), None)
        if entry is None:
            return build_masked(model, directory, building, overwrite=overwrite)
        state = entry.artifacts.manifest.runtime.checkpoint
        with new_directory(directory, overwrite=overwrite) as target:
            for path in entry.artifacts.directory.iterdir():
                if path.name not in (LOCK, LOCK_OWNER):
                    # Readers of models refuse external data that has a second name.
                    _take(path, target / path.name, copied=path.name == state or path.suffix == ".data")
        artifacts = replace(entry.artifacts, directory=directory)
        return report_of(artifacts), artifacts

    def key_of(self, asked: Asked) -> Optional[str]:
        """Returns what tells the artifacts of a job from all others; None where they follow from its own data."""
        strategy, masking = asked.strategy, asked.masking
        if strategy is None or masking.chosen is not None or isinstance(strategy, BySensitivity):
            return None
        calibrate = masking.reinitialization.calibrate
        reads = {"model": asked.file.path, **({} if calibrate is None else {"calibrate": calibrate})}
        read = {role: [each.sha256 for each in files] for role, files in inputs_of(reads, self._hashes).items()}
        plain = replace(masking, reinitialization=replace(masking.reinitialization, calibrate=None))
        versions = [installed_version(name) for name in ("tgdonnx", "onnx", "onnx-ir")]
        what = (versions, read, type(strategy).__name__, strategy, plain, asked.building.in_cheapest_form())
        return hashlib.sha256(encode(what)).hexdigest()[:32]

    def make(self, asked: Asked, before: Network) -> Optional[str]:
        """Makes the artifacts of a job if they can be shared and are not there; returns their key.

        Raises:
            TgdonnxError: as `tgdonnx.mask` and `tgdonnx.build`.
        """
        key = self.key_of(asked)
        if key is not None:
            self._entry(key, asked, before)
        return key

    def _entry(self, key: str, asked: Asked, before: Network) -> _Entry:
        if key not in self._entries:
            if _why_unusable(self.directory / key):
                self._make(key, asked, before)
            self._entries[key] = _opened(self.directory / key)
            if len(self._entries) > _MOST:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key]

    def _make(self, key: str, asked: Asked, before: Network) -> None:
        place = self.directory / key
        with writing(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        # One process makes it, and others wait; where there are no locks both do, and the second finds it there.
        with FileLock(str(self.directory / f"{key}.lock")):
            why = _why_unusable(place)
            if not why:
                return
            if os.path.lexists(place):
                self.remade.append(f"{why}; it was made again")
                _remove(place)
            temporary = temporary_beside(place)
            try:
                with writing(temporary):
                    (temporary / "masked").mkdir(parents=True)
                assert asked.strategy is not None  # else there is no key
                masked = temporary / "masked" / "masked.onnx"
                report = mask_network(before, masked, asked.strategy, asked.masking)
                build_masked(read_masked(masked), temporary / _ARTIFACTS, asked.building.in_cheapest_form())
                shutil.rmtree(temporary / "masked")
                with writing(place):
                    (temporary / _MASK).write_bytes(encode(report))
                    (temporary / _SUMS).write_bytes(encode(_Sums(_hashes_in(temporary))))
                    try:
                        temporary.rename(place)
                    except OSError:
                        if not place.is_dir():  # else another process was faster
                            raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            remove_leftovers(place)


def _opened(directory: Path) -> _Entry:
    mask = _read(directory / _MASK, MaskReport)
    return _Entry(mask, open_artifacts(directory / _ARTIFACTS))


def _read(path: Path, shape: type[T]) -> T:
    remedy = f"delete {path.parent}, and it is made again"
    return decode(read_bytes(path, remedy=remedy), shape, str(path), remedy=remedy)


def _why_unusable(directory: Path) -> str:
    """Returns why what jobs share has to be made: it is not there, or not as it was written; empty if it is."""
    if directory.is_symlink() or not directory.is_dir():
        return f"{directory} is no directory"
    try:
        was, now = _read(directory / _SUMS, _Sums).files, _hashes_in(directory)
    except TgdonnxError as error:
        return error.problem or str(error)
    wrong = next((name for name in (*was, *now) if was.get(name) != now.get(name)), None)
    return "" if wrong is None else f"{directory / wrong} is not what was written there"


def _hashes_in(directory: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of an entry, by name.

    Raises:
        DataError: one cannot be read, or there is none.
    """
    hashes = Hashes()  # which knows nothing: a file of the same size and time may be another
    return {
        name: hashes.of(path, name).sha256
        for name, path in files_of(directory)
        if path.name not in (LOCK, LOCK_OWNER, _SUMS)
    }


def _remove(place: Path) -> None:
    with writing(place):
        if place.is_symlink() or not place.is_dir():
            place.unlink()
        else:
            old = temporary_beside(place, "old")
            place.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def _take(path: Path, target: Path, *, copied: bool) -> None:
    if not copied:
        with suppress(OSError):  # another disk, or no links there
            os.link(path, target)
            return
    shutil.copyfile(path, target)
