"""What of the data a proposed call validates on, where nothing was said: a part that lies beside it, or a fraction of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions
from tgdonnx.finetuning.fitting import fit
from tgdonnx.finetuning.session import Session

SPLITS = (0.2, 0.5)
"""The fractions of the files of which the first is proposed that is a whole file, where nothing lies beside."""
_PARTS = ("val", "valid", "validation", "dev", "test")  # the last is for the very end; only where there is no other
_TRAINED = re.compile(r"(?<![a-z])(?:training|train|tr)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class HeldOut:
    """What a call is to be given for its data to be validated.

    Attributes:
        options: ``validation`` or ``validation_split``; empty if it is validated already, or if nothing can be held out, as of
            one file.
        passed_over: what lies beside the data, but does not fit, and why.
    """

    options: Mapping[str, Any]
    passed_over: tuple[str, ...] = ()


def held_out(session: Session, data: RunData, training: TrainOptions) -> HeldOut:
    """Finds what could be held out.

    Args:
        session: the artifacts that are to train.
        data: of the run, which fits.
        training: how to train.
    """
    if data.validated or isinstance(data.data, Noise2Noise):
        return HeldOut({})
    passed: list[str] = []
    for path in _beside(data.data):
        problems = fit(session, replace(data, validation=path), training).problems
        if not problems:
            return HeldOut({"validation": os.fspath(path)}, tuple(passed))
        passed.append(f"{path} lies beside the data, but does not fit: {problems[0].problem}")
    for fraction in SPLITS:
        divided = replace(data, reading=replace(data.reading, validation_split=fraction))
        if not fit(session, divided, training).problems:
            return HeldOut({"validation_split": fraction}, tuple(passed))
    return HeldOut({}, tuple(passed))


def _beside(source: object) -> Iterator[Path]:
    """Yields what lies beside data and is called like another part of it, as ``val.npz`` beside ``train.npz``."""
    if not isinstance(source, (str, os.PathLike)):
        return
    path = Path(source)
    name, suffix = (path.name, "") if path.is_dir() else (path.stem, path.suffix)
    try:
        others = {each.name.lower(): each for each in sorted(path.parent.iterdir()) if each.name != path.name}
    except OSError:
        return
    for part in _PARTS:
        for wanted in dict.fromkeys((_TRAINED.sub(part, name), part)):
            other = others.get(f"{wanted}{suffix}".lower())
            if other is not None and other.is_dir() == path.is_dir():
                yield other
