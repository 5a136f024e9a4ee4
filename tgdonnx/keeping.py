"""What `finetune` trains is kept until its result is there: where artifacts lie, and what is said when a later stage fails.

Without a directory of the user's, artifacts are in ``STEM.run`` beside the output from the start, so that nothing has to be
moved when something fails, or when the process is killed. At the end it stays, unless it shall not. Training that an earlier
call left there is gone on with or replaced only if that is asked for.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import require_new_directory
from tgdonnx.artifacts.locking import is_locked
from tgdonnx.artifacts.manifest import LOCK, LOCK_OWNER, MANIFEST
from tgdonnx.calls import call
from tgdonnx.errors import ArtifactsError, KeptError, OutputError, StoppedError, TgdonnxError
from tgdonnx.files.leftovers import remove_leftovers, temporary_beside
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.outputs import is_of_artifacts, require_no_link
from tgdonnx.finetuning import steps_kept


@dataclass
class Place:
    """Where the artifacts of a call are, and how to go on from there.

    Attributes:
        root: the directory; of several rounds that of ``round-1`` and so on.
        rounds: how many there will be.
        given: whether the user named it.
        lasting: whether it stays at the end.
        resumed: whether it holds a run that is gone on with, of which nothing is ever taken away.
        call: what goes on, should something fail now; empty before there is anything to go on with.
        and_then: what is said behind it.
    """

    root: Path
    rounds: int
    given: bool
    lasting: bool
    resumed: bool
    call: str = field(default="", init=False)
    and_then: str = field(default="", init=False)
    _aside: dict[Path, Optional[Path]] = field(default_factory=dict, init=False)
    _was_there: bool = field(default=False, init=False)

    def of_round(self, number: int) -> Path:
        """Returns the artifacts directory of a round, counted from 1."""
        return self.root / f"round-{number}" if self.rounds > 1 else self.root

    def go_on_with(self, what: str, and_then: str = "") -> None:
        """Notes the call that goes on, should something fail from now on, and what else there is to say."""
        self.call, self.and_then = what, and_then

    @property
    def steps(self) -> int:
        """The largest number of steps that any checkpoint in it holds."""
        found = [self.root, *sorted(self.root.glob("round-*"))]
        return max((steps_kept(path) for path in found if (path / MANIFEST).is_file()), default=0)

    def set_aside(self) -> None:
        """Renames what will be replaced, so that it can be had back as long as nothing is trained.

        Raises:
            ArtifactsError: another process is at work there.
        """
        places = [self.of_round(number) for number in range(1, self.rounds + 1)] if self.given else [self.root]
        for path in places:
            if (path / MANIFEST).is_file() and is_locked(path):
                raise ArtifactsError(
                    f"{path} is in use by another process", remedy="wait until it ends, or choose another place"
                )
        self._was_there = self.root.is_dir()
        for path in places:
            # Whatever is killed now, this is the user's: such a name is never swept.
            old = temporary_beside(path, "aside") if path.is_dir() else None
            if old is not None:
                path.rename(old)
            self._aside[path] = old

    def put_back(self) -> None:
        """Undoes `set_aside`: what is there now is deleted."""
        for path, old in self._aside.items():
            shutil.rmtree(path, ignore_errors=True)
            if old is not None:
                old.rename(path)
        if not self._was_there and self.root.is_dir():  # around the directories of rounds
            self.root.rmdir()

    def forget(self) -> None:
        """Deletes what was set aside; what is not of the artifacts, such as a report, stays."""
        for path, old in self._aside.items():
            if old is not None:
                if path.is_dir():
                    _move_others(old, path)
                shutil.rmtree(old, ignore_errors=True)

    def remove(self) -> None:
        """Deletes it; under its name it is there whole or not at all."""
        if self.root.is_dir():
            old = temporary_beside(self.root, "old")
            self.root.rename(old)
            shutil.rmtree(old, ignore_errors=True)
            remove_leftovers(self.root)


def run_of(output: Path) -> Path:
    """Returns where artifacts go for a tuned model, without a directory of the user's."""
    return output.with_name(f"{output.stem}.run")


def open_place(
    output: Path, artifacts: Optional[StrPath], *, rounds: int, lasting: bool, resumed: bool, overwrite: bool
) -> Place:
    """Finds where artifacts may go, before anything is written.

    Args:
        output: the tuned model that will be written.
        artifacts: what the user named, if anything.
        rounds: how many there will be.
        lasting: whether a directory that the user did not name stays at the end, too.
        resumed: whether the run that is there is gone on with.
        overwrite: whether what is there may be replaced.

    Raises:
        ArtifactsError: another process is at work there, or no run is there to go on with.
        OutputError: something is there that may not be replaced, or a link.
    """
    given = artifacts is not None
    root = Path(artifacts) if artifacts is not None else run_of(output)
    place = Place(root, rounds, given, lasting or given, resumed)
    within = [path for path in map(place.of_round, range(1, rounds + 1)) if path != root]
    for path in within if given else (root, *within):  # a run that the user names is gone on with wherever it lies
        require_no_link(path)
    if resumed:
        _require_resumable(place)
    elif given:
        for number in range(1, rounds + 1):
            require_new_directory(place.of_round(number), overwrite=overwrite)
        if not place.root.parent.is_dir():
            raise OutputError(f"the directory {place.root.parent} does not exist", remedy="create it or choose another")
        if place.root.exists() and not place.root.is_dir():
            raise OutputError(f"{place.root} is a file; the artifacts need a directory")
    elif place.root.exists():
        _require_replaceable(place, output, overwrite=overwrite)
    return place


def _require_resumable(place: Place) -> None:
    first = place.of_round(1)
    if not (first / MANIFEST).is_file():
        raise ArtifactsError(f"there is no run to resume in {first}", remedy="leave `resume` out to start one")
    for path in (place.of_round(number) for number in range(1, place.rounds + 1)):
        if (path / MANIFEST).is_file() and is_locked(path):
            raise ArtifactsError(
                f"{path} is in use by another process", remedy="wait until it ends, or choose another output"
            )


def _require_replaceable(place: Place, output: Path, *, overwrite: bool) -> None:
    """Looks at what an earlier call left: training that may not be replaced, or something that is not ours."""
    known = {LOCK, LOCK_OWNER}
    strange = not place.root.is_dir() or (
        not (place.root / MANIFEST).is_file()
        and any(not path.name.startswith("round-") and path.name not in known for path in place.root.iterdir())
    )
    if strange:
        raise OutputError(
            f"{place.root} is no run of ours, and a run goes there",
            remedy="move it, or choose another with `artifacts`",
        )
    within = [path for path in (place.root, *place.root.glob("round-*")) if (path / MANIFEST).is_file()]
    for path in within:
        if is_locked(path):
            raise OutputError(
                f"{path} is in use by another process", remedy="wait until it ends, or choose another output"
            )
    steps = place.steps
    if steps and overwrite and not place.lasting:
        raise OutputError(
            f"{within[-1]} holds {steps} steps of an earlier call, which would be deleted with no other run in their place",
            remedy="pass `keep=True` so that the new run takes it, delete it yourself, or choose another output",
        )
    if steps and not overwrite:
        latest = within[-1]
        raise OutputError(
            f"{latest} holds {steps} steps of an earlier call: "
            f"`{call('export', latest, options={'output': output})}` writes its model",
            remedy="pass `resume=True` to go on with it, `overwrite=True` to start anew, or choose another output",
        )


def _move_others(old: Path, new: Path) -> None:
    for path in old.iterdir():
        if is_of_artifacts(path.name):
            continue
        if not (new / path.name).exists():
            path.rename(new / path.name)
        elif path.is_dir() and not path.is_symlink() and (new / path.name).is_dir():
            _move_others(path, new / path.name)


@contextmanager
def kept(place: Place, *, signals: bool) -> Iterator[None]:
    """Runs the block; should it fail, says where what was trained is, or puts back what was there if nothing was.

    Args:
        place: where the artifacts are.
        signals: whether Ctrl-C is an answer of ours, rather than the caller's to catch.

    Raises:
        StoppedError: Ctrl-C, if ``signals``.
        KeptError: what is no error of ours, once there is training.
        TgdonnxError: as the block does, with what goes on.
    """
    if not place.resumed:
        place.set_aside()
    try:
        yield
    except BaseException as error:
        steps = place.steps if place.call else 0
        if not steps:
            if not place.resumed:
                place.put_back()
            raise
        place.forget()
        more = f"{place.root} keeps what was trained: go on with `{place.call}`{place.and_then}"
        if isinstance(error, TgdonnxError):
            error.add(more)
            raise
        if isinstance(error, KeyboardInterrupt) and signals:
            raise StoppedError(f"stopped by SIGINT; {more}", int(signal.SIGINT)) from error
        if isinstance(error, Exception):
            reason = str(error).partition("\n")[0]
            raise KeptError(f"{type(error).__name__}: {reason}; {more}", place.root, place.call) from error
        raise
    place.forget()
    if not place.lasting:
        place.remove()
