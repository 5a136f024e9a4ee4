"""One look at all values before training, where that is quick: are files whole, numbers finite, which range has the target.

Scaling is measured by the same reading. Data that takes more than `EXAMINED_BYTES` is read for that alone; then every batch is
looked at when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from tgdonnx.data.lazy_arrays import read_finite, regions
from tgdonnx.data.matching import SampleSet, scales_of
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Linear, Measurement, Scaling
from tgdonnx.graphs.tensor_specs import TensorSpec

EXAMINED_BYTES = 2**30


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes:
        target_range: the smallest and the largest stored value of the last input; None if there is too much to read.
        scaling: of intensities; None for none.
    """

    target_range: Optional[tuple[float, float]]
    scaling: Optional[Scaling]


def look_through(
    sets: Sequence[SampleSet], inputs: Sequence[TensorSpec], options: DataOptions, scaling: Optional[Scaling]
) -> Look:
    """Reads all values once, if they are not too many, and of all others those that a scaling is measured on.

    Args:
        sets: the data.
        inputs: what a step is fed.
        options: how the data is scaled; images of one kind share the scaling of the first.
        scaling: what was measured before, on other data; None to measure it.

    Raises:
        DataError: a file cannot be read, or a value is not finite; an array cannot be scaled, since its values are the same.
    """
    ways = scales_of(inputs, options) if scaling is None else {}
    alike = [name for name in ways if name not in options.scales]
    measured = {
        spec.name: Measurement(ways[spec.name], spec.name, [each.views[place].stored for each in sets])
        for place, spec in enumerate(inputs)
        if spec.name in ways and spec.name not in alike[1:]
    }
    quick = nbytes(sets) <= EXAMINED_BYTES
    low, high = np.inf, -np.inf
    for sample_set in sets:
        for spec, view in zip(inputs, sample_set.views):
            measurement = measured.get(spec.name)
            if not quick and (measurement is None or not measurement.reads):
                continue
            for region in regions(view.stored.shape, view.stored.dtype.itemsize):
                values = read_finite(view.stored, region, spec.name)
                if measurement is not None:
                    measurement.add(values)
                if spec is inputs[-1] and values.size:
                    low, high = min(low, float(values.min())), max(high, float(values.max()))
    if scaling is None and ways:
        found = {name: measurement.result() for name, measurement in measured.items()}
        scaling = Scaling({name: found[alike[0] if name in alike else name] for name in ways})
    return Look((low, high) if quick else None, scaling)


def first_outside(
    sets: Sequence[SampleSet], name: str, linear: Optional[Linear], low: float, high: float
) -> Optional[str]:
    """Returns where the first value of the last input lies that is out of a range, and what it is; None if there is none.

    Args:
        sets: the data.
        name: of the input.
        linear: how it is scaled; None if it is not.
        low: the least value.
        high: the largest.
    """
    for sample_set in sets:
        stored = sample_set.views[-1].stored
        for region in regions(stored.shape, stored.dtype.itemsize):
            values = read_finite(stored, region, name)
            values = values if linear is None else linear.apply(values)
            outside = (values < low) | (values > high)
            if outside.any():
                at = np.argwhere(outside)[0]
                index = [int(i) + part.start for i, part in zip(at, region)]
                return f"{stored.place}: {name}{index} is {values[tuple(at)]:g}"
    return None


def nbytes(sets: Iterable[SampleSet]) -> int:
    """Returns what all arrays take in memory together."""
    return sum(view.stored.nbytes for sample_set in sets for view in sample_set.views)
