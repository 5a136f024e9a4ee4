"""How a model is applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from tgdonnx.applying.forms import Form, check_form
from tgdonnx.errors import DataError
from tgdonnx.runtime import CPU_NAME


@dataclass(frozen=True)
class ApplyOptions:
    """How a model is applied.

    Attributes:
        tile: size of tiles per axis of space; None for tiles that suit the model.
        outputs: the outputs to take; all if none is named, of which there may be one only where a result holds one.
        form: what results are: ``image``, ``scores``, ``probabilities`` or ``classes``; None for what follows from the model,
            see `tgdonnx.applying.forms`.
        suffix: of the results of many files, such as ``.npy``; None for that of each file, where results are written so.
        device: where the model runs; see `tgdonnx.TrainOptions`.
    """

    tile: Optional[tuple[int, ...]] = None
    outputs: tuple[str, ...] = ()
    form: Optional[Form] = None
    suffix: Optional[str] = None
    device: str = CPU_NAME

    def __post_init__(self) -> None:
        check_form(self.form)
        if self.tile is not None and (not self.tile or min(self.tile) < 1):
            raise DataError(f"expected a tile of sizes of 1 or more, got {'x'.join(map(str, self.tile))}")
