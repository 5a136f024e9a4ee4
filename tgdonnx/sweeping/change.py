"""How far an output moved from the vendor's, on data without labels.

    change     sqrt(mean((y' - y)^2)) / sqrt(mean((y - mean(y))^2))

over all elements of the output ``y`` on all samples: the RMS of the change by the RMS of the vendor's output about its mean,
so that neither the scale nor an offset of the output matters. 0.05 is a signal-to-noise ratio of 26 dB; where an image spans
five times its standard deviation, as photographs do, that is a PSNR of 40 dB.

    agreement  of an output of shape (N, C) or (N, C, 1, 1), with C > 1: the fraction of samples whose largest class is
               the vendor's

For the change to have a measure the vendor's output has to vary over the data. Outputs of other types than floating point,
such as labels and counts, have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputChange:
    """How far one output moved.

    Attributes:
        output: its name.
        change: see the module; >= 0. None when it is beyond measure: not finite any more, or of another shape.
        agreement: see the module; in [0, 1]. None for outputs that are no scores of classes.
    """

    output: str
    change: Optional[float]
    agreement: Optional[float]


@dataclass(frozen=True)
class Baseline:
    """The vendor's outputs on the data, which are held in memory.

    Attributes:
        batches: for each batch, the measured outputs.
        spread: for the name of each measured output its sum of squares about its mean, > 0.
        left_out: why other outputs are not measured.
    """

    batches: tuple[tuple[Array, ...], ...] = field(repr=False)
    spread: Mapping[str, float]
    left_out: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the measured outputs."""
        return tuple(self.spread)


def baseline(names: Sequence[str], batches: Iterable[Sequence[Array]]) -> Baseline:
    """Takes the vendor's outputs as what changes are measured against.

    Args:
        names: the outputs.
        batches: for each batch an array per output.

    Raises:
        DataError: no output can be measured, or one holds NaN or infinity.
    """
    kept = [tuple(batch) for batch in batches]
    spread: dict[str, float] = {}
    problems = []
    for index, name in enumerate(names):
        arrays = [batch[index] for batch in kept]
        if not all(_is_floating(array) for array in arrays):
            kind = arrays[0].dtype if isinstance(arrays[0], np.ndarray) else type(arrays[0]).__name__
            problems.append(f"output {name!r} is of type {kind}, not floating point")
            continue
        if not all(np.isfinite(array).all() for array in arrays):
            raise DataError(f"the vendor's output {name!r} is not finite on this data", remedy="choose other data")
        squares = _squares_about_mean(arrays)
        if squares > 0:
            spread[name] = squares
        else:
            problems.append(f"output {name!r} is the same number everywhere on this data")
    if not spread:
        raise DataError(f"no change can be measured: {'; '.join(problems)}; choose another output, or other data")
    positions = [index for index, name in enumerate(names) if name in spread]
    measured = tuple(tuple(batch[index] for index in positions) for batch in kept)
    return Baseline(measured, spread, tuple(f"{problem}: left out" for problem in problems))


def output_changes(before: Baseline, batches: Iterable[Sequence[Array]]) -> tuple[OutputChange, ...]:
    """Measures how far outputs moved.

    Args:
        before: the vendor's outputs.
        batches: the outputs of the changed model, those named in ``before``, on the same data.
    """
    squares = dict.fromkeys(before.outputs, 0.0)
    agreeing: dict[str, list[bool]] = {name: [] for name in before.outputs}
    for old_batch, new_batch in zip(before.batches, batches):
        for name, old, new in zip(before.outputs, old_batch, new_batch):
            if new.shape != old.shape:
                squares[name] = np.nan
                continue
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told
                difference = new.astype(np.float64) - old.astype(np.float64)
                squares[name] += float(np.square(difference).sum())
            if _are_classes(old):
                agreeing[name] += (new.argmax(axis=1) == old.argmax(axis=1)).reshape(-1).tolist()
    return tuple(
        OutputChange(
            name,
            float(np.sqrt(squares[name] / before.spread[name])) if np.isfinite(squares[name]) else None,
            float(np.mean(agreeing[name])) if agreeing[name] else None,
        )
        for name in before.outputs
    )


def worst(changes: Sequence[OutputChange]) -> OutputChange:
    """Returns the output that moved farthest; one that is beyond measure did."""
    return max(changes, key=lambda entry: np.inf if entry.change is None else entry.change)


def _squares_about_mean(arrays: Sequence[Array]) -> float:
    count = sum(array.size for array in arrays)
    if not count:
        return 0.0
    if all((array == arrays[0].flat[0]).all() for array in arrays):
        return 0.0  # without rounding errors of a mean
    mean = sum(float(array.sum(dtype=np.float64)) for array in arrays) / count
    return sum(float(np.square(array.astype(np.float64) - mean).sum()) for array in arrays)


def _is_floating(array: object) -> bool:
    return isinstance(array, np.ndarray) and bool(np.issubdtype(array.dtype, np.floating))


def _are_classes(array: Array) -> bool:
    return array.ndim in (2, 4) and array.shape[1] > 1 and all(dim == 1 for dim in array.shape[2:])
