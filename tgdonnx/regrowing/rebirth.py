"""What is asked for when dropped filters are to be reborn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

import numpy as np

from tgdonnx.errors import SelectionError
from tgdonnx.sweeping import DEFAULT_TOLERANCE

Kind = Literal["clone", "he", "calibrated"]
KINDS: tuple[Kind, ...] = ("clone", "he", "calibrated")


@dataclass(frozen=True)
class Rebirth:
    """How dropped filters are reborn.

    Attributes:
        kind: where fresh values come from; see `tgdonnx.regrowing.fresh`. None for ``calibrated`` where there are images
            to calibrate on, else for ``he``.
        isolate: whether useful filters never read reborn maps; only layers whose maps nobody scores do.
        tolerance: the largest change of the output that is accepted; as in `tgdonnx.sweep`.
        seed: of all random numbers.
    """

    kind: Optional[Kind] = None
    isolate: bool = False
    tolerance: float = DEFAULT_TOLERANCE
    seed: int = 0

    def kind_for(self, *, calibrated: bool) -> Kind:
        """Returns the kind, once it is known whether there are images to calibrate on.

        Raises:
            SelectionError: an option is out of range, or images are missing.
        """
        if self.kind is not None and self.kind not in KINDS:
            raise SelectionError(f"unknown kind of rebirth {self.kind!r}; expected one of {', '.join(KINDS)}")
        if not (np.isfinite(self.tolerance) and self.tolerance >= 0):
            raise SelectionError(f"expected a tolerance >= 0, got {self.tolerance:g}")
        if self.seed < 0:
            raise SelectionError(f"expected a seed >= 0, got {self.seed}")
        if self.kind == "calibrated" and not calibrated:
            raise SelectionError("rebirth 'calibrated' needs a few unlabelled images to calibrate on; name them")
        return self.kind or ("calibrated" if calibrated else "he")
