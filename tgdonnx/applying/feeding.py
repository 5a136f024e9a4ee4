"""What a model is fed of a case: images, whole or tiles of them, and whatever else it takes, scaled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.applying.network import is_image
from tgdonnx.data.layouts import View, Window
from tgdonnx.data.levels import common_level, converted, shaped
from tgdonnx.data.scaling import Scaling
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec, shared_inputs

Array = NDArray[Any]


@dataclass(frozen=True)
class Case:
    """What a model is applied to at once: an image, a volume or a stack of images, with what else the model takes.

    Attributes:
        name: of it among others.
        inputs: of the model, with any number of samples and any size that tiles allow.
        views: the data for each.
        image: the place among the inputs of the one whose axes the result has.
        scaling: of the inputs; None if nothing is scaled.
        fixed: how many samples the model takes at once; None where any number goes.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    views: tuple[View, ...]
    image: int
    scaling: Optional[Scaling]
    fixed: Optional[int]

    @property
    def view(self) -> View:
        """The image, as samples."""
        return self.views[self.image]

    @property
    def batch(self) -> int:
        """Samples per run of the model."""
        return self.fixed or 1

    def feeds(self, samples: Sequence[int], window: Optional[Window] = None) -> dict[str, Array]:
        """Returns what the model is fed, by input.

        Args:
            samples: at most ``batch``; a model of a fixed batch size gets the last one several times.
            window: of every image per axis of space what to take; all of it if None.

        Raises:
            DataError: it cannot be read, a value is not finite, or samples differ in what a batch has one value of.
        """
        places = [samples[min(place, len(samples) - 1)] for place in range(self.batch)]
        fed = {}
        for place, (spec, view) in enumerate(zip(self.inputs, self.views)):
            if place in self._shared:
                fed[spec.name] = self._level(place, samples)
                continue
            part = window if is_image(spec) else None
            fed[spec.name] = np.stack([self._sample(spec, view, index, part) for index in places])
        return fed

    @cached_property
    def _shared(self) -> frozenset[int]:
        """The places of inputs of which a batch has one value."""
        single = {place for place, view in enumerate(self.views) if not view.counts_samples}
        return (shared_inputs(self.inputs) | single) - {self.image}

    def _sample(self, spec: TensorSpec, view: View, index: int, window: Optional[Window]) -> Array:
        return self._scaled(spec, view, view.read(index, spec.name, window))

    def _level(self, place: int, samples: Sequence[int]) -> Array:
        spec, view = self.inputs[place], self.views[place]
        if view.counts_samples and len(samples) == 1:
            value: Optional[Array] = view.read(samples[0], spec.name)
        else:
            value = common_level([view], spec.name)
        if value is None:
            raise DataError(
                f"the model takes {self.batch} samples at once and one value of {spec.name!r} for all of them, and in "
                f"{view.stored.place} it differs between samples",
                remedy="apply it to one sample at a time",
            )
        return shaped(converted(self._scaled(spec, view, value), spec, view.stored.place), spec)

    def _scaled(self, spec: TensorSpec, view: View, values: Array) -> Array:
        linear = self.scaling.arrays.get(spec.name) if self.scaling is not None else None
        if linear is None:
            return values
        if spec.dtype != "float32":
            return values.astype(spec.dtype)
        scaled = linear.apply(values, view.axes.find("C"))
        if not np.isfinite(scaled).all():
            raise DataError(f"{view.stored.place}: {spec.name!r} is too large for float32 once scaled")
        return scaled


def named(feeds: Mapping[str, Array]) -> str:
    """Returns shapes of what a model is fed, for messages."""
    return ", ".join(str(list(array.shape)) for array in feeds.values())
