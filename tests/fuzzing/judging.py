"""What every command must do, whatever it is given: the judge of a fuzz."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.fuzzing.grammar import Case

Snapshot = Mapping[Path, str]

DONE, NO, REFUSED = 0, 1, 2
MOST_CHARACTERS = 6_000
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_NOISE = re.compile(r"Warning: |\[[EWF]:onnxruntime|^WARNING|^Exception ignored", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: its exit status; negative: the signal that ended it; None: it hung.
        stdout: what it printed.
        stderr: what it printed there.
    """

    status: Optional[int]
    stdout: str
    stderr: str


def snapshot(*directories: Path) -> Snapshot:
    """Returns what lies below some directories: a digest for every path."""
    found = {}
    for directory in directories:
        for root, folders, files in os.walk(directory):
            for path in (Path(root, name) for name in (*folders, *files)):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
                else:
                    found[path] = os.fspath(path.readlink()) if stat.S_ISLNK(mode) else str(stat.S_IFMT(mode))
    return found


def faults(case: Case, outcome: Outcome, world: Path, before: Snapshot, after: Snapshot) -> list[str]:
    """Returns what the command did wrong, each by a kind and what was seen."""
    told = outcome.stdout + outcome.stderr
    found = []
    if outcome.status is None:
        found.append("hang")
    elif outcome.status < 0:
        found.append(f"crash: signal {-outcome.status}")
    elif outcome.status not in (DONE, NO, REFUSED):
        found.append(f"status: {outcome.status}")
    if "Traceback (most recent call last)" in told:
        found.append(f"traceback: {_last_line(told)}")
    if "fault of tgdonnx" in told:
        found.append(f"fault: {_last_line(told, 'fault of tgdonnx')}")
    if outcome.status == REFUSED and not outcome.stderr.strip():
        found.append("silent: refused without a word")
    if outcome.status == NO and case.arguments[0] not in ("verify", "check", "sweep", "report"):
        found.append("status: 1 of a command that asks nothing")
    if control := _CONTROL.search(told):
        found.append(f"control: {control.group()!r} in the output")
    if noise := _NOISE.search(outcome.stderr):
        found.append(f"noise: {noise.group()} in {_last_line(outcome.stderr, noise.group().strip())}")
    if outcome.status == REFUSED and len(outcome.stderr) > MOST_CHARACTERS:
        found.append(f"long: {len(outcome.stderr)} characters")
    if "--json" in case.arguments and outcome.status in (DONE, NO) and "--help" not in case.arguments:
        found += _json_faults(outcome.stdout)
    return found + _file_faults(case, outcome, world, before, after)


def _json_faults(text: str) -> list[str]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError as error:
        return [f"json: {error}"]
    return []


def _file_faults(case: Case, outcome: Outcome, world: Path, before: Snapshot, after: Snapshot) -> list[str]:
    # A lock is taken before anything is looked at; its file says nothing, and stays, since others may be about to take it.
    created = sorted(path for path in set(after) - set(before) if path.name != ".lock")
    changed = sorted(path for path in before if after.get(path) != before[path])
    left = [path for path in created if path.name.startswith("tgdonnx-") or re.fullmatch(r"\..*\.tmp", path.name)]
    found = [f"leftover: {path}" for path in left[:2]]
    command = case.arguments[0]
    # After the first step a run is kept, whatever comes then.
    trained = command in ("train", "finetune", "compare") and any(
        path.name == "log.jsonl" for path in (*created, *changed)
    )
    if outcome.status == REFUSED and not trained:
        found += [f"wrote: {path} though refused" for path in (created + changed)[:2]]
    targets = _targets(case, world)
    for path in changed:
        may = (
            command in ("train", "compare")
            or (command == "blend" and path.name == "run.json")
            or "--overwrite" in case.arguments
            or path.is_dir()
        )
        if not (may and any(_below(path, target) for target in targets)):
            found.append(f"changed: {path}")
    beside = {target.parent for target in targets}
    found += [
        f"outside: {path}"
        for path in created
        if path.parent not in beside and not any(_below(path, target) for target in targets)
    ]
    return found


def _targets(case: Case, world: Path) -> list[Path]:
    """Returns where the command was told to write."""
    words = case.arguments
    options = {
        "-o",
        "--plot",
        "--report",
        "--applied",
        "--tensorboard",
        "--card",
        *(["--artifacts"] * (words[0] == "finetune")),
    }
    found = [words[at + 1] for at, word in enumerate(words[:-1]) if word in options]
    found += words[1:2] * (words[0] in ("train", "blend"))
    targets = [Path(os.path.normpath(world / word)) for word in found if word]
    if words[0] == "finetune":
        # The run is kept beside the tuned model.
        targets += [target.with_suffix(".run") for target in targets if target.name]
    return targets


def _below(path: Path, target: Path) -> bool:
    return target in (path, *path.parents)


def _last_line(text: str, having: str = "") -> str:
    lines = [line for line in text.splitlines() if having in line and line.strip()]
    return lines[-1][:300] if lines else ""
