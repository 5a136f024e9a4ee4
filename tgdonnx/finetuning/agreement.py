"""Agreement with the vendor's output on images without targets (learning without forgetting; Li and Hoiem, ECCV 2016).

Into the training data are mixed images of which only inputs are known; their targets are what the vendor's model gives
for them. Of every batch they are a fixed share: position i of an epoch, counted from 0, holds such an image where
floor((i + 1) share) > floor(i share), whatever the batch size. An epoch is over when every training sample was taken once;
the images go on from epoch to epoch, so all of them get their turn, however few an epoch takes.

The vendor's model runs on what the training step is fed: after patches were cut and turned. A patch has borders that the whole
image has not, so outputs computed once for whole images would be wrong for it.

Everything depends on the seed, the epoch and the position alone, so a run that was cut off goes on with the same batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Optional, Protocol

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError

Array = NDArray[Any]


class Samples(Protocol):
    """What a source of batches has to offer; see `tgdonnx.data`."""

    @property
    def scaling(self) -> Any:
        """How intensities were scaled; None if they were not."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was done to the data, and what is worth knowing about it."""

    @property
    def identity(self) -> str:
        """A hash by which a resumed run knows its data again."""

    def __len__(self) -> int:
        """The number of samples in an epoch."""

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields batches from the batch ``start`` on; without an epoch every sample once, in fixed order."""

    def describe(self) -> Mapping[str, Any]:
        """Returns what a run's record says of the data."""


def with_agreement(
    training: Samples,
    unlabelled: Samples,
    vendor: Callable[[Sequence[Array]], Sequence[Array]],
    *,
    share: float,
    fixed_batch: Optional[int] = None,
    shared: Collection[int] = (),
) -> Samples:
    """Mixes images without targets into training data.

    Args:
        training: samples with targets: every batch has the inputs of a step, and the targets behind them.
        unlabelled: the same without targets, opened with the same patches, augmentation and scaling.
        vendor: gives the targets for inputs; see `tgdonnx.artifacts.vendor_targets`.
        share: the part of every batch that has no targets of its own, above 0 and below 1.
        fixed_batch: the batch size that the model fixes; then ``vendor`` is given whole batches, and an incomplete one at the
            end of an epoch is left out.
        shared: the places of inputs without an axis of samples, of which a batch has one value.

    Raises:
        DataError: the share is out of range, there is no image, or the images are scaled otherwise than the samples.
    """
    if not 0 < share < 1:  # false for NaN, too
        raise DataError(f"expected a share of images without targets above 0 and below 1, got {share:g}")
    if not len(unlabelled):
        raise DataError("there is no image without target to agree on", remedy="add some, or leave agreement out")
    if unlabelled.scaling != training.scaling:
        raise DataError(
            "the images to agree on are scaled otherwise than the training data",
            remedy="scale both by the same fixed numbers, or none",
        )
    return _Mixture(training, unlabelled, vendor, Fraction(str(share)), fixed_batch, frozenset(shared))


@dataclass(frozen=True)
class _Mixture:
    training: Samples
    unlabelled: Samples
    vendor: Callable[[Sequence[Array]], Sequence[Array]]
    share: Fraction
    fixed_batch: Optional[int]
    shared: frozenset[int]

    @property
    def scaling(self) -> Any:
        return self.training.scaling

    @property
    def remarks(self) -> tuple[str, ...]:
        return (*self.training.remarks, *self.unlabelled.remarks)

    @property
    def identity(self) -> str:
        parts = [self.training.identity, self.unlabelled.identity, str(self.share)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def __len__(self) -> int:
        # The smallest n with n - floor(n share) = the number of training samples.
        return (len(self.training) - 1) * self.share.denominator // self._rest + 1 if len(self.training) else 0

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        """Yields mixed batches; without an epoch, for evaluation, batches of the training samples alone."""
        if epoch is None:
            yield from self.training.batches(size, start=start)
            return
        total, first = len(self), min(start * size, len(self))
        before = self._images(first)
        samples = self.training.batches(1, epoch=epoch, seed=seed, start=first - before)
        images = self._forever(epoch * self._images(total) + before, seed)
        for begin in range(first, total, size):
            end = min(begin + size, total)
            if self.fixed_batch is not None and end - begin < self.fixed_batch:
                return
            yield self._mix([self._is_image(i) for i in range(begin, end)], samples, images)

    def describe(self) -> Mapping[str, Any]:
        return {
            **self.training.describe(),
            "agreement": {"share": float(self.share), "images": self.unlabelled.describe()},
        }

    @property
    def _rest(self) -> int:
        return self.share.denominator - self.share.numerator

    def _images(self, position: int) -> int:
        """Returns the number of images before a position."""
        return position * self.share.numerator // self.share.denominator

    def _is_image(self, position: int) -> bool:
        return self._images(position + 1) > self._images(position)

    def _forever(self, number: int, seed: int) -> Iterator[list[Array]]:
        """Yields the images one by one, pass after pass, from one of them on."""
        one_pass, start = divmod(number, len(self.unlabelled))
        while True:
            yield from self.unlabelled.batches(1, epoch=one_pass, seed=seed, start=start)
            one_pass, start = one_pass + 1, 0

    def _mix(
        self, is_image: Sequence[bool], samples: Iterator[list[Array]], images: Iterator[list[Array]]
    ) -> list[Array]:
        rows = [next(images) if wanted else next(samples) for wanted in is_image]
        counts = {wanted: len(row) for row, wanted in zip(rows, is_image)}
        joined = [
            (_common if index in self.shared else _joined)([row[index] for row in rows], is_image)
            for index in range(min(counts.values()))
        ]
        chosen = np.flatnonzero(is_image)
        if not len(chosen):
            return joined
        if self.fixed_batch is not None:
            outputs = [output[chosen] for output in self.vendor(joined)]
        else:
            parts = [array if index in self.shared else array[chosen] for index, array in enumerate(joined)]
            outputs = list(self.vendor(parts))
        targets = []
        for place, output in enumerate(outputs, counts[True]):
            given = iter(output[:, None])
            targets.append(_joined([next(given) if w else row[place] for w, row in zip(is_image, rows)], is_image))
        return [*joined, *targets]


def _common(arrays: Sequence[Array], _is_image: Sequence[bool]) -> Array:
    """Returns the value that all samples of a batch have; raises DataError if they differ."""
    if not all(np.array_equal(array, arrays[0]) for array in arrays):
        raise DataError(
            f"a batch has one value of every input without an axis of samples, and training data and images to agree on have "
            f"different ones, such as {arrays[0].tolist()}",
            remedy="give both the same, or pass `batch=1`",
        )
    return arrays[0]


def _joined(arrays: Sequence[Array], is_image: Sequence[bool]) -> Array:
    """Puts arrays of one sample each together; raises DataError if they differ in size."""
    shapes = {array.shape[1:]: wanted for array, wanted in zip(arrays, is_image)}
    if len(shapes) > 1:
        found = " and ".join(f"{list(shape)} ({'without' if w else 'with'} target)" for shape, w in shapes.items())
        raise DataError(
            f"samples of one batch must be of one size, found {found}; cut training data and images to agree on to "
            "patches of one size"
        )
    return np.concatenate(arrays)
