"""Small artifacts to train."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.finetuning.runs import HELD_OUT, OPTIONS, data
from tgdonnx.finetuning import RunData, TrainOptions, TrainReport, train


def uninterrupted(built: Path, directory: Path, options: TrainOptions = OPTIONS) -> tuple[Path, TrainReport]:
    copy = Path(shutil.copytree(built, directory / "uninterrupted"))
    return copy, train(copy, RunData(data(), validation=HELD_OUT), options)
