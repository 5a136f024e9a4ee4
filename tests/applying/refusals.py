"""What is applied to, and refused without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tgdonnx import apply

Array = NDArray[np.float32]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def refuse(message: str, error: type[Exception], tmp_path: Path, *arguments: Any, **options: Any) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error, match=message):
        apply(*arguments, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
