"""The door to onnxruntime-training, and what it writes files with."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

from tgdonnx.errors import OutputError, RuntimeMissingError
from tgdonnx.runtime.availability import training_remedy
from tgdonnx.runtime.importing import TRAINING, load_onnxruntime, stand_in


def has_training_runtime() -> bool:
    """Whether onnxruntime-training is installed; nothing is imported."""
    spec = importlib.util.find_spec("onnxruntime")
    locations = () if spec is None else spec.submodule_search_locations or ()
    return any(Path(location, "training", "api").is_dir() for location in locations)


def load_training_api() -> Any:
    """Returns the module ``onnxruntime.training.api`` (Module, Optimizer, CheckpointState).

    Raises:
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    _require_training()
    return importlib.import_module(f"{TRAINING}.api")


@contextmanager
def writing(path: Path, target: Optional[Path] = None) -> Iterator[None]:
    """Goes around what lets the runtime write a file. Of a full disk, or a directory that is gone, it says no more than that.

    Args:
        path: what it writes.
        target: what the file will be called, if that is another name.

    Raises:
        OutputError: it could not.
    """
    try:
        yield
    except RuntimeError as error:
        written = path.stat().st_size if path.exists() else 0
        free = f"; {shutil.disk_usage(path.parent).free:,} bytes are free" if path.parent.exists() else ""
        raise OutputError(
            f"{target or path} cannot be written: ONNX Runtime gave up after {written:,} bytes{free}"
        ) from error


def _require_training() -> None:
    if importlib.util.find_spec("onnxruntime") is not None:
        runtime = load_onnxruntime()
        if TRAINING not in sys.modules:  # somebody imported onnxruntime before us
            stand_in(runtime.__path__)
        if TRAINING in sys.modules:
            return
    raise RuntimeMissingError(f"onnxruntime-training is not installed; {training_remedy()}")
