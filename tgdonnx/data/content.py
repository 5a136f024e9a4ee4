"""One look at all values before training, where that is quick: are files whole, numbers finite, which range have targets.

Scaling is measured by the same reading. Data that takes more than `EXAMINED_BYTES` is read for that alone; then every batch is
looked at when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from tgdonnx.data.layouts import View
from tgdonnx.data.lazy_arrays import read_finite, regions
from tgdonnx.data.matching import SampleSet, scales_of
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Linear, Measurement, Scaling, require_channels
from tgdonnx.data.targets import Outside, Search, TargetLimits
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

EXAMINED_BYTES = 2**30


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes:
        target_ranges: by name of a target the smallest and the largest stored value; None if there is too much to read.
        scaling: of intensities; None for none.
    """

    target_ranges: Optional[Mapping[str, tuple[float, float]]]
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
    ranges: dict[str, tuple[float, float]] = {}
    for sample_set in sets:
        for spec, view in zip(inputs, sample_set.views):
            measurement = measured.get(spec.name)
            if not quick and (measurement is None or not measurement.reads):
                continue
            for region in regions(view.stored.shape, view.stored.dtype.itemsize):
                values = read_finite(view.stored, region, spec.name)
                if measurement is not None:
                    measurement.add(values)
                if spec.role == "target" and values.size:
                    low, high = ranges.get(spec.name, (np.inf, -np.inf))
                    ranges[spec.name] = min(low, float(values.min())), max(high, float(values.max()))
    if scaling is None and ways:
        found = {name: measurement.result() for name, measurement in measured.items()}
        arrays = {name: found[alike[0] if name in alike else name] for name in ways}
        scaling = Scaling(
            {
                spec.name: _normalised(
                    arrays[spec.name], spec, sets[0].views[place], options, shared=spec.name in alike
                )
                for place, spec in enumerate(inputs)
                if spec.name in ways
            }
        )
    return Look(ranges if quick else None, scaling)


def _normalised(linear: Linear, spec: TensorSpec, view: View, options: DataOptions, *, shared: bool) -> Linear:
    """Returns the scaling of an input with the mean and standard deviation of its channels, which a target has none of."""
    if spec.role == "target":
        return replace(linear, mean=(), std=())
    if options.mean and shared:
        if options.scale is None and view.stored.dtype.kind in "iu" and max(map(abs, options.mean)) <= 1:
            raise DataError(
                f"{view.stored.place}: the mean of {spec.name!r} is at most 1, and its values are {view.stored.dtype}",
                remedy="`scale=255` takes them to 0 to 1 first, `scale=1` leaves them",
                options={"scale": 255},
            )
        linear = replace(linear, mean=options.mean, std=options.std)
    require_channels(linear, dict(zip(view.axes, view.shape)).get("C"), f"{view.stored.place}: {spec.name!r}")
    return linear


def find_outside(
    sets: Sequence[SampleSet], place: int, linear: Optional[Linear], limits: TargetLimits
) -> Optional[Outside]:
    """Reads all values of a target again; returns what of them is out of range, None if nothing is.

    Args:
        sets: the data.
        place: of the target among the inputs.
        linear: how it is scaled; None if it is not.
        limits: the range.
    """
    search = Search(limits)
    low, high = np.inf, -np.inf
    for sample_set in sets:
        stored = sample_set.views[place].stored
        for region in regions(stored.shape, stored.dtype.itemsize):
            values = read_finite(stored, region, limits.name)
            if values.size:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
            fed = values if linear is None else linear.apply(values)
            search.add(fed, stored.place, tuple(part.start for part in region))
    return search.result((low, high))


def nbytes(sets: Iterable[SampleSet]) -> int:
    """Returns what all arrays take in memory together."""
    return sum(view.stored.nbytes for sample_set in sets for view in sample_set.views)
