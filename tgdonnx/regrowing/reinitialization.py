"""What is asked for when dropped filters are to be reinitialised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from tgdonnx.data import DataOptions, DataSource, held
from tgdonnx.errors import SelectionError
from tgdonnx.runtime import CPU_NAME
from tgdonnx.selection import KINDS, Kind
from tgdonnx.sweeping import DEFAULT_TOLERANCE


@dataclass(frozen=True)
class Reinitialization:
    """How dropped filters are reinitialised.

    Attributes:
        kind: where initial values come from; see `tgdonnx.regrowing.initial_values`. None for ``calibrated`` where there are
            images to calibrate on, else for ``clone``: by measurement, see `samples/retention`.
        calibrate: a few unlabelled images, as for `tgdonnx.sweep`: to calibrate on, and to measure the change of the output
            on. None to measure it on random input.
        reading: how they are read; what is for ``target`` in it, and augmentation, is ignored.
        isolate: whether useful filters never read reinitialised maps; only layers whose maps nobody scores do.
        tolerance: the largest change of the output that is accepted; as in `tgdonnx.sweep`.
        seed: of all random numbers.
        device: where models run; see `TrainOptions`. In `finetune` and `compare` it is the device of the run.
    """

    kind: Optional[Kind] = None
    calibrate: Optional[DataSource] = None
    reading: DataOptions = field(default_factory=DataOptions)
    isolate: bool = False
    tolerance: float = DEFAULT_TOLERANCE
    seed: int = 0
    device: str = CPU_NAME

    def __post_init__(self) -> None:
        if self.calibrate is not None:  # it is opened once per selection
            object.__setattr__(self, "calibrate", held(self.calibrate))

    def require_valid(self) -> None:
        """Checks the options.

        Raises:
            SelectionError: an option is out of range, or images are missing.
        """
        if self.kind is not None and self.kind not in KINDS:
            raise SelectionError(f"unknown kind of reinitialisation {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not (np.isfinite(self.tolerance) and self.tolerance >= 0):
            raise SelectionError(f"expected a tolerance >= 0, got {self.tolerance:g}")
        if self.seed < 0:
            raise SelectionError(f"expected a seed >= 0, got {self.seed}")
        if self.kind == "calibrated" and self.calibrate is None:
            raise SelectionError(
                "reinitialisation 'calibrated' needs a few unlabelled images to calibrate on",
                remedy="name them with `calibrate`",
            )

    @property
    def chosen_kind(self) -> Kind:
        """The kind, where it was left open as well."""
        return self.kind or ("calibrated" if self.calibrate is not None else "clone")
