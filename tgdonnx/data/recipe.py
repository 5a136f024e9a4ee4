"""What another process has to be told to make the same batches: once what to open, then which batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Scaling
from tgdonnx.data.targets import TargetLimits
from tgdonnx.graphs.tensor_specs import TensorSpec


@dataclass(frozen=True)
class Recipe:
    """How to open the same data again.

    Attributes:
        path: the source.
        groups: which of its groups.
        inputs: what a step is fed.
        options: how the data is varied.
        scaling: as it was measured.
        ignored: names of arrays of which nobody needs to hear that nothing takes them.
        target_limits: of its targets; see `Dataset.require_target`.
    """

    path: Path
    groups: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    options: DataOptions
    scaling: Optional[Scaling]
    ignored: tuple[str, ...]
    target_limits: tuple[TargetLimits, ...]


@dataclass(frozen=True)
class Stream:
    """Which batches to make; see `Dataset.batches`."""

    size: int
    epoch: Optional[int]
    seed: int
    start: int
